"""Heartbeats: each worker writes every few seconds that it lives, and which jobs it works on.

A worker is dead for the others when its beat has not changed for a while on their own clocks, so clocks that differ or
jump do no harm. Of several workers that see this, one wins the right to take the jobs over. The time of a beat is that
of the database's clock, which is one for all: the command line judges by it, because it cannot wait for a change.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orthanc_plugin.jobs.database import create_tables, database_time

_schema = sa.MetaData()
_workers = sa.Table(
    "enrichment_workers",
    _schema,
    sa.Column("executor_id", sa.Text, primary_key=True),
    sa.Column("beat", sa.Integer, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("works_on", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Beat:
    """The last sign of life of a worker.

    beat: a number that each sign raises.
    at: time of the sign on the clock of the database.
    version: version of the workflow steps that it runs; empty for a worker of a release without heartbeats.
    works_on: workflows that it works on.
    """

    executor_id: str
    beat: int
    at: datetime
    version: str
    works_on: tuple[str, ...]


class AtWork:
    """The workflows that this process works on now, each in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[int, str] = {}

    @contextmanager
    def on(self, workflow_id: str) -> Iterator[None]:
        """Count a workflow as worked on by this thread."""
        me = threading.get_ident()
        with self._lock:
            self._threads[me] = workflow_id
        try:
            yield
        finally:
            self._forget(me)

    def _forget(self, me: int) -> None:
        """Forget this thread. An interrupt that comes this late arrives here, and must not hit the next workflow."""
        while True:
            try:
                with self._lock:
                    self._threads.pop(me, None)
                time.sleep(0)  # the interpreter raises what is pending after a call
                return
            except InterruptedJob:
                continue

    def ids(self) -> frozenset[str]:
        """Return the workflows that are worked on."""
        with self._lock:
            return frozenset(self._threads.values())

    def interrupt(self, workflow_id: str) -> None:
        """Raise InterruptedJob where the workflow runs, as soon as its thread is back in Python code."""
        with self._lock:
            for thread, running in self._threads.items():
                if running == workflow_id:
                    _interrupt(thread)


class InterruptedJob(BaseException):
    """A person cancelled the workflow that this thread works on. The engine has recorded its end already."""


def _interrupt(thread: int) -> None:
    """Raise InterruptedJob in another thread.

    It is never taken back with NULL: CPython 3.11 would then look for it for ever, and hang where code is traced.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(InterruptedJob))


class Heartbeats:
    """The table of the workers' last signs of life; a missing table is created.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Engine of the job database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        create_tables(engine, _schema)

    def beat(self, executor_id: str, version: str, works_on: Iterable[str]) -> None:
        """Write a sign of life."""
        same = _workers.c.executor_id == executor_id
        with self._engine.begin() as connection:
            at = database_time(connection).isoformat(timespec="milliseconds")
            row = {"at": at, "version": version, "works_on": json.dumps(sorted(works_on))}
            if not connection.execute(sa.update(_workers).where(same).values(beat=_workers.c.beat + 1, **row)).rowcount:
                connection.execute(sa.insert(_workers).values(executor_id=executor_id, beat=0, **row))

    def now(self) -> datetime:
        """Return the time on the clock of the database."""
        with self._engine.connect() as connection:
            return database_time(connection)

    def all(self) -> Mapping[str, Beat]:
        """Return the last sign of life of each worker."""
        with self._engine.connect() as connection:
            return {row.executor_id: _beat(row) for row in connection.execute(sa.select(_workers))}

    def claim(self, dead: Beat) -> bool:
        """Win the right to take over the jobs of a dead worker; False if it lives or another worker was faster.

        If the winner dies too, the right is free again after the same wait: the beat counts on.
        """
        same = sa.and_(_workers.c.executor_id == dead.executor_id, _workers.c.beat == dead.beat)
        with self._engine.begin() as connection:
            return connection.execute(sa.update(_workers).where(same).values(beat=dead.beat + 1)).rowcount > 0

    def forget(self, executor_id: str) -> None:
        """Remove a worker that stopped, or whose jobs were taken over."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_workers).where(_workers.c.executor_id == executor_id))


def _beat(row: sa.Row[tuple[object, ...]]) -> Beat:
    return Beat(row.executor_id, row.beat, datetime.fromisoformat(row.at), row.version, tuple(json.loads(row.works_on)))
