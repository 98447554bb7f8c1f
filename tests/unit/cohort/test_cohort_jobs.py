"""Rows of the job database: decisions of one archive, oldest first, and the deliveries of its jobs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orthanc_plugin.cohort.build import build, read_manifest
from orthanc_plugin.cohort.job_rows import rows_of_jobs
from orthanc_plugin.cohort.sources import FolderSource
from orthanc_plugin.domain.job import EnrichJob, JobState
from orthanc_plugin.domain.plan import Output, Plan, PlannedModel, StoredObject
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary
from tests.support.cases.cohort_case import our_results, rows, write

SEEN = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = Plan("chest", (PlannedModel("chest_structures", "ab"), PlannedModel("other", "cd")), (Output.SEG,), "local")
JOB = EnrichJob("local", "2.25.100", "2.25.200", "f1", 0, PLAN)
DONE = Decision(
    "local", "2.25.100", "2.25.200", "f1", 0, "", SEEN, Verdict.ENRICH, JobState.DONE, job_id="j1", rule="chest",
    argument=JOB.to_json(), started_at=SEEN, ended_at=SEEN + timedelta(seconds=90),
    summary=Summary(objects=(StoredObject(Output.SEG, "c", "s", "e", "i", False),)),
)  # fmt: skip
SKIPPED = replace(
    DONE, series_instance_uid="2.25.201", fingerprint="f2", decision=Verdict.SKIP, state=JobState.SKIPPED, job_id="",
    reason="too-few-slices", detail="2 slices", argument="", started_at=None, ended_at=None, summary=Summary(),
    superseded_by="f9",
)  # fmt: skip


def test_decisions_and_deliveries_become_rows(tmp_path: Path) -> None:
    with closing(JobQueue(f"sqlite:///{tmp_path}/jobs.db")) as queue:
        with queue.ledger.begin() as connection:
            for decision in (DONE, SKIPPED, replace(DONE, archive="far", fingerprint="f3", job_id="j3")):
                queue.ledger.add(connection, decision)
        queue.deliveries.add("j1", "research", "{}")
        queue.deliveries.add("j3", "elsewhere", "{}")
        folder = write(our_results()[:1], tmp_path / "in")
        source = FolderSource(folder, str)
        first = build(source, tmp_path / "out", jobs=lambda: rows_of_jobs(queue, "local"))
        job, skip = rows(tmp_path / "out", "jobs")
        assert (job["job_id"], job["state"], job["seconds"], job["objects"]) == ("j1", "done", 90.0, 1)
        assert (job["models"], job["rule"], job["current"]) == ("chest_structures,other", "chest", True)
        assert (skip["state"], skip["reason"], skip["detail"], skip["current"]) == (
            "skipped", "too-few-slices", "2 slices", False
        )  # fmt: skip
        (delivery,) = rows(tmp_path / "out", "deliveries")
        assert (delivery["job_id"], delivery["kind"], delivery["destination"]) == ("j1", "deliver", "research")

        queue.deliveries.add("j1", "second", "{}")
        again = build(source, tmp_path / "out", jobs=lambda: rows_of_jobs(queue, "local"))
        assert (again.read, again.rows["deliveries"], again.rows["series"]) == (0, 2, 1)
        assert again.digest != first.digest
        assert read_manifest(tmp_path / "out")["digest"] == again.digest
