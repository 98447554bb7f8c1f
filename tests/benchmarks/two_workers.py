"""One worker against two on PostgreSQL, with a model that only waits, and what the simulator says of the same.

Usage: python -m tests.benchmarks.two_workers [--series 12] [--seconds 20] [--rounds 2] [--write]
(`make scaling-figures`).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from datetime import datetime

from orthanc_plugin.jobs.ledger import Decision
from tests.benchmarks.scaling_page import markdown, write_part
from tests.benchmarks.simulator import Site as Simulated
from tests.benchmarks.simulator import Stages, backfill, simulate
from tests.faults.campaign.cases import started
from tests.faults.campaign.site import Site
from tests.support.servers.orthanc_server import wait_until
from tests.support.servers.postgresql import postgresql

SECONDS = 20.0
"""How long the model waits by default; a chest of 275 slices takes 50 s on two cores (docs/figures.md)."""
GOAL = 1.9


def measure(workers: int, series: int, seconds: float) -> float:
    """Seconds from the first begin to the last end of jobs that all waited."""
    with postgresql() as server:
        site = Site(seconds=seconds, section={"Workers": workers, "Database": server.url})
        with started(site) as (_, queue):
            queue.pause(True)
            site.send(series)
            wait_until(lambda: len(queue.ledger.open_jobs()) == series, 120, "the decisions")
            queue.pause(False)
            site.await_done(queue, 120 + 4 * series * seconds)
            return span_s(queue.ledger.decisions(limit=1000))


def span_s(rows: Sequence[Decision]) -> float:
    """Count the seconds from the first begin to the last end of jobs."""
    begins = [row.started_at for row in rows if row.started_at is not None]
    ends: list[datetime] = [row.ended_at for row in rows if row.ended_at is not None]
    return (max(ends) - min(begins)).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the model waits")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    options = parser.parse_args()
    measured = [
        [measure(workers, options.series, options.seconds) for workers in (1, 2)] for _ in range(options.rounds)
    ]
    one, two = (statistics.median(times) for times in zip(*measured, strict=True))
    stages = Stages("", 0.0, 0.1, 0.05, options.seconds, 0.5)
    said = [simulate(backfill(options.series), stages, Simulated(n), spread=0.0).hours * 3600 for n in (1, 2)]
    rows = [
        ("measured", f"{one:.1f} s", f"{two:.1f} s", f"{one / two:.2f}"),
        ("simulated", f"{said[0]:.1f} s", f"{said[1]:.1f} s", f"{said[0] / said[1]:.2f}"),
    ]
    text = f"{options.series} jobs of a model that waits {options.seconds:.0f} s; {options.rounds} round(s):\n\n"
    text += markdown(("", "one worker", "two workers", "ratio"), rows)
    print(text)
    if options.write:
        write_part("two workers", text)


if __name__ == "__main__":
    main()
