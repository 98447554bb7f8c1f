"""Who a worker is: the id of its state directory, and the slot that it has locked.

Two live workers must never share an executor id, or each would take up the other's job. A worker that starts again must
have the same id as before, so that its job comes back. The lock ends with the process, whatever ends the process.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from pathlib import Path

from orthanc_plugin.errors import EnrichError

LOCK_WAIT_S = 15.0
"""A worker that is told to stop frees its slot within 10 s."""


def state_id(state_directory: Path) -> str:
    """Return the id of a state directory; the first call makes it."""
    state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = state_directory / "id"
    if not file.exists():
        draft = state_directory / f"id.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(uuid.uuid4().hex)
        try:
            os.link(draft, file)
        except FileExistsError:
            pass  # another process was faster, and its id counts
        finally:
            draft.unlink()
    return file.read_text().strip()


def executor_id(state_directory: Path, slot: int) -> str:
    """Return the name under which the job engine knows the worker of a slot."""
    return f"{state_id(state_directory)}-{slot}"


def lock_slot(state_directory: Path, slot: int, wait_s: float = LOCK_WAIT_S) -> int:
    """Lock a slot for the life of this process.

    Returns
    -------
    int
        File descriptor that holds the lock; not inherited by children.

    Raises
    ------
    EnrichError
        Another live process holds the slot.
    """
    state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state_directory / f"worker-{slot}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    if not take_lock(descriptor, wait_s):
        os.close(descriptor)
        raise EnrichError(f"worker slot {slot} is taken by another process")
    return descriptor


def take_lock(descriptor: int, wait_s: float) -> bool:
    """Lock an open file for this process; False if another process still holds it after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        else:
            return True
