"""Instances on their way from a network thread to the one that reads them: a few at a time, and never for ever."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

_ROOM = 4
_SLEEP_S = 0.2


class Silence(Exception):
    """Nothing came for too long, or the whole takes too long."""


class Inbox:
    """A queue with room for four instances. The sender waits while it is full, so memory stays bounded.

    Parameters
    ----------
    silence_s : float
        Longest wait for the next instance, or for the end.
    longest_s : float
        Longest time for all of them.
    """

    def __init__(self, silence_s: float, longest_s: float) -> None:
        self._silence_s, self._until = silence_s, time.monotonic() + longest_s
        self._queue: queue.Queue[bytes] = queue.Queue(_ROOM)
        self._ended = threading.Event()
        self._left = threading.Event()
        self._heard = time.monotonic()

    def put(self, content: bytes) -> bool:
        """Hand over one instance; False if nobody reads any more."""
        while not self._left.is_set():
            try:
                self._queue.put(content, timeout=_SLEEP_S)
            except queue.Full:
                continue
            self.heard()
            return True
        return False

    def heard(self) -> None:
        """Note that the sender gave a sign of life."""
        self._heard = time.monotonic()

    def awaited(self) -> bool:
        """Note a sign of life, and tell whether somebody still reads."""
        self.heard()
        return not self._left.is_set()

    def end(self) -> None:
        """Say that no more instances come."""
        self._ended.set()

    def leave(self) -> None:
        """Say that nobody reads any more."""
        self._left.set()

    def contents(self) -> Iterator[bytes]:
        """Yield the instances until the end.

        Raises
        ------
        Silence
            The sender is silent, or takes too long.
        """
        while True:
            over = self._ended.is_set()
            try:
                yield self._queue.get(timeout=0 if over else _SLEEP_S)
                self.heard()  # the time that the reader needs is not the sender's
            except queue.Empty:
                if over:
                    return
                now = time.monotonic()
                if now - self._heard > self._silence_s or now > self._until:
                    raise Silence from None
