"""The state directory: one service at a time, readable by its user only."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orthanc_plugin.errors import ConfigError

LOCK_FILE = "service.lock"
_OURS = {LOCK_FILE, "jobs.db", "id", "service.stderr.log"}
PREDECESSOR_STOP_S = 12.0
"""A service stops within ten seconds."""


@contextmanager
def own_state(directory: Path) -> Iterator[Path]:
    """Create the directory (0700) if need be and hold it against every other service.

    The lock ends with the process, however that ends.

    Raises
    ------
    ConfigError
        If another service holds it, or it cannot be made or written.
    """
    os.umask(0o077)
    lock = _open_lock(directory)
    try:
        if not _locked(lock):
            raise ConfigError(f"StateDirectory {directory} is in use by another running service")
        _close_to_others(directory)
        yield directory
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    """Take the lock; the service of an Orthanc that was killed a moment ago may need some seconds to let it go."""
    deadline = time.monotonic() + PREDECESSOR_STOP_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        else:
            return True


def _open_lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not _is_of_its_own(directory):
            raise ConfigError(f"StateDirectory {directory} holds files of something else; name a folder of its own")
        directory.chmod(0o700)
        return os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"StateDirectory {directory} cannot be used: {error.strerror}") from error


def _is_of_its_own(directory: Path) -> bool:
    """Whether it is empty or an older run's: /tmp or /etc, named by mistake, must not be closed to others."""
    names = {file.name for file in directory.iterdir()}
    return not names or not names.isdisjoint(_OURS)


def _close_to_others(directory: Path) -> None:
    """Job databases and logs of an older run, or of a careless copy: whoever writes them runs code here."""
    for file in directory.iterdir():
        with suppress(FileNotFoundError):  # a journal of SQLite may end meanwhile
            if file.is_file() and not file.is_symlink():
                file.chmod(0o600)
