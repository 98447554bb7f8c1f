"""Jobs of another version of the workflow steps: the new version finishes them, with the database that 0.1.0 left."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from dbos import DBOS, error

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs import deliveries, engine, queue, watch, worker
from orthanc_plugin.jobs.heartbeat import AtWork
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.watch import Pace, Watch
from orthanc_plugin.jobs.worker import engine_configuration
from orthanc_plugin.jobs.workflow import Retries, register_workflows
from tests.support.cases.location_case import CHEST
from tests.support.fakes.hand_job import HandProcess
from tests.support.fakes.memory_archive import MemoryArchive
from tests.support.servers.orthanc_server import wait_until

WRITTEN = Path(__file__).with_name("written_by_0_1_0") / "jobs.sql"
OLD, NEW = "steps-1", "steps-2"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database that 0.1.0 left, with both jobs open, for a release whose steps differ."""
    for module in (engine, queue, deliveries, watch, worker):
        monkeypatch.setattr(module, "APPLICATION_VERSION", NEW)
    file = tmp_path / "jobs.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(WRITTEN.read_text())
    return f"sqlite:///{file}"


@pytest.fixture
def jobs(url: str) -> Iterator[JobQueue]:
    with closing(JobQueue(url)) as opened:
        yield opened


def test_open_jobs_of_the_old_version_are_finished_by_the_new_one(url: str, jobs: JobQueue) -> None:
    process, far = HandProcess(CHEST), MemoryArchive("far")
    sessions = replace(process.sessions, archives={"local": process.archive, "far": far})
    at_work = AtWork()
    watched = Watch(jobs, "worker-9", at_work, Pace(beat_s=0.0, dead_s=5.0, idle_s=5.0, unknown_s=5.0))
    DBOS(config=engine_configuration(url, "worker-9"))
    try:
        register_workflows(sessions, Steps(jobs), Retries(tries=1), at_work)
        DBOS.launch()
        for second in range(8):
            watched.look(float(second))
        wait_until(lambda: all(job.state is JobState.DONE for job in jobs.list()), 60, "the end of both jobs")
        wait_until(lambda: len(far.instances) == 2, 60, "the delivery")
    finally:
        DBOS.destroy(destroy_registry=True)


def test_jobs_of_a_version_that_has_a_living_worker_stay_with_it(jobs: JobQueue) -> None:
    watched = Watch(jobs, "worker-9", AtWork(), Pace(beat_s=0.0, dead_s=5.0, idle_s=5.0))
    for second in range(20):
        jobs.heartbeats.beat("worker-0", OLD, ())
        watched.look(float(second))
    versions = {w.app_version for w in jobs._client.list_workflows()}
    assert versions == {OLD}


def test_a_crash_between_the_two_halves_of_an_adoption_is_healed(jobs: JobQueue) -> None:
    waits, _ = jobs.list()
    jobs._client.cancel_workflow(waits.id)  # the first half
    jobs.settle()
    (found,) = jobs._client.list_workflows(workflow_ids=[waits.id])
    assert (found.status, found.app_version) == ("ENQUEUED", NEW)
    assert jobs.show(waits.id).state is JobState.QUEUED


def test_a_job_that_the_engine_lost_is_queued_again(jobs: JobQueue) -> None:
    waits, _ = jobs.list()
    jobs._client.delete_workflow(waits.id)
    jobs.settle()
    assert [w.status for w in jobs._client.list_workflows(workflow_ids=[waits.id])] == ["ENQUEUED"]


def test_a_worker_that_was_away_itself_does_not_bury_the_others(jobs: JobQueue) -> None:
    watched = Watch(jobs, "worker-9", AtWork(), Pace(beat_s=0.0, dead_s=5.0, idle_s=100.0))
    jobs.heartbeats.beat("worker-1", OLD, ())
    watched.look(0.0)
    watched.look(60.0)  # the database was away for a minute: nobody could beat
    assert "worker-1" in jobs.heartbeats.all()
    for second in range(61, 67):
        watched.look(float(second))
    assert "worker-1" not in jobs.heartbeats.all()


def test_a_worker_that_never_beat_may_live_and_keeps_its_jobs_for_an_hour(jobs: JobQueue) -> None:
    _, half = jobs.list()
    watched = Watch(jobs, "worker-9", AtWork(), Pace(beat_s=0.0, dead_s=30.0, idle_s=15.0))
    for second in range(0, 3600, 10):
        watched.look(float(second))
    assert jobs.custody.held_by("worker-0") == {half.id}
    assert half.id in jobs.stuck() or half.started_at is None, "a person sees it"
    watched.look(3600.0)
    watched.look(3610.0)  # an hour after it was first missed
    assert jobs.custody.held_by("worker-0") == frozenset()


def test_two_processes_that_bring_back_one_job_do_not_fail(jobs: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(workflow_id: str) -> None:
        first_half(workflow_id)
        jobs.settle()  # another process is faster

    first_half = jobs._client.cancel_workflow
    monkeypatch.setattr(jobs._client, "cancel_workflow", cancel)
    assert jobs.adopt(frozenset()) == 1
    waits, _ = jobs.list()
    (found,) = jobs._client.list_workflows(workflow_ids=[waits.id])
    assert (found.status, found.app_version) == ("ENQUEUED", NEW)


def test_a_retry_that_the_engine_refuses_leaves_the_job_as_it_was(
    jobs: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error.DBOSException("the database is away")

    waits, _ = jobs.list()
    jobs.cancel(waits.id)
    monkeypatch.setattr(jobs._client, "rewind_workflow", refuse)
    with pytest.raises(error.DBOSException):
        jobs.retry(waits.id)
    assert (jobs.show(waits.id).state, jobs.show(waits.id).error) == (JobState.CANCELLED, "cancelled by a person")
    monkeypatch.undo()
    jobs.retry(waits.id)
    assert jobs.show(waits.id).state is JobState.QUEUED
