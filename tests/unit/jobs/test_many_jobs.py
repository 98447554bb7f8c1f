"""Many jobs wait: no statement of the job database grows beyond what it can take, or looks at more than it must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs import queue as queue_module
from orthanc_plugin.jobs.queue import JobQueue
from tests.faults.stub_site import enqueue


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobQueue]:
    with closing(JobQueue(f"sqlite:///{tmp_path}/jobs.db")) as opened:
        yield opened


@pytest.fixture
def asked(jobs: JobQueue, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the engine is asked to list."""
    questions: list[dict[str, Any]] = []
    real = jobs._client.list_workflows

    def list_workflows(**question: Any) -> Any:
        questions.append(question)
        return real(**question)

    monkeypatch.setattr(jobs._client, "list_workflows", list_workflows)
    return questions


def test_the_engine_is_asked_for_many_jobs_in_parts(
    jobs: JobQueue, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL takes at most 65,535 parameters in one statement."""
    monkeypatch.setattr(queue_module, "MOST_ASKED_FOR", 2)
    names = [enqueue(jobs, number) for number in range(5)]
    jobs._client.delete_workflows(names)
    asked.clear()
    jobs.settle()
    assert [question["workflow_ids"] for question in asked[:3]] == [names[:2], names[2:4], names[4:]]
    assert {w.workflow_id for w in jobs._client.list_workflows(workflow_ids=names)} == set(names)


def test_reconcile_reads_only_what_the_engine_lost_or_ended(jobs: JobQueue, asked: list[dict[str, Any]]) -> None:
    names = [enqueue(jobs, number) for number in range(8)]
    jobs._client.delete_workflows([names[4]])
    jobs._client.cancel_workflow(names[5])
    assert jobs.ledger.start(names[6])
    asked.clear()
    jobs.settle()
    assert {name for question in asked for name in question["workflow_ids"]} == set(names[4:6])
    assert {w.status for w in jobs._client.list_workflows(workflow_ids=names)} == {"ENQUEUED"}
    asked.clear()
    jobs.settle()
    assert asked == []


def test_backfill_jobs_that_rest_cost_nothing(jobs: JobQueue, asked: list[dict[str, Any]]) -> None:
    names = [enqueue(jobs, number) for number in range(3)]
    with jobs.ledger.begin() as connection:
        connection.exec_driver_sql("UPDATE enrichment_decisions SET priority = 'backfill'")
    jobs.hold_backfill("the hours of backfills")
    assert jobs.cancelled(frozenset(names)) == frozenset(names)
    assert jobs.ledger.start(names[2])  # a worker began it while it was cancelled
    asked.clear()
    for _ in range(2):
        jobs.hold_backfill("the hours of backfills")
        jobs.settle()
    assert [question["workflow_ids"] for question in asked] == [[names[2]]]
    assert {row.state for row in jobs.ledger.open_jobs()} == {JobState.QUEUED}
    jobs.hold_backfill("")
    assert jobs.cancelled(frozenset(names)) == frozenset()


def test_only_running_jobs_are_looked_at_for_stuck_ones(jobs: JobQueue) -> None:
    first, _ = enqueue(jobs, 1), enqueue(jobs, 2)
    jobs.ledger.start(first)
    assert [row.job_id for row in jobs.ledger.open_jobs(JobState.RUNNING)] == [first]
    assert len(jobs.ledger.open_jobs()) == 2


def test_deliveries_are_counted_in_one_query(jobs: JobQueue, asked: list[dict[str, Any]]) -> None:
    jobs.deliveries.add("job-1", "far", "{}")
    jobs.deliveries.add("job-2", "far", "{}")
    jobs.deliveries.cancel("job-2", "far")
    asked.clear()
    assert jobs.deliveries.counts() == {JobState.QUEUED: 1, JobState.CANCELLED: 1}
    assert len(asked) == 1
