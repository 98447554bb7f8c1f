"""A job database that version 0.1.0 left: today's worker finishes the interrupted job and the queued one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from dbos import DBOS

from orthanc_plugin import identity
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.worker import engine_configuration
from orthanc_plugin.jobs.workflow import Retries, register_workflows
from orthanc_plugin.pipeline.order import stages_of
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD
from tests.support.fakes.hand_job import HandProcess, step
from tests.support.fakes.memory_archive import MemoryArchive
from tests.support.servers.orthanc_server import wait_until

WRITTEN = Path(__file__).with_name("written_by_0_1_0") / "jobs.sql"
EXECUTOR = "worker-0"
"""The worker that was killed in the step `report` of the job that is half done."""
SEGMENT, REPORT = f"segment {CARD.name}", f"report {CARD.name}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    file = tmp_path / "jobs.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(WRITTEN.read_text())
    return f"sqlite:///{file}"


@pytest.fixture
def queue(url: str) -> Iterator[JobQueue]:
    with closing(JobQueue(url)) as opened:
        yield opened


def test_the_jobs_of_the_database_are_shown(queue: JobQueue) -> None:
    waits, half = queue.list()
    assert (waits.state, half.state) == (JobState.QUEUED, JobState.RUNNING)
    assert queue.job(waits.id).plan.destinations == ("far",)
    shown = queue.show(half.id)
    assert [stage.name for stage in shown.stages] == ["retrieve", "locate bpr", "report body-landmarks", SEGMENT]
    assert (shown.location, shown.stage) == (CHEST, REPORT)
    assert [stored.kind for stored in shown.objects] == [Output.BODY_LANDMARKS, Output.SEG]


def test_both_jobs_are_finished_and_recorded_steps_are_not_run_again(
    url: str, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, half = queue.list()
    process, far = HandProcess(CHEST), MemoryArchive("far")
    with monkeypatch.context() as before:
        before.setattr(identity, "RESULTS_VERSION", 2)
        store_what_was_stored(process, queue, half.id)
    sessions = replace(process.sessions, archives={"local": process.archive, "far": far})
    DBOS(config=engine_configuration(url, EXECUTOR))
    try:
        register_workflows(sessions, Steps(queue), Retries(tries=1))
        DBOS.launch()
        wait_until(lambda: all(job.state is JobState.DONE for job in queue.list()), 60, "the end of both jobs")
        wait_until(lambda: len(far.instances) == 2, 60, "the delivery")
        wait_until(lambda: all(steps_of(job)[-1:] == ["close"] for job in (half.id, waits.id)), 60, "the last steps")
        steps = {job: steps_of(job) for job in (half.id, waits.id)}
    finally:
        DBOS.destroy(destroy_registry=True)
    assert steps == {
        half.id: ["begin", "retrieve", "locate bpr", "report body-landmarks", SEGMENT, REPORT, "close"],
        waits.id: ["begin", "retrieve", SEGMENT, REPORT, "close"],
    }
    assert (process.hand_locator.runs, len(process.engine.seen)) == (1, 2), "a recorded step ran again"
    kinds = [Output.SEG, Output.LANDMARKS]
    assert [stored.kind for stored in queue.show(waits.id).objects] == kinds
    assert [stored.kind for stored in queue.show(half.id).objects] == [Output.BODY_LANDMARKS, *kinds]
    assert len(process.stored) == 5


def steps_of(job_id: str) -> list[str]:
    """List the steps that the engine has recorded; the last one is written after the job's end."""
    return [step["function_name"] for step in DBOS.list_workflow_steps(job_id)]


def store_what_was_stored(process: HandProcess, queue: JobQueue, job_id: str) -> None:
    """Fill the archive as the killed worker left it; with its results version, UIDs are those that it recorded."""
    recorded = queue.show(job_id).objects
    with closing(process.sessions.open(queue.job(job_id))) as session:
        stages = stages_of(session, partial(step, {}))
        stored = [next(stages).stored for _ in range(4)]
    # The SEG was a LABELMAP then; what counts for the steps that follow is that they find it under its UID.
    uids = [(item.kind, item.series_instance_uid, item.sop_instance_uid) for item in stored if item is not None]
    assert uids == [(item.kind, item.series_instance_uid, item.sop_instance_uid) for item in recorded]
