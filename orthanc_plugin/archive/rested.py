"""Ask an archive again whose connection rested for too long.

Archives close connections that rest (Orthanc after a second). One that rested while masks were compared may close just
when it is used again, and that says nothing about the archive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from orthanc_plugin.errors import TransientError

Answer = TypeVar("Answer")


def asked_again(ask: Callable[[], Answer]) -> Answer:
    """Ask, and ask once more on a new connection if the archive does not respond; only for what can be repeated."""
    try:
        return ask()
    except TransientError:
        return ask()
