"""Run many mutations in worker processes with a cap on time, and tell what came of them.

Usage: python -m tests.faults.fuzzing.campaign [--count 10000] [--seed 0] [--jobs 2] [--write] (`make fuzz`); `--write`
puts the table into docs/input-quality.md. `--case N` reads one case in this process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import re
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import takewhile
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.faults.fuzzing.corpus import DATA
from tests.faults.fuzzing.reading import Read, case, read_case, serve

PAGE = Path(__file__).resolve().parents[3] / "docs" / "input-quality.md"
MARKS = ("<!-- fuzz -->\n", "<!-- end of fuzz -->")
CASE_SECONDS = 60.0
"""No case takes a tenth of it on a quiet machine."""

_TOLD_AHEAD = 20


class Worker:
    """One process that reads cases; it is started again after each that does not come back.

    It is told of some cases ahead, so that it need not wait for its turn on a loaded machine between two of them.
    """

    def __init__(self, seed: int, real: bool) -> None:
        self._seed, self._real = seed, real
        self._running: tuple[BaseProcess, Connection] | None = None
        self._told: deque[int] = deque()

    def read_all(self, numbers: Iterable[int]) -> Iterator[Read]:
        """Read cases in their order; a process that dies or does not answer is a fault of the case that it was at."""
        for number in numbers:
            self._tell(number)
            if len(self._told) > _TOLD_AHEAD:
                yield self._answer()
        while self._told:
            yield self._answer()
        self.stop()

    def stop(self) -> None:
        """End the process."""
        if self._running is not None:
            process, pipe = self._running
            process.kill()
            process.join()
            pipe.close()
            self._running = None

    def _tell(self, number: int) -> None:
        self._told.append(number)
        with suppress(BrokenPipeError):  # the answer to an earlier case says so
            self._pipe().send(number)

    def _answer(self) -> Read:
        process, pipe = self._started()
        try:
            if pipe.poll(CASE_SECONDS):
                read: Read = pipe.recv()
                self._told.popleft()
                return read
            fault = f"hang: no answer within {CASE_SECONDS:.0f} s"
        except (EOFError, ConnectionResetError):
            process.join(5)
            fault = f"crash: the process ended with {process.exitcode}"
        self.stop()
        number, others = self._told[0], [*self._told][1:]
        self._told.clear()
        for other in others:
            self._tell(other)
        source, mutation, _, _ = case(number, self._seed, self._real)
        return Read(number, source, mutation, (), (fault,), 0.0)

    def _pipe(self) -> Connection:
        return self._started()[1]

    def _started(self) -> tuple[BaseProcess, Connection]:
        if self._running is None:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, self._seed, self._real), daemon=True)
            process.start()
            theirs.close()
            self._running = process, ours
        return self._running


def campaign(
    count: int, *, seed: int, real: bool, jobs: int, seconds: float = float("inf"), first: int = 0
) -> Iterator[Read]:
    """Read so many cases from `first` on, each by one of the workers; none begins after so many seconds."""
    end = time.monotonic() + seconds
    reads: queue.SimpleQueue[Read | None] = queue.SimpleQueue()

    def work(job: int) -> None:
        try:
            numbers = takewhile(lambda _: time.monotonic() < end, range(first + job, first + count, jobs))
            for read in Worker(seed, real).read_all(numbers):
                reads.put(read)
        finally:
            reads.put(None)

    with ThreadPoolExecutor(jobs) as pool:
        done = [pool.submit(work, job) for job in range(jobs)]
        for _ in done:
            yield from iter(reads.get, None)
        for job in done:
            job.result()


def table(reads: Sequence[Read]) -> str:
    """Give the outcomes of each mutation as Markdown."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for read in reads:
        kind = read.mutation.removesuffix(" and another")
        rows[kind]["cases"] += 1
        for outcome in set(map(_group, read.outcomes)):
            rows[kind][outcome] += 1
        rows[kind]["faults"] += bool(read.faults)
    heads = ("cases", "volume", "volume changed", "refused", "no series", "faults")
    lines = ["| mutation | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    total: Counter[str] = sum(rows.values(), Counter())
    for name, counts in (*sorted(rows.items()), ("all", total)):
        lines.append(f"| {name} | " + " | ".join(str(counts[head]) for head in heads) + " |")
    reasons = Counter(outcome for read in reads for outcome in read.outcomes if _group(outcome) == "refused")
    told = ", ".join(f"`{reason}` {number}" for reason, number in reasons.most_common())
    return (
        "\n".join(lines)
        + f"\n\nReasons: {told}. Largest memory of a worker: {max(r.peak_mib for r in reads):.0f} MiB.\n"
    )


def _group(outcome: str) -> str:
    return outcome if outcome in ("volume", "volume changed", "no series") else "refused"


def main() -> int:
    """Run the campaign; exit 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to go on with a campaign")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after so long")
    parser.add_argument("--case", type=int, help="read only this case, in this process")
    parser.add_argument("--write", action="store_true", help="put the table into docs/input-quality.md")
    options = parser.parse_args()
    real = DATA.is_dir()
    if options.case is not None:
        print(read_case(options.case, options.seed, real))
        return 0
    reads = []
    limits = {"jobs": options.jobs, "seconds": options.seconds, "first": options.first}
    for read in campaign(options.count, seed=options.seed, real=real, **limits):
        reads.append(read)
        if read.faults:
            print(read, flush=True)
    text = table(reads)
    print(text, "slowest:", sorted(reads, key=lambda read: -read.seconds)[:3])
    faults = Counter(fault for read in reads for fault in read.faults)
    for fault, number in faults.most_common():
        example = next(read for read in reads if fault in read.faults)
        print(f"{number} x {fault} (case {example.number}: {example.source}, {example.mutation})")
    if options.write:
        start, end = map(re.escape, MARKS)
        said = f"{len(reads)} cases from number {options.first} on, seed {options.seed}."
        body = f"{MARKS[0]}{said}\n\n{text}{MARKS[1]}"
        PAGE.write_text(re.sub(f"{start}.*?{end}", lambda _: body, PAGE.read_text(), flags=re.DOTALL))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
