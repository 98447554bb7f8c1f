"""The sweep removes what the settings say is too old, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orthanc_plugin.audit.event import Event, What
from orthanc_plugin.audit.trail import Trail
from orthanc_plugin.config.retention import RetentionSettings
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.scans import Kept
from orthanc_plugin.service.retention import Sweep, Swept
from tests.support.servers.front_door import enqueue, finish, skipped

LATER = timedelta(days=40)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    with closing(JobQueue(f"sqlite:///{tmp_path}/jobs.db")) as queue:
        yield queue


def sweep(queue: JobQueue, state: Path, later: timedelta = LATER, **settings: int) -> Sweep:
    return Sweep(
        RetentionSettings.model_validate(settings), queue, Trail(state), state, clock=lambda: datetime.now(UTC) + later
    )


def test_old_jobs_lose_their_details_and_keep_what_withdraws_them(queue: JobQueue, tmp_path: Path) -> None:
    done, still = enqueue(queue, "1.2.1"), enqueue(queue, "1.2.2")
    finish(queue, done, JobState.FAILED, detail="archive far is away", note="a note")
    queue.enqueue(skipped("1.2.3"), None)
    before = queue.show(done)
    assert (len(before.stages), len(before.objects)) == (1, 1)
    assert sweep(queue, tmp_path, timedelta(days=1), JobDays=30).once().jobs in (0, 1)  # the skip is of January
    assert sweep(queue, tmp_path, JobDays=30).once().jobs >= 1
    after = queue.show(done)
    assert (after.state, after.stages, after.objects, after.error) == (JobState.FAILED, (), before.objects, "failed")
    assert queue.show(still).state is JobState.QUEUED
    assert queue.ledger.of_series("local", "1.2.3")[0].reason == "too-few-slices"
    assert queue.ledger.of_series("local", "1.2.3")[0].detail == ""
    assert sweep(queue, tmp_path, JobDays=30).once() == Swept()
    assert b"2171" not in queue.ledger.of_job(done).summary.to_json().encode()  # type: ignore[union-attr]


def test_a_forgotten_job_can_be_retried(queue: JobQueue, tmp_path: Path) -> None:
    job = enqueue(queue, "1.2.1")
    queue.cancel(job)
    queue.settle()
    assert sweep(queue, tmp_path, JobDays=1).once().jobs == 1
    queue.retry(job)
    assert queue.show(job).state is JobState.QUEUED


def test_old_logs_and_months_of_the_audit_log_go(queue: JobQueue, tmp_path: Path) -> None:
    for name in ("service.log", "service.log.1", "worker-0.log", "worker-0.log.1", "jobs.db.1"):
        (tmp_path / name).write_text("x")
    old = datetime.now(UTC).timestamp() - 20 * 86400
    os.utime(tmp_path / "worker-0.log.1", (old, old))
    trail = Trail(tmp_path)
    for days in (100, 50, 0):
        trail.append(Event(datetime.now(UTC) - timedelta(days=days), What.VIEW, "ada"))
    swept = sweep(queue, tmp_path, timedelta(0), LogDays=10, AuditDays=30).once()
    assert swept.logs == 1
    assert swept.audit_months >= 1
    assert {file.name for file in tmp_path.glob("*.log*") if not file.name.startswith("audit-")} == {
        "service.log",
        "service.log.1",
        "worker-0.log",
    }
    assert trail.verify().problems == ()


def test_by_default_everything_stays(queue: JobQueue, tmp_path: Path) -> None:
    finish(queue, enqueue(queue, "1.2.1"), detail="why")
    assert sweep(queue, tmp_path, timedelta(days=30000)).once() == Swept()


def test_pictures_go_when_nobody_looks() -> None:
    kept: Kept[str, bytes] = Kept(1000, len)
    kept.put("a", b"x")
    kept.forget(60.0)
    assert kept.get("a") == b"x"
    kept.forget(0.0)
    assert kept.get("a") is None
    kept.put("b", b"x" * 900)
    kept.put("c", b"x" * 900)
    kept.forget(0.0)
    assert kept.get("c") is None
