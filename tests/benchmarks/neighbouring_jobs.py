"""Two series that wait, against one: how far neighbouring jobs overlap, with one worker and with two.

Usage: python -m tests.benchmarks.neighbouring_jobs [--ct FOLDER] [--cores 2] [--workers 1 2] [--rounds 3] [--write]
(`make scaling-figures`). Each round measures one series and then two, from the first begin to the last end; models are
warm. CPU seconds are those of the workers and of what they started: by them, the cores set a limit to any overlap.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydicom import dcmread
from pydicom.uid import generate_uid

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.queue import JobQueue
from tests.benchmarks.scaling_page import markdown, write_part
from tests.benchmarks.stage_times import CT
from tests.benchmarks.two_workers import span_s
from tests.support.cases.enriched import EnrichedOrthanc, files_of
from tests.support.servers.orthanc_server import wait_until

LONGEST_S, MIB = 1200.0, 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """What some series took together: wall seconds, CPU seconds of the workers, and the memory they keep (MiB)."""

    wall_s: float
    cpu_s: float
    kept_mib: float


def measure(ct: Path, workers: int, cores: int, rounds: int) -> list[tuple[Span, Span]]:
    """Return what one series and two series took, in each round."""
    section = {"Workers": workers, "WorkerCores": cores}
    with EnrichedOrthanc(section=section) as site:
        site.await_service()
        with closing(JobQueue(parse_section(site.enrichment, {}).database)) as queue:
            _run(site, queue, ct, workers)  # each worker loads its models
            return [(_run(site, queue, ct, 1), _run(site, queue, ct, 2)) for _ in range(rounds)]


def _run(site: EnrichedOrthanc, queue: JobQueue, ct: Path, count: int) -> Span:
    """Send copies of the series while the queue is paused, then let the workers take their jobs."""
    queue.pause(True)
    series = {_send(site, ct) for _ in range(count)}
    wait_until(lambda: len(queue.ledger.open_jobs()) == count, LONGEST_S, "the decisions")
    before = _workers_cpu_s(site)
    queue.pause(False)
    wait_until(lambda: not queue.ledger.open_jobs(), LONGEST_S, "the last job")
    rows = [row for row in queue.ledger.decisions(limit=1000) if row.series_instance_uid in series]
    assert all(row.state is JobState.DONE for row in rows), rows
    kept_mib = sum(process.memory_info().rss for process in _workers(site)) / MIB
    return Span(span_s(rows), _workers_cpu_s(site) - before, kept_mib)


def _send(site: EnrichedOrthanc, ct: Path) -> str:
    series, study = str(generate_uid()), str(generate_uid())
    for number, file in enumerate(files_of(ct)):
        ds = dcmread(file)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series[:56]}.{number}"
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
        site.send(ds)
    return series


def _workers_cpu_s(site: EnrichedOrthanc) -> float:
    """Sum the CPU seconds of the workers, and of the processes that they started and that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in _workers(site))


def _workers(site: EnrichedOrthanc) -> list[psutil.Process]:
    found = [process for process in site.children() if "worker" in process.cmdline()]
    assert found
    return found


def figures(workers: int, rounds: list[tuple[Span, Span]], cores: int) -> tuple[str, ...]:
    """Write a row of the table from the medians of the rounds."""

    def median(of: Callable[[Span, Span], float]) -> float:
        return statistics.median(of(one, two) for one, two in rounds)

    one_s, two_s = median(lambda one, two: one.wall_s), median(lambda one, two: two.wall_s)
    one_cpu_s, two_cpu_s = median(lambda one, two: one.cpu_s), median(lambda one, two: two.cpu_s)
    ratio, bound = median(lambda one, two: two.wall_s / one.wall_s), two_cpu_s / cores / one_s
    kept = median(lambda one, two: two.kept_mib)
    seconds = (f"{figure:.1f} s" for figure in (one_s, one_cpu_s, two_s, two_cpu_s))
    return str(workers), *seconds, f"{ratio:.2f}", f"{bound:.2f}", f"{kept:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ct", type=Path, default=CT)
    parser.add_argument("--cores", type=int, default=0, help="WorkerCores")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    options = parser.parse_args()
    cores = options.cores or max(1, len(os.sched_getaffinity(0)) - 1)
    rows = [figures(n, measure(options.ct, n, options.cores, options.rounds), cores) for n in options.workers]
    heads = ("workers", "one series", "its CPU", "two series", "their CPU", "ratio", "least, by CPU", "memory kept")
    text = f"{options.ct.parent.name}; WorkerCores {cores}; medians of {options.rounds} round(s):\n\n"
    text += markdown(heads, rows)
    print(text)
    if options.write:
        write_part("neighbouring jobs", text)


if __name__ == "__main__":
    main()
