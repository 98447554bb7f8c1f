"""Workers that die, freeze or lose the database: another worker, or the same one, goes on with their jobs."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.queue import JobQueue
from tests.faults.stub_site import StubSite, all_done, enqueue
from tests.support.servers.orthanc_server import wait_until

SEGMENT, MEASURE = "segment stub", "measure stub"
FULL = 8192
"""A limit in bytes for the files of a worker: its notes fit, the job database does not."""
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture
def place(tmp_path: Path) -> StubSite:
    return StubSite(tmp_path, f"sqlite:///{tmp_path}/jobs.db", seconds=4.0)


@pytest.fixture
def queue(place: StubSite) -> Iterator[JobQueue]:
    with closing(JobQueue(place.database)) as opened:
        yield opened


def test_a_job_that_a_full_disk_interrupted_goes_on_in_the_same_worker(place: StubSite, queue: JobQueue) -> None:
    job = enqueue(queue, 1)
    with place.worker("a") as worker:
        wait_until(lambda: place.begun(SEGMENT), 30, "the second stage")
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))
        wait_until(lambda: place.ends(SEGMENT), 20, "the end of the stage")
        time.sleep(2.0)  # the worker cannot record the stage
        before = {step["function_name"] for step in queue._client.list_workflow_steps(job)}
        assert SEGMENT not in before
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, UNLIMITED)
        wait_until(lambda: all_done(queue), 30, "the end of the job")
    assert queue.show(job).state is JobState.DONE


def test_another_worker_takes_over_and_the_one_that_returns_neither_doubles_nor_loses(
    place: StubSite, queue: JobQueue
) -> None:
    with place.worker("a") as first, place.worker("b") as second:
        wait_until(lambda: all("takes jobs" in _log(place, name) for name in "ab"), 60, "both workers")
        jobs = [enqueue(queue, number) for number in range(3)]
        at_work = {first.pid, second.pid}
        wait_until(lambda: {note.pid for note in place.begun(SEGMENT)} == at_work, 30, "both at work")
        first.send_signal(signal.SIGKILL)
        first.wait()
        wait_until(lambda: all_done(queue), 60, "the end of the jobs")
        with place.worker("a"):
            wait_until(lambda: _log(place, "a").count("takes jobs") == 2, 30, "the return of the first")
            late = enqueue(queue, 9)
            wait_until(lambda: all_done(queue), 30, "the end of the last job")
    assert place.ends(SEGMENT) == dict.fromkeys([*jobs, late], 1)


def test_a_frozen_worker_that_wakes_up_records_nothing_of_the_job_it_lost(place: StubSite, queue: JobQueue) -> None:
    job = enqueue(queue, 1)
    with place.worker("a") as first, place.worker("b"):
        wait_until(lambda: place.begun(SEGMENT), 30, "the second stage")
        holder = place.begun(SEGMENT)[0].pid
        os.kill(holder, signal.SIGSTOP)
        wait_until(lambda: len(place.begun(SEGMENT)) == 2, 30, "the take-over")
        os.kill(holder, signal.SIGCONT)
        wait_until(lambda: all_done(queue), 30, "the end of the job")
        wait_until(lambda: place.ends(SEGMENT)[job] == 2, 30, "the end of the stage that was frozen")
        assert first.poll() is None
    assert place.ends(MEASURE)[job] == 1


def test_a_job_that_kills_every_worker_ends(place: StubSite, queue: JobQueue) -> None:
    job = enqueue(queue, 1)
    for name in "abc":
        with place.worker(name) as worker:
            known = len(place.begun(SEGMENT))
            wait_until(lambda k=known: len(place.begun(SEGMENT)) > k, 40, "the second stage")
            worker.kill()
            worker.wait()
    with place.worker("d"):
        wait_until(lambda: queue.show(job).state is JobState.FAILED, 40, "the end of the job")
    assert queue.show(job).error == "the worker died each time it ran this job"


def test_a_worker_that_was_killed_in_a_job_is_counted_and_one_that_stopped_is_not(
    place: StubSite, queue: JobQueue
) -> None:
    long = StubSite(place.directory, place.database, seconds=60.0)
    job = enqueue(queue, 1)
    with long.worker("a") as worker:
        wait_until(lambda: place.begun(SEGMENT), 30, "the second stage")
        assert queue.custody.deaths(job) == 0
        worker.terminate()
        worker.wait()
    with long.worker("a") as worker:
        wait_until(lambda: len(place.begun(SEGMENT)) == 2, 30, "the second stage again")
        assert queue.custody.deaths(job) == 0
        worker.kill()
        worker.wait()
    with long.worker("a"):
        wait_until(lambda: len(place.begun(SEGMENT)) == 3, 30, "the second stage once more")
        assert queue.custody.deaths(job) == 1


def _log(place: StubSite, name: str) -> str:
    return (place.directory / f"{name}.log").read_text()


def test_a_cancelled_stage_ends_within_five_seconds_and_the_next_job_runs(place: StubSite, queue: JobQueue) -> None:
    long = StubSite(place.directory, place.database, seconds=60.0)
    first, second = enqueue(queue, 1), enqueue(queue, 2)
    with long.worker("a"):
        wait_until(lambda: place.begun(SEGMENT), 30, "the second stage")
        queue.cancel(first)
        assert queue.show(first).state is JobState.CANCELLED
        wait_until(lambda: {note.job for note in place.begun(SEGMENT)} == {first, second}, 5, "the next job")
    assert not place.ends(SEGMENT)
