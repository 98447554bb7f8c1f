"""A discrete-event simulation of the system: where series wait, for a hospital and for an archive.

Usage: python -m tests.benchmarks.simulator [--stages FILE] [--write] (`make scaling-figures`). FILE is what
`tests.benchmarks.stage_times` measured. One that was made on another computer, with a GPU say, answers the same
questions for that one.

A series arrives, the one service admits it, and it waits for a worker. The worker reads it from the archive, computes,
and records its stages in the database. Each resource serves first come, first served.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles

from tests.benchmarks.scaling_page import markdown, write_part

STAGES = Path(__file__).with_name("stage_times.json")
DAY_S = 86_400.0
BUSY_HOURS = (8, 18)
"""A hospital scans four fifths of its day's series in these hours."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds that one series takes of each resource.

    service_s, archive_s, database_s: CPU seconds of these processes over the whole way of the series.
    worker_s: seconds that a worker computes.
    poll_s: mean wait of an idle worker until it looks at the queue.
    """

    source: str
    service_s: float
    archive_s: float
    database_s: float
    worker_s: float
    poll_s: float = 0.5

    @classmethod
    def read(cls, file: Path = STAGES) -> Stages:
        """Read what was measured."""
        return cls(**json.loads(file.read_text()))


@dataclass(frozen=True, slots=True)
class Site:
    """How many of each resource there are. archive, database: cores that they may use."""

    workers: int
    archive: int = 2
    database: int = 2


@dataclass(frozen=True, slots=True)
class Told:
    """What a simulation tells.

    hours: from the first arrival to the last result.
    wait_s: from the arrival of a series to its results, the 50th and the 95th percentile.
    busy: fraction of the time that each resource works.
    """

    series: int
    hours: float
    wait_s: tuple[float, float]
    busy: dict[str, float]

    @property
    def limit(self) -> str:
        """The resource that is the busiest."""
        return max(self.busy, key=lambda name: self.busy[name])


@dataclass
class Resource:
    """Lanes that serve first come, first served."""

    lanes: int
    worked_s: float = 0.0
    _free_at: list[float] = field(default_factory=list)

    def serve(self, now: float, seconds: float) -> float:
        """Return when a request is done that comes now; requests come in the order of time."""
        begins = now if len(self._free_at) < self.lanes else max(now, heapq.heappop(self._free_at))
        heapq.heappush(self._free_at, begins + seconds)
        self.worked_s += seconds
        return begins + seconds


def simulate(arrivals: Sequence[float], stages: Stages, site: Site, spread: float = 0.3) -> Told:
    """Run series through a site.

    Parameters
    ----------
    arrivals : sequence of float
        Second of each arrival, ascending.
    stages : Stages
        What a mean series takes.
    site : Site
        What there is.
    spread : float
        Standard deviation of the size of a series, as a part of the mean.
    """
    chance = random.Random(len(arrivals))
    sizes = [max(0.1, chance.gauss(1.0, spread)) for _ in arrivals]
    service, archive, database = Resource(1), Resource(site.archive), Resource(site.database)
    workers = Resource(site.workers)
    free, waiting, ended = site.workers, list[int](), dict[int, float]()
    events = [(at, number, "arrives") for number, at in enumerate(arrivals)]
    while events:
        now, number, what = heapq.heappop(events)
        match what:
            case "arrives":
                heapq.heappush(events, (service.serve(now, stages.service_s * sizes[number]), number, "queued"))
                continue
            case "queued":
                waiting.append(number)
            case "begins":
                done = archive.serve(now, stages.archive_s * sizes[number]) + stages.worker_s * sizes[number]
                heapq.heappush(events, (done, number, "records"))
                workers.worked_s += done - now
                continue
            case "records":
                heapq.heappush(events, (database.serve(now, stages.database_s), number, "ends"))
                continue
            case "ends":
                free, ended[number] = free + 1, now
        while free and waiting:
            free -= 1
            heapq.heappush(events, (now + stages.poll_s, waiting.pop(0), "begins"))
    return _told(arrivals, ended, {"service": service, "archive": archive, "database": database, "workers": workers})


def _told(arrivals: Sequence[float], ended: dict[int, float], resources: dict[str, Resource]) -> Told:
    waits = [ended[number] - at for number, at in enumerate(arrivals)]
    cuts = quantiles(waits, n=20, method="inclusive")
    seconds = max(ended.values()) - arrivals[0]
    busy = {name: resource.worked_s / resource.lanes / seconds for name, resource in resources.items()}
    return Told(len(arrivals), seconds / 3600, (cuts[9], cuts[18]), busy)


def hospital(series: int = 1000, seed: int = 0) -> list[float]:
    """Seconds of the arrivals of one day, four fifths of them in the busy hours."""
    chance = random.Random(seed)
    begin, end = (hour * 3600.0 for hour in BUSY_HOURS)
    return sorted(
        chance.uniform(begin, end) if chance.random() < 0.8 else chance.uniform(0, DAY_S) for _ in range(series)
    )


def backfill(series: int) -> list[float]:
    """An archive that is there at once."""
    return [0.0] * series


def rates(stages: Stages) -> Iterator[tuple[str, float]]:
    """Series an hour that one of each resource can do at most."""
    for name in ("service", "archive", "database", "worker"):
        yield name, 3600 / (getattr(stages, f"{name}_s") + (stages.poll_s if name == "worker" else 0.0))


def page(stages: Stages) -> str:
    """Write what the simulation says of one computer's stage times."""
    fast = replace(stages, worker_s=stages.worker_s / 10)
    day = [(f"{n} workers", simulate(hospital(), stages, Site(n))) for n in (1, 2, 4)]
    many = [
        (f"{n} workers{what}", simulate(backfill(10_000), times, Site(n)))
        for what, times in (("", stages), (", ten times as fast", fast))
        for n in (2, 16, 64)
    ]
    return "\n".join(
        [
            f"Stage times: {stages.source}.\n",
            markdown(
                ("one of these", "seconds a series", "series an hour at most"),
                [(name, f"{getattr(stages, f'{name}_s'):.3f}", f"{rate:,.0f}") for name, rate in rates(stages)],
            ),
            "One hospital, 1,000 CT series in a day, four fifths of them from 8 to 18 o'clock:\n",
            markdown(
                ("site", "until the results, median", "95th percentile", *day[0][1].busy),
                [(name, *(_time(s) for s in told.wait_s), *_busy(told)) for name, told in day],
            ),
            "An archive of 200,000 series (simulated with 10,000, which wait from the beginning):\n",
            markdown(
                ("site", "series a day", "days for 200,000", "the limit", *many[0][1].busy),
                [
                    (name, f"{24 * told.series / told.hours:,.0f}", f"{200_000 * told.hours / told.series / 24:.1f}",
                     told.limit, *_busy(told))
                    for name, told in many
                ],
            ),
        ]
    )  # fmt: skip


def _busy(told: Told) -> list[str]:
    return [f"{part:.0%}" for part in told.busy.values()]


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 300
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=Path, default=STAGES, help="stage times of another computer")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    options = parser.parse_args()
    text = page(Stages.read(options.stages))
    print(text)
    if options.write:
        write_part("simulator", text, measured=False)


if __name__ == "__main__":
    main()
