"""Rows of the job database: decisions of one archive, oldest first, and the deliveries of its jobs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orthanc_plugin.cohort.build import build, read_manifest
from orthanc_plugin.cohort.drift import drift_report
from orthanc_plugin.cohort.job_rows import rows_of_jobs
from orthanc_plugin.cohort.named import named_query
from orthanc_plugin.cohort.query import opened, run
from orthanc_plugin.cohort.sources import FolderSource
from orthanc_plugin.domain.job import EnrichJob, JobState, StageView
from orthanc_plugin.domain.plan import Output, Plan, PlannedModel, StoredObject
from orthanc_plugin.domain.shadow import Compared
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary
from tests.support.cases.cohort_case import our_results, rows, write

SHADOW = PlannedModel("new_model", "ef")
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


def shadowed(number: int, *compared: Compared, series: str = "", notes: tuple[str, ...] = ()) -> Decision:
    plan = replace(PLAN, shadow=(SHADOW,))
    stages = (StageView("segment chest_structures", 1.0, 1.0), StageView("shadow new_model", 1.0, 1.0, notes=notes))
    stages = (stages[0], replace(stages[1], compared=compared))
    series = series or f"2.25.30{number}"
    return replace(
        DONE, series_instance_uid=series, fingerprint=f"s{number}", job_id=f"s{number}", summary=Summary(stages),
        argument=replace(JOB, plan=plan, series_instance_uid=series).to_json(),
        ended_at=SEEN + timedelta(hours=number),
    )  # fmt: skip


def heart(shadow_ml: float, model_ml: float | None, dice: float | None) -> Compared:
    return Compared("Heart", "80891009", "", "chest_structures", shadow_ml, model_ml, dice)


@pytest.fixture
def shadow_tables(tmp_path: Path) -> Path:
    """Tables of shadow runs; the third one found nothing out, so the second stays the current one."""
    decisions = (
        DONE,
        shadowed(1, heart(600.0, 610.0, 0.97), Compared("Esophagus", "32849002", "", "", 31.0), notes=("a note",)),
        shadowed(2, heart(0.0, 580.0, 0.0)),
        shadowed(3, series="2.25.302", notes=("not run: 1 worker(s) died in this job",)),
        replace(shadowed(4, heart(1.0, 2.0, 0.5)), superseded_by="s5"),
        shadowed(6, heart(500.0, 590.0, 0.8), series="2.25.301"),
    )
    with closing(JobQueue(f"sqlite:///{tmp_path}/jobs.db")) as queue:
        with queue.ledger.begin() as connection:
            for decision in decisions:
                queue.ledger.add(connection, decision)
        source = FolderSource(write(our_results()[:1], tmp_path / "in"), str)
        build(source, tmp_path / "out", jobs=lambda: rows_of_jobs(queue, "local"))
    return tmp_path / "out"


def test_shadow_runs_become_rows(shadow_tables: Path) -> None:
    told = [(r["job_id"], r["label"], r["shadow_ml"], r["model_ml"], r["dice"], r["current"]) for r in rows(
        shadow_tables, "shadow"
    )]  # fmt: skip
    assert told == [
        ("s1", "Heart", 600.0, 610.0, 0.97, False),
        ("s1", "Esophagus", 31.0, None, None, False),
        ("s2", "Heart", 0.0, 580.0, 0.0, True),
        ("s3", "", None, None, None, True),
        ("s4", "Heart", 1.0, 2.0, 0.5, False),
        ("s6", "Heart", 500.0, 590.0, 0.8, True),
    ]
    by_job = {(r["job_id"], r["label"]): r for r in rows(shadow_tables, "shadow")}
    first, alone = by_job["s1", "Heart"], by_job["s1", "Esophagus"]
    assert (first["shadow"], first["shadow_digest"], first["model_digest"]) == ("new_model", "ef", "ab")
    assert (first["note"], first["reason"]) == ("a note", "")
    assert alone["reason"] == "no model of the rule stored this structure"
    assert by_job["s3", ""]["reason"] == "not run: 1 worker(s) died in this job"


def test_shadow_models_stand_beside_those_of_the_rule(shadow_tables: Path) -> None:
    with opened(shadow_tables) as connection:
        found = run(connection, named_query("shadow-compared").sql).to_pylist()
    assert [(row["series_instance_uid"], row["difference_ml"]) for row in found] == [
        ("2.25.302", -580.0), ("2.25.301", -90.0)
    ]  # fmt: skip
    report = drift_report(shadow_tables, lambda study, series: f"viewer/{series}")
    (summary,) = [one for one in report.summaries if one.title == "Shadow runs"]
    values = dict(zip(summary.heads, summary.rows[0], strict=True))
    assert (values["structure"], values["series"], values["only model"]) == ("Heart", "2", "1")
    assert (values["median Dice"], values["lowest Dice"], values["median shadow - model (mL)"]) == (
        "0.4",
        "0.0",
        "-335.0",
    )
    (figure,) = report.figures
    assert figure.title == "new_model against chest_structures: Dice coefficient"
    assert [(point.value, point.address) for point in figure.points] == [
        (0.0, "viewer/2.25.302"),
        (0.8, "viewer/2.25.301"),
    ]
