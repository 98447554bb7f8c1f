"""The ledger keeps one row for each content, in a file that only its owner can read."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from orthanc_plugin.domain.job import JobState, StageView
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.jobs.ledger import Decision, Ledger, Verdict
from orthanc_plugin.jobs.record import Summary

ROW = Decision(
    "local", "1.2", "1.2.3", "f1", 0, "20260101T000000", datetime(2026, 1, 1, tzinfo=UTC), Verdict.ENRICH,
    JobState.QUEUED, job_id="j1", rule="default", argument="{}",
)  # fmt: skip
SUMMARY = Summary(
    (StageView("retrieve", 1.5, 80.0, "", {}, ("a note",)),), (StoredObject(Output.SEG, "c", "s", "e", "i", False),)
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/state/jobs.db")


def add(ledger: Ledger, *rows: Decision) -> None:
    for row in rows:
        with ledger.begin() as connection:
            ledger.add(connection, row)
            ledger.supersede(connection, row)


def test_a_row_comes_back_as_it_was_written(ledger: Ledger) -> None:
    row = replace(ROW, summary=SUMMARY, ended_at=datetime(2026, 1, 2, tzinfo=UTC))
    add(ledger, row)
    assert ledger.of_series("local", "1.2.3") == (row,)
    assert ledger.of_job("j1") == row
    assert ledger.of_series("other", "1.2.3") == ()


def test_the_same_content_is_written_once(ledger: Ledger) -> None:
    add(ledger, ROW)
    with pytest.raises(IntegrityError):
        add(ledger, replace(ROW, job_id="j2"))
    assert len(ledger.decisions()) == 1


def test_later_content_supersedes_what_is_queued_and_marks_what_ended(ledger: Ledger) -> None:
    add(ledger, ROW)
    ledger.start("j1")
    ledger.end("j1", JobState.DONE, "", "", SUMMARY)
    add(ledger, replace(ROW, fingerprint="f2", job_id="j2"), replace(ROW, fingerprint="f3", job_id="j3"))
    done, queued, newest = ledger.of_series("local", "1.2.3")
    assert (done.state, done.superseded_by) == (JobState.DONE, "f2")
    assert (queued.state, queued.superseded_by) == (JobState.SUPERSEDED, "f3")
    assert (newest.state, newest.superseded_by) == (JobState.QUEUED, "")


def test_a_superseded_job_does_not_start(ledger: Ledger) -> None:
    add(ledger, ROW, replace(ROW, fingerprint="f2", job_id="j2"))
    assert not ledger.start("j1")
    assert ledger.start("j2")


def test_a_job_ends_once(ledger: Ledger) -> None:
    add(ledger, ROW)
    assert ledger.end("j1", JobState.FAILED, "failed", "the archive answered 507")
    assert not ledger.end("j1", JobState.DONE, "", "", SUMMARY)
    row = ledger.of_job("j1")
    assert row is not None
    assert (row.state, row.detail) == (JobState.FAILED, "the archive answered 507")


def test_only_ended_jobs_are_opened_again(ledger: Ledger) -> None:
    add(ledger, ROW)
    assert not ledger.reopen("j1")
    ledger.end("j1", JobState.FAILED, "failed", "x")
    assert ledger.reopen("j1")
    assert ledger.counts() == {JobState.QUEUED: 1}


def test_files_are_for_their_owner_only(ledger: Ledger, tmp_path: Path) -> None:
    add(ledger, ROW)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "state").iterdir()} == {0o600}


def test_notes_are_kept_replaced_and_dropped(ledger: Ledger) -> None:
    ledger.keep_note("waiting:a", "1")
    ledger.keep_note("waiting:a", "2")
    ledger.keep_note("changes:a", "7")
    assert ledger.notes("waiting:") == {"waiting:a": "2"}
    ledger.drop_note("waiting:a")
    assert ledger.note("waiting:a") is None
    assert ledger.note("changes:a") == "7"


@pytest.mark.parametrize(
    ("state", "other", "counts"),
    [
        (JobState.DONE, None, True),
        (JobState.RUNNING, None, False),
        (JobState.SKIPPED, None, False),
        (JobState.SKIPPED, JobState.DONE, True),
        (JobState.SKIPPED, JobState.QUEUED, True),
        (JobState.SKIPPED, JobState.FAILED, False),
    ],
)
def test_results_count_while_any_job_on_the_same_content_is_valid(
    ledger: Ledger, state: JobState, other: JobState | None, counts: bool
) -> None:
    add(ledger, replace(ROW, state=state))
    if other is not None:
        add(ledger, replace(ROW, archive="twin", job_id="j2", state=other))
    assert ledger.still_counts("j1") is counts


def test_superseded_results_do_not_count_but_those_of_a_twin_do(ledger: Ledger) -> None:
    add(ledger, replace(ROW, state=JobState.DONE), replace(ROW, fingerprint="f2", job_id="j2"))
    assert not ledger.still_counts("j1")
    add(ledger, replace(ROW, archive="twin", job_id="j3", state=JobState.DONE))
    assert ledger.still_counts("j1")
