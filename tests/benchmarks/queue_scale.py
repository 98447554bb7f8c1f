"""Cost of the job database while 100,000 jobs wait, on SQLite and PostgreSQL.

Usage: python -m tests.benchmarks.queue_scale [--jobs 100000] [--write] (`make scaling-figures`). CPU times include
those of the PostgreSQL server. A first part of the jobs is queued as the service does it; the others are copies of
these, made in SQL.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import sqlalchemy as sa

from orthanc_plugin.jobs.engine import APPLICATION_VERSION, ENRICH
from orthanc_plugin.jobs.queue import JobQueue
from tests.benchmarks.scaling_page import write_part
from tests.faults.stub_site import enqueue
from tests.support.servers.front_door import front_door
from tests.support.servers.postgresql import postgresql

SAMPLE = 200
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one call: median of wall time, mean of CPU time."""

    wall_ms: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.cpu_ms:.1f} ({self.wall_ms:.1f})"


class Clock:
    """Measures calls, with the CPU time of this process and of a database server."""

    def __init__(self, server_pid: int | None) -> None:
        self._server = psutil.Process(server_pid) if server_pid else None

    def cost(self, calls: int, body: Callable[[], object]) -> Cost:
        before, walls = self._cpu_s(), []
        for _ in range(calls):
            began = time.monotonic()
            body()
            walls.append(time.monotonic() - began)
        return Cost(1000 * statistics.median(walls), 1000 * (self._cpu_s() - before) / calls)

    def _cpu_s(self) -> float:
        spent = time.process_time()
        for process in [self._server, *self._server.children()] if self._server else ():
            times = process.cpu_times()
            spent += times.user + times.system
        return spent


def measure(queue: JobQueue, page: Callable[[], object], clock: Clock, jobs: int) -> dict[str, Cost]:
    """Queue jobs, and measure what service, workers and people ask of the database."""
    numbers = iter(range(10**9))
    costs = {"enqueue, while few jobs wait": clock.cost(SAMPLE, lambda: enqueue(queue, next(numbers)))}
    multiply(queue, jobs)
    costs["enqueue"] = clock.cost(SAMPLE, lambda: enqueue(queue, next(numbers)))
    engine, jobs_queue = queue._client._sys_db, queue._client.retrieve_queue(ENRICH)
    assert jobs_queue is not None
    costs["claim of a job by a worker"] = clock.cost(
        SAMPLE, lambda: engine.start_queued_workflows(jobs_queue, "bench", APPLICATION_VERSION, None)
    )
    costs["list of the newest 50 jobs"] = clock.cost(ROUNDS, queue.list)
    costs["counts of all states"] = clock.cost(ROUNDS, queue.ledger.counts)
    costs["stuck jobs"] = clock.cost(ROUNDS, queue.stuck)
    costs["reconcile: ledger and engine brought together"] = clock.cost(2, queue.settle)
    costs["a look of a worker's watch"] = clock.cost(
        ROUNDS, lambda: (queue.custody.holders(), queue.adopt(frozenset()))
    )
    costs["dashboard"] = clock.cost(ROUNDS, page)
    return costs


def multiply(queue: JobQueue, jobs: int) -> None:
    """Copy the jobs that wait until there are so many."""
    counts = queue.ledger.counts()
    with queue.ledger.begin() as connection:
        schema = "dbos" if connection.dialect.name == "postgresql" else None
        metadata = sa.MetaData()
        for name, place in (("enrichment_decisions", None), ("workflow_status", schema), ("workflow_input", schema)):
            sa.Table(name, metadata, schema=place, autoload_with=connection)
        first = [f"job-{number}" for number in range(sum(counts.values()))]
        for copy in range(1, jobs // len(first)):
            for table in metadata.tables.values():
                connection.execute(_copies(table, copy, first))


def _copies(table: sa.Table, copy: int, jobs: list[str]) -> sa.Insert:
    """Copy the rows of some jobs with other keys."""
    keys = {"fingerprint", "job_id", "series_instance_uid", "workflow_uuid"}
    kept = [column for column in table.columns if column.name != "id"]
    values = [column + f"-{copy}" if column.name in keys else column for column in kept]
    key = table.c.workflow_uuid if "workflow_uuid" in table.c else table.c.job_id
    return sa.insert(table).from_select([column.name for column in kept], sa.select(*values).where(key.in_(jobs)))


@contextmanager
def database(kind: str) -> Iterator[tuple[str, int | None]]:
    """URL of an empty database, and the process id of its server."""
    with ExitStack() as stack:
        if kind == "PostgreSQL":
            server = stack.enter_context(postgresql())
            yield server.url, int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            yield f"sqlite:///{folder}/jobs.db", None


def run(kind: str, jobs: int) -> dict[str, Cost]:
    """Measure on one kind of database."""
    with (
        database(kind) as (url, pid),
        tempfile.TemporaryDirectory() as folder,
        front_door(Path(folder), database=url) as door,
        closing(JobQueue(url)) as queue,
    ):
        return measure(queue, lambda: door.ask("/enrichment/").raise_for_status(), Clock(pid), jobs)


def table(jobs: int, costs: dict[str, dict[str, Cost]]) -> str:
    """Write the costs as a Markdown table."""
    heads = ("what", *costs)
    rows = [(what, *(str(costs[kind][what]) for kind in costs)) for what in next(iter(costs.values()))]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, ("---",) * len(heads), *rows)]
    return (
        f"CPU milliseconds of a call (wall milliseconds in brackets) while {jobs:,} jobs wait:\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    parser.add_argument("--json", action="store_true", help="print CPU milliseconds on SQLite only")
    options = parser.parse_args()
    if options.json:
        print(json.dumps({what: cost.cpu_ms for what, cost in run("SQLite", options.jobs).items()}))
        return
    text = table(options.jobs, {kind: run(kind, options.jobs) for kind in ("SQLite", "PostgreSQL")})
    print(text)
    if options.write:
        write_part("queue", text)


if __name__ == "__main__":
    main()
