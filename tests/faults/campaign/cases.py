"""The cases of the campaign: each puts one kind of fault on the whole system and counts what came of it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.engine import NO_WORKER_SURVIVED
from orthanc_plugin.jobs.queue import JobQueue
from tests.faults.campaign.site import QUICK, Census, Site
from tests.support.servers.faulty_proxy import Choose, Fault, FaultyProxy
from tests.support.servers.orthanc_server import wait_until
from tests.support.servers.postgresql import postgresql

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case gave. figures: what was measured beside the census, in words."""

    repetitions: int
    census: Census
    figures: str


@contextmanager
def started(site: Site) -> Iterator[tuple[Site, JobQueue]]:
    """Run a site until its service answers; the job database is open beside it."""
    with site:
        site.await_service()
        with site.queue() as queue:
            yield site, queue


def kills(jobs: int, count: int, seed: int = 0) -> Outcome:
    """SIGKILL workers, now and then the service, and every fortieth time Orthanc, while series arrive."""
    chance, killed = random.Random(seed), dict.fromkeys(("worker", "service", "Orthanc"), 0)
    with started(Site(seconds=0.3)) as (site, queue):
        last_service = time.monotonic()
        for number in range(1, count + 1):
            site.send(jobs // count + (number <= jobs % count))
            what = _victim(number, time.monotonic() - last_service)
            if what == "Orthanc":
                site.kill()
                site.start()
            elif not _kill_one(site, what, chance):
                continue
            killed[what] += 1
            if what != "worker":
                last_service = time.monotonic()
                site.await_service()
            time.sleep(chance.uniform(0.5, 4.0))
        gave_up = _await_with_retries(site, queue, 600 + 2 * jobs)
        return Outcome(
            sum(killed.values()),
            site.census(queue),
            ", ".join(f"{what} {n}" for what, n in killed.items())
            + f"; {gave_up} jobs met three dead workers, ended as failed, and were done after a retry",
        )


def _victim(number: int, since_service_s: float) -> str:
    """The plugin waits up to a minute before it starts the service again, unless that ran for a minute."""
    if number % 40 == 0:
        return "Orthanc"
    return "service" if number % 5 == 0 and since_service_s > 65 else "worker"


def _kill_one(site: Site, what: str, chance: random.Random) -> bool:
    for _ in range(100):
        with suppress(psutil.NoSuchProcess):
            if found := site.processes(what):
                chance.choice(found).kill()
                return True
        time.sleep(0.1)
    return False


def _await_with_retries(site: Site, queue: JobQueue, within_s: float) -> int:
    """Wait for the last job; retry, as an operator does, what ended because three workers in a row were killed."""
    retried = 0

    def done() -> bool:
        nonlocal retried
        retried += len(queue.retry_all("failed", NO_WORKER_SURVIVED))
        return queue.ledger.counts().get(JobState.DONE, 0) >= len(site.sent)

    with suppress(AssertionError):  # the census says what is missing
        wait_until(done, within_s, "the last job")
    return retried


def restarts(count: int) -> Outcome:
    """Restart Orthanc, by SIGTERM and SIGKILL in turn, before StableAge has passed: its stable events are lost."""
    with started(Site(stable_age_s=5)) as (site, queue):
        for number in range(count):
            site.send(2)
            (site.kill if number % 2 else site.stop)()
            site.start()
        _await(site, queue, 120 + 10 * count)
        return Outcome(count, site.census(queue), f"{2 * count} series")


def frozen(count: int, database: str = "") -> Outcome:
    """Stop a worker by SIGSTOP until another has its job, then let it go on."""
    taken = 0
    with started(Site(seconds=1.5, section={"Database": database} if database else {})) as (site, queue):
        for _ in range(count):
            site.send(2)
            holder, job = wait_until(lambda: _at_work(site, queue), 60, "a worker at work")
            holder.send_signal(signal.SIGSTOP)
            time.sleep(QUICK.dead_s + 6)
            holder.send_signal(signal.SIGCONT)  # first: a worker that was stopped in a write holds the SQLite file
            taken += queue.ledger.note(f"taken-over:{job}") is not None
            _await(site, queue, 120)
        return Outcome(count, site.census(queue), f"{taken} of the jobs were taken over by the other worker")


def frozen_on_postgresql(count: int) -> Outcome:
    """Do a worker stopped past its heartbeat (PostgreSQL)."""
    with postgresql() as server:
        return frozen(count, server.url)


def _at_work(site: Site, queue: JobQueue) -> tuple[psutil.Process, str] | None:
    """A worker and the job that it works on."""
    for beat in queue.heartbeats.all().values():
        slot = beat.executor_id.rpartition("-")[2]
        for process in site.processes("worker") if beat.works_on else ():
            if process.cmdline()[-1] == slot:
                return process, beat.works_on[0]
    return None


def behind_proxy(jobs: int, choose: Choose) -> Outcome:
    """Put a proxy between the workers and the archive."""
    with FaultyProxy(choose).running() as proxy, started(Site(through=proxy.before)) as (site, queue):
        site.send(jobs)
        _await(site, queue, 180 + 10 * jobs)
        hits = ", ".join(f"{proxy.hits[fault]} requests {fault}" for fault in Fault if fault in proxy.hits)
        return Outcome(sum(n for fault, n in proxy.hits.items() if fault is not Fault.NONE), site.census(queue), hits)


def lose_stores(method: str, path: str, before: int) -> Fault:
    return Fault.LOST if method == "POST" and _first(method, before) else Fault.NONE


def refuse_first(method: str, path: str, before: int) -> Fault:
    return Fault.UNAVAILABLE if _first(method, before) else Fault.NONE


def cut_first(method: str, path: str, before: int) -> Fault:
    return Fault.TRUNCATED if _first(method, before) else Fault.NONE


def _first(method: str, before: int) -> bool:
    """Tell whether to spoil a request: the first at an address; of stores, which have one address, four in ten.

    Every other store would not do: two workers that take turns could meet the fault each time.
    """
    return random.Random(before).random() < 0.4 if method == "POST" else before == 0


def slow_series(method: str, path: str, before: int) -> Fault:
    """Only retrievals of whole series: with slow headers no job would begin."""
    return Fault.SLOW if path.split("/")[-2] == "series" and before == 0 else Fault.NONE


def slow(jobs: int, slow_s: float) -> Outcome:
    """Let every first retrieval run at one byte a second for a while; cancel one job, and retry it."""
    with FaultyProxy(slow_series).running() as proxy, started(Site(through=proxy.before)) as (site, queue):
        site.send(jobs)
        _, job = wait_until(lambda: _at_work(site, queue), 60, "a worker at work")
        time.sleep(slow_s)
        asked = time.monotonic()
        site.api("health")
        answered_s = time.monotonic() - asked
        queue.cancel(job)
        asked = time.monotonic()
        with suppress(AssertionError):
            wait_until(lambda: all(job not in b.works_on for b in queue.heartbeats.all().values()), 20, "the end")
        cancelled_s = time.monotonic() - asked
        proxy.hurry.set()
        queue.retry(job)
        _await(site, queue, 120 + 5 * jobs)
        figures = f"health answered after {answered_s:.1f} s, a job was cancelled within {cancelled_s:.1f} s"
        return Outcome(proxy.hits[Fault.SLOW], site.census(queue), figures)


def full_disk(count: int, full_s: float) -> Outcome:
    """Fill the disk of the job database for a while, again and again; all scratch folders are full throughout."""
    site = Site(seconds=1.0)
    scratch, state = site.directory / "scratch", site.state_directory
    with small_disk(scratch, 1), small_disk(state, 8):
        fill(scratch)
        site.environment["TMPDIR"] = str(scratch)
        with started(site) as (_, queue):
            said = 0
            for _ in range(count):
                site.send(3)
                wait_until(lambda: _at_work(site, queue), 60, "a worker at work")
                filler = fill(state)
                time.sleep(full_s / 2)
                said += site.api("health")["status"] == "degraded"
                time.sleep(full_s / 2)
                filler.unlink()
                _await(site, queue, 240)
            census = site.census(queue)
        return Outcome(count, census, f"a tmpfs of 8 MiB, full for {full_s:.0f} s; health said so {said} times")


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """Mount a small file system in memory (needs root)."""
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk to its last byte; return the file to remove."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def restarted_database(jobs: int, count: int) -> Outcome:
    """Restart PostgreSQL under load."""
    with postgresql() as server, started(Site(seconds=0.5, section={"Database": server.url})) as (site, queue):
        for _ in range(count):
            site.send(jobs // count)
            wait_until(lambda: _at_work(site, queue), 60, "a worker at work")
            server.restart()
            time.sleep(2.0)
        _await(site, queue, 180 + 5 * jobs)
        return Outcome(count, site.census(queue), f"{jobs} jobs, two workers")


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at a process after so many jobs."""

    jobs: int
    rss_mib: float
    files: int


WARM_UP = 30
"""Jobs before the soak counts: caches fill, and the connections of the pools are made."""
MOST_MIB_A_JOB, MOST_FILES_A_JOB = 0.05, 0.02


def soak(jobs: int, warm_up: int = WARM_UP, most_mib: float = MOST_MIB_A_JOB) -> Outcome:
    """Run jobs one after the other, and hold the growth of memory and open files of all processes against a bound."""
    samples: dict[str, list[Sample]] = {}
    with started(Site()) as (site, queue):
        site.send(jobs)
        processes = {" ".join(p.cmdline()[2:]): p for p in site.processes("")}

        def done() -> bool:
            count = queue.ledger.counts().get(JobState.DONE, 0)
            for name, process in processes.items():
                sample = Sample(count, process.memory_info().rss / MIB, process.num_fds())
                samples.setdefault(name, []).append(sample)
            time.sleep(0.5)
            return count >= len(site.sent)

        wait_until(done, 120 + 10 * jobs, "the last job")
        census = site.census(queue)
    growths = {name: growth([s for s in taken if s.jobs >= warm_up]) for name, taken in samples.items()}
    for name, (mib, files) in growths.items():
        assert mib <= most_mib, (name, mib)
        assert files <= MOST_FILES_A_JOB * most_mib / MOST_MIB_A_JOB, (name, files)
    words = (f"{name}: {mib * 100:+.1f} MiB, {files * 100:+.1f} files" for name, (mib, files) in growths.items())
    return Outcome(jobs, census, f"growth per 100 jobs after the first {warm_up}: " + "; ".join(words))


def growth(samples: list[Sample]) -> tuple[float, float]:
    """Slopes of the regressions of memory (MiB) and open files on the number of jobs done."""
    jobs = np.array([sample.jobs for sample in samples], float)
    table = np.array([(sample.rss_mib, sample.files) for sample in samples], float)
    mib, files = np.polyfit(jobs, table, 1)[0]
    return float(mib), float(files)


def _await(site: Site, queue: JobQueue, within_s: float) -> None:
    """Wait for the last job; if it does not come, the census says what is missing."""
    with suppress(AssertionError):
        site.await_done(queue, within_s)


CASES: Mapping[str, tuple[Callable[[], Outcome], Callable[[], Outcome]]] = {
    "SIGKILL of workers, service and Orthanc": (lambda: kills(1000, 200), lambda: kills(15, 5)),
    "Orthanc restarted within StableAge": (lambda: restarts(12), lambda: restarts(1)),
    "a worker stopped past its heartbeat, then continued": (lambda: frozen(10), lambda: frozen(1)),
    "a worker stopped past its heartbeat (PostgreSQL)": (
        lambda: frozen_on_postgresql(10),
        lambda: frozen_on_postgresql(1),
    ),
    "STOW carried out, acknowledgement lost": (
        lambda: behind_proxy(30, lose_stores),
        lambda: behind_proxy(3, lose_stores),
    ),
    "503 with Retry-After": (lambda: behind_proxy(20, refuse_first), lambda: behind_proxy(2, refuse_first)),
    "truncated answers": (lambda: behind_proxy(20, cut_first), lambda: behind_proxy(2, cut_first)),
    "series at one byte a second": (lambda: slow(6, 30.0), lambda: slow(2, 3.0)),
    "disk full: job database and scratch": (lambda: full_disk(5, 12.0), lambda: full_disk(1, 6.0)),
    "PostgreSQL restarted under load": (lambda: restarted_database(60, 6), lambda: restarted_database(4, 1)),
    "soak": (lambda: soak(500), lambda: soak(30, 10, 10 * MOST_MIB_A_JOB)),
}
"""Each case in full, and reduced as `.ci/run` runs it."""
