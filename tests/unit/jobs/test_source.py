"""No result is stored, or stays, where its source is no longer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.domain.job import EnrichJob, JobState
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, Refusal, TransientError
from orthanc_plugin.jobs.source import Source
from orthanc_plugin.results.provenance import MANUFACTURER
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD
from tests.support.cases.results_place import Removal
from tests.support.fakes.hand_job import SERIES, HandProcess, job, run
from tests.support.fakes.memory_archive import ct_series

JOB = job(None, Output.LANDMARKS)
SEGMENT = f"segment {CARD.name}"


@pytest.fixture(params=["orthanc", "dicomweb"])
def process(request: pytest.FixtureRequest) -> HandProcess:
    made = HandProcess(CHEST)
    made.archive.put(*ct_series(3, series=JOB.series_instance_uid, study=JOB.study_instance_uid))
    if request.param == "orthanc":
        made.sessions = replace(made.sessions, feeds={"local": made.archive})
    return made


def lose(process: HandProcess, after: str) -> None:
    """Delete the source when the engine has found something, or as soon as an object is stored."""
    store, segment = process.archive.store, process.engine.segment

    def forget() -> None:
        process.archive.delete(JOB.series_instance_uid)

    def then(act: Callable[..., object]) -> Callable[..., object]:
        def both(*arguments: object) -> object:
            answer = act(*arguments)
            forget()
            return answer

        return both

    if after == "segment":
        process.engine.segment = then(segment)  # type: ignore[method-assign, assignment]
    else:
        process.archive.store = then(store)  # type: ignore[method-assign, assignment]


def results(process: HandProcess) -> list[Dataset]:
    return [ds for ds in process.stored.values() if ds.Modality in ("SEG", "SR")]


def test_results_are_stored_while_the_source_is_there(process: HandProcess) -> None:
    outcomes = run(process, JOB)
    assert all(outcome.state is JobState.RUNNING for outcome in outcomes.values())
    assert len(results(process)) == 2


def test_nothing_is_stored_after_the_source_was_deleted(process: HandProcess) -> None:
    lose(process, after="segment")
    outcome = run(process, JOB)[SEGMENT]
    assert (outcome.state, outcome.reason) == (JobState.SKIPPED, Refusal.GONE)
    assert results(process) == []


def test_what_was_stored_in_the_same_moment_is_withdrawn(process: HandProcess) -> None:
    lose(process, after="store")
    removal = Removal(process.archive)
    process.sessions = replace(process.sessions, removals={"local": removal})  # type: ignore[dict-item]
    outcome = run(process, JOB)[SEGMENT]
    assert (outcome.state, outcome.reason) == (JobState.SKIPPED, Refusal.GONE)
    assert "was withdrawn" in outcome.detail
    assert (results(process), removal.asked) == ([], [MANUFACTURER])


def test_what_cannot_be_withdrawn_is_named(process: HandProcess) -> None:
    lose(process, after="store")
    removal = Removal(process.archive, refuses=True)
    process.sessions = replace(process.sessions, removals={"local": removal})  # type: ignore[dict-item]
    detail = run(process, JOB)[SEGMENT].detail
    (left,) = results(process)
    assert str(left.SOPInstanceUID) in detail


def test_a_late_slice_counts_as_another_source(process: HandProcess) -> None:
    segment = process.engine.segment

    def late(volume: object) -> object:
        process.archive.put(*ct_series(4, series=JOB.series_instance_uid, study=JOB.study_instance_uid))
        return segment(volume)  # type: ignore[arg-type]

    process.engine.segment = late  # type: ignore[method-assign, assignment]
    assert run(process, JOB)[SEGMENT].reason == Refusal.GONE


def replaced_slice(process: HandProcess) -> None:
    """Put other content under the UIDs of a slice, as an Orthanc with OverwriteInstances does."""
    (ds,) = ct_series(1, series=JOB.series_instance_uid, study=JOB.study_instance_uid)
    ds.ImageComments = "sent again"
    process.archive.seconds += 5
    process.archive.overwrite(ds)


def test_content_replaced_under_its_uids_while_the_series_is_read_is_gone(process: HandProcess) -> None:
    def load(archive: Archive, job: EnrichJob) -> CtSeries:
        replaced_slice(process)
        return SERIES

    feed = process.archive if process.sessions.feeds else None
    with pytest.raises(InputError, match="changed while it was read") as refusal:
        Source(JOB, process.archive, feed, load).read()
    assert refusal.value.reason is Refusal.GONE


def test_no_result_of_content_that_was_replaced_under_its_uids_is_stored(process: HandProcess) -> None:
    segment = process.engine.segment

    def late(volume: object) -> object:
        replaced_slice(process)
        return segment(volume)  # type: ignore[arg-type]

    process.engine.segment = late  # type: ignore[method-assign, assignment]
    outcome = run(process, JOB)[SEGMENT]
    assert (outcome.state, outcome.reason) == (JobState.SKIPPED, Refusal.GONE)
    assert results(process) == []


def test_a_series_that_the_index_lists_is_not_gone(process: HandProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.archive, "headers", lambda *uids: ())
    source = Source(JOB, process.archive, process.archive, lost)
    with pytest.raises(TransientError, match="does not find a series that its index lists"):
        source.read()


def test_a_series_that_changed_is_gone_although_the_index_lists_it(process: HandProcess) -> None:
    with pytest.raises(InputError) as refusal:
        Source(JOB, process.archive, process.archive, lost).read()
    assert refusal.value.reason is Refusal.GONE


def lost(archive: Archive, job: EnrichJob) -> CtSeries:
    raise InputError(Refusal.GONE, "not found, or not the content that was decided on")


def test_an_archive_without_an_index_that_lists_the_series_has_not_lost_it(
    process: HandProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.archive, "headers", lambda *uids: ())
    with pytest.raises(TransientError, match="lists the series but does not find it"):
        Source(JOB, process.archive, None, lost).is_there()
