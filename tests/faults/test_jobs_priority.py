"""Which of the waiting jobs a worker takes first, and what a job says that waits."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from orthanc_plugin.domain.job import JobState, Priority
from orthanc_plugin.jobs.migrations import NOTE
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.rows import notes
from tests.faults.stub_site import StubSite, all_done, check_that_the_urgent_job_comes_first, enqueue
from tests.support.servers.orthanc_server import wait_until


def test_an_urgent_job_that_was_queued_last_comes_first(tmp_path: Path) -> None:
    place = StubSite(tmp_path, f"sqlite:///{tmp_path}/jobs.db")
    with closing(JobQueue(place.database)) as queue:
        check_that_the_urgent_job_comes_first(place, queue)


def test_a_job_that_an_earlier_release_queued_without_a_priority_goes_on(tmp_path: Path) -> None:
    place = StubSite(tmp_path, f"sqlite:///{tmp_path}/jobs.db")
    with closing(JobQueue(place.database)) as queue:
        old = enqueue(queue, 0)
        with queue.ledger.begin() as connection:
            connection.exec_driver_sql("UPDATE workflow_status SET priority = 0")
            connection.exec_driver_sql("ALTER TABLE enrichment_decisions DROP COLUMN priority")
            connection.execute(sa.delete(notes).where(notes.c.key == NOTE))  # that release kept no number
    with closing(JobQueue(place.database)) as queue, place.worker("a"):
        enqueue(queue, 1, Priority.URGENT)
        wait_until(lambda: all_done(queue), 60, "the end of the jobs")
        assert queue.show(old).priority is Priority.NORMAL
    assert place.begun("retrieve")[0].job == old


def test_a_running_job_says_that_it_waits_for_memory(tmp_path: Path) -> None:
    needs = "memory: about 3.0 GiB needed, 1.0 GiB of 8.0 GiB free"
    place = StubSite(tmp_path, f"sqlite:///{tmp_path}/jobs.db", seconds=60.0, waits_for=needs)
    with closing(JobQueue(place.database)) as queue, place.worker("a"):
        job = enqueue(queue, 1)
        wait_until(lambda: queue.show(job).waits_for, 30, "the wait")
        view = queue.show(job)
        assert (view.state, view.waits_for, view.stage) == (JobState.RUNNING, needs, "retrieve")
        queue.cancel(job)
        assert queue.show(job).waits_for == ""
