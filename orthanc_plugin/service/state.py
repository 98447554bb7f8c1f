"""The state directory: one service at a time holds it, and only its user can read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs.executor import take_lock
from orthanc_plugin.jobs.state import check_owner

LOCK_FILE = "service.lock"
_OURS = {LOCK_FILE, "jobs.db", "id", "service.stderr.log"}
PREDECESSOR_STOP_S = 12.0
"""Wait for the service of an Orthanc that was killed a moment ago: it stops within ten seconds."""


@contextmanager
def own_state(directory: Path) -> Iterator[Path]:
    """Create the directory (0700) if it does not exist, and lock it against every other service.

    The lock ends with the process, however the process ends.

    Raises
    ------
    ConfigError
        If another service holds the directory, another user owns it or a file in it, or it cannot be written.
    """
    os.umask(0o077)
    check_owner(directory)
    lock = _open_lock(directory)
    try:
        if not take_lock(lock, PREDECESSOR_STOP_S):
            raise ConfigError(f"StateDirectory {directory} is in use by another running service")
        _close_to_others(directory)
        yield directory
    finally:
        os.close(lock)


def _open_lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not _is_ours(directory):
            raise ConfigError(
                f"StateDirectory {directory} holds files of something else; name a folder for the service alone"
            )
        directory.chmod(0o700)
        return os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"StateDirectory {directory} cannot be used: {error.strerror}") from error


def _is_ours(directory: Path) -> bool:
    """Tell whether the directory is empty or from an earlier run: /tmp, named by mistake, must stay open to others."""
    names = {file.name for file in directory.iterdir()}
    return not names or not names.isdisjoint(_OURS)


def _close_to_others(directory: Path) -> None:
    """Restrict the files of an earlier run, or of a copy: whoever can write a job database can run code here."""
    for file in directory.iterdir():
        with suppress(FileNotFoundError):  # a journal of SQLite may disappear meanwhile
            if file.is_file() and not file.is_symlink():
                file.chmod(0o600)
