"""Memory promised to jobs: two workers on one computer never count on the same free memory.

A worker writes what its job is expected to need before the job takes it. The others subtract the part of it that is not
used yet, because Linux still counts that as free. Workers see each other if they share the job database and the host
name; the promise of a worker that died ends with it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from orthanc_plugin.errors import TransientError
from orthanc_plugin.jobs.memory import Memory, memory_here
from orthanc_plugin.jobs.rows import promises as _promises

_LOCK_WAIT_S = 10
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Promises:
    """The promises of the workers of one computer, in a table beside the ledger.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Engine of the job database.
    me : str
        Executor id of this worker.
    memory : callable
        What this process may use, given what is promised to others on the computer, and of that in its own cgroup.
    """

    def __init__(
        self,
        engine: sa.Engine,
        me: str,
        memory: Callable[[int, int], Memory] = lambda on_host, in_cgroup: memory_here(
            on_host=on_host, in_cgroup=in_cgroup
        ),
    ) -> None:
        self._engine, self._me, self._memory = engine, me, memory
        self._host, self._cgroup = platform.node(), _read("/proc/self/cgroup")

    def ask(self, needed: int) -> Memory:
        """Return what a job of this worker may use; if that suffices, it is promised to the job.

        Raises
        ------
        TransientError
            If the database does not answer.
        """
        try:
            return self._ask(needed)
        except sa.exc.DBAPIError as error:
            raise TransientError("the job database does not say what memory is promised to other jobs") from error

    def _ask(self, needed: int) -> Memory:
        mine = _promises.c.executor_id == self._me
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'"))  # a worker may be stopped
                connection.execute(sa.text(f"LOCK TABLE {_promises.name} IN EXCLUSIVE MODE"))
            connection.execute(sa.delete(_promises).where(mine))  # SQLite locks the file here
            here = self._memory(*self._promised_to_others(connection))
            if needed <= here.free:
                row = {"host": self._host, "cgroup": self._cgroup, "pid": os.getpid(), "started": _started(os.getpid())}
                connection.execute(sa.insert(_promises).values(executor_id=self._me, bytes=needed, **row))
        return here

    def end(self) -> None:
        """End the promise to a job of this worker, if there is one."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_promises).where(_promises.c.executor_id == self._me))

    def _promised_to_others(self, connection: sa.Connection) -> tuple[int, int]:
        """Return the bytes that others on this computer do not use yet: of all, and of those in this cgroup."""
        on_host = in_cgroup = 0
        for row in connection.execute(sa.select(_promises).where(_promises.c.host == self._host)).all():
            if _started(row.pid) != row.started:
                connection.execute(sa.delete(_promises).where(_promises.c.executor_id == row.executor_id))
                continue
            left = max(0, row.bytes - _resident(row.pid))
            on_host += left
            in_cgroup += left if row.cgroup == self._cgroup else 0
        return on_host, in_cgroup


def _started(pid: int) -> str:
    """Return the start time of a process in clock ticks, which tells it from a later one; empty if there is none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields else ""


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if fields else 0


def _read(file: str) -> str:
    """Return a file of Linux about a process; empty if it has ended."""
    try:
        return Path(file).read_text()
    except OSError:
        return ""
