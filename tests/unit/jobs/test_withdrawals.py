"""Results that no longer count are withdrawn once more after each run of their job, and none stays without a name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import EnrichError, Refusal, RefusedError, StoreError, TransientError
from orthanc_plugin.jobs.engine import WITHDRAW
from orthanc_plugin.jobs.source import KeptPredecessors, LedgerNames
from orthanc_plugin.jobs.withdrawal import Withdrawal
from orthanc_plugin.jobs.workflow import Retries
from orthanc_plugin.results.provenance import MANUFACTURER
from tests.support.cases.results_place import MADE, OBJECT, RESULT, SEGMENT, Place, Removal
from tests.support.fakes.hand_job import run
from tests.support.fakes.memory_archive import MemoryArchive, ct_series, ct_slice
from tests.support.servers.orthanc_server import wait_until
from tests.unit.jobs.test_source import lose


def test_a_job_that_runs_again_after_a_withdrawal_is_delivered_and_withdrawn_again(place: Place) -> None:
    place.work()
    made = place.done("j1")
    wait_until(lambda: place.all_ended("j1", 1), 20, "the delivery")
    place.queue.ledger.give_up(place.queue.ledger.of_series("local", made.series_instance_uid)[0])
    place.queue.withdrawals.of_leftovers("j1")
    wait_until(lambda: place.all_ended("j1", 3), 20, "the withdrawals")
    assert place.far.instances == {}
    place.process.archive.put(RESULT)  # as the second run stores it
    place.again("j1", made)
    wait_until(lambda: len(place.far.instances) == 1, 20, "the second delivery")
    place.done("j2")
    wait_until(lambda: place.far.instances.keys() == {}.keys(), 20, "the second withdrawal")
    wait_until(lambda: place.all_ended("j1", 3), 20, "their records")


def test_what_only_an_earlier_plan_made_is_named_and_not_delivered(place: Place) -> None:
    place.work()
    made = place.decide("j1")
    old = ct_slice(1, series="1.2.78.1", study="1.2.77")
    left = replace(OBJECT, series_instance_uid="1.2.78.1", sop_instance_uid=str(old.SOPInstanceUID))
    place.process.archive.put(old)
    place.queue.ledger.add_object("j1", left)  # as `Ledger.replace` keeps what the job before had stored
    assert place.queue.ledger.start("j1")
    place.end("j1", made)
    wait_until(lambda: place.all_ended("j1", 1), 20, "the delivery")
    assert {key[3] for key in place.far.instances} == {OBJECT.sop_instance_uid}
    assert [item.sop_instance_uid for item in place.queue.show("j1").objects] == [
        OBJECT.sop_instance_uid, left.sop_instance_uid
    ]  # fmt: skip


def test_a_run_of_a_job_has_one_delivery_however_often_its_last_step_runs(place: Place) -> None:
    made = place.done("j1")
    place.end("j1", made)
    assert [d.workflow_id.split(":")[0] for d in place.queue.deliveries.list()] == ["deliver"]


def test_a_delivery_that_failed_is_replaced_by_the_one_of_the_next_run(place: Place) -> None:
    place.far.away = True
    place.work()
    made = place.done("j1")
    wait_until(lambda: place.queue.deliveries.list(JobState.FAILED), 20, "the failure")
    place.far.away = False
    place.again("j1", made)
    wait_until(lambda: place.all_ended("j1", 1), 20, "the delivery")
    assert place.queue.deliveries.counts() == {}


def test_ids_of_0_1_0_are_read_and_run_again(place: Place) -> None:
    place.queue._client.enqueue(
        {"queue_name": "deliver", "workflow_name": "deliver", "workflow_id": "deliver:j0:far"}, "{}"
    )
    place.queue.deliveries.cancel("j0", "far")
    (view,) = place.queue.deliveries.list()
    assert (view.kind, view.job_id, view.destination, view.state) == ("deliver", "j0", "far", JobState.CANCELLED)
    place.queue.deliveries.retry("j0", "far")
    assert place.states("j0") == {("deliver", "far"): JobState.QUEUED}
    assert not place.queue.deliveries.is_outdated("deliver:j0:far")


def test_an_older_job_that_ends_after_the_newer_one_withdraws_its_own_results(place: Place) -> None:
    older = place.decide("j1")
    assert place.queue.ledger.start("j1")
    place.done("j2")
    assert WITHDRAW not in {kind for kind, _ in place.states("j1")}
    place.end("j1", older)
    assert {to for kind, to in place.states("j1") if kind == WITHDRAW} == {"local", "far"}
    assert WITHDRAW not in {kind for kind, _ in place.states("j2")}


def test_results_count_until_those_of_the_newer_content_are_stored(place: Place) -> None:
    place.done("j1")
    newer = place.decide("j2")
    assert place.queue.ledger.start("j2")
    place.end("j2", newer, JobState.FAILED, "failed")
    assert WITHDRAW not in {kind for kind, _ in place.states("j1")}
    place.done("j3")
    assert {job for job in ("j1", "j2") if (WITHDRAW, "local") in place.states(job)} == {"j1", "j2"}


def test_a_copy_that_waits_ends_when_its_results_are_withdrawn(place: Place) -> None:
    place.done("j1")
    assert place.states("j1") == {("deliver", "far"): JobState.QUEUED}
    place.done("j2")
    assert place.states("j1") == {
        ("deliver", "far"): JobState.CANCELLED,
        (WITHDRAW, "far"): JobState.QUEUED,
        (WITHDRAW, "local"): JobState.QUEUED,
    }


def test_a_copy_that_runs_is_taken_back_when_its_results_are_withdrawn(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def withdraw_first(ds: Dataset) -> None:
        place.queue.ledger.give_up(place.queue.ledger.of_series("local", MADE.series_instance_uid)[0])
        place.queue.withdrawals.of_leftovers("j1")
        store(ds)

    store = place.far.store
    monkeypatch.setattr(place.far, "store", withdraw_first)
    place.work()
    place.done("j1")
    wait_until(lambda: place.all_ended("j1", 3), 20, "copy and withdrawals")
    assert place.far.instances == {}


def test_what_a_cancelled_job_had_stored_is_named_and_withdrawn_on_demand(place: Place) -> None:
    place.decide("j1")
    assert place.queue.ledger.start("j1")
    LedgerNames(place.queue.ledger, lambda: "j1").add(OBJECT)
    with pytest.raises(EnrichError, match="its results count"):
        place.queue.withdrawals.of_leftovers("j1")
    place.queue.cancel("j1")
    assert place.queue.show("j1").objects == (OBJECT,)
    place.queue.withdrawals.of_leftovers("j1")
    place.work()
    wait_until(lambda: place.all_ended("j1", 2), 20, "the withdrawals")
    assert place.process.archive.instances == {}


def test_what_a_job_had_stored_that_no_worker_survived_is_named(place: Place) -> None:
    place.decide("j1")
    assert place.queue.ledger.start("j1")
    LedgerNames(place.queue.ledger, lambda: "j1").add(OBJECT)
    assert place.queue.ledger.end("j1", JobState.FAILED, "failed", "three workers died")
    (listed,) = place.queue.list()
    assert listed.objects == (OBJECT,)


def test_a_job_without_results_has_nothing_to_withdraw(place: Place) -> None:
    place.decide("j1")
    place.queue.cancel("j1")
    with pytest.raises(EnrichError, match="has stored nothing"):
        place.queue.withdrawals.of_leftovers("j1")


@pytest.mark.parametrize(
    ("error", "named"), [(StoreError("archive local answered 507"), 0), (TransientError("the answer was lost"), 1)]
)
def test_an_object_is_named_before_it_is_stored_and_forgotten_if_it_is_refused(
    place: Place, error: Exception, named: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(ds: Dataset) -> None:
        raise error

    made = place.decide("j1")
    assert place.queue.ledger.start("j1")
    names = LedgerNames(place.queue.ledger, lambda: "j1")
    place.process.sessions = replace(place.process.sessions, names=names)
    place.process.archive.put(*ct_series(3, series=made.series_instance_uid, study=made.study_instance_uid))
    monkeypatch.setattr(place.process.archive, "store", refuse)
    run(place.process, made)
    row = place.queue.ledger.of_job("j1")
    assert row is not None
    assert len(row.summary.objects) == named


def test_what_could_not_be_taken_back_is_withdrawn_with_the_job(place: Place) -> None:
    made = place.decide("j1")
    assert place.queue.ledger.start("j1")
    place.process.archive.put(*ct_series(3, series=made.series_instance_uid, study=made.study_instance_uid))
    lose(place.process, after="store")
    removal = Removal(place.process.archive, refuses=True)
    names = LedgerNames(place.queue.ledger, lambda: "j1")
    place.process.sessions = replace(place.process.sessions, names=names, removals={"local": removal})  # type: ignore[dict-item]
    outcome = run(place.process, made)[SEGMENT]
    assert (outcome.stored, outcome.reason) == (None, Refusal.GONE)
    place.steps.close(made, "j1", [outcome])
    (left,) = place.queue.show("j1").objects
    assert left.kind is Output.SEG
    assert left.sop_instance_uid in outcome.detail
    assert place.states("j1")[WITHDRAW, "local"] is JobState.QUEUED


def test_a_refusal_for_good_is_tried_once_and_holds_up_nobody(place: Place) -> None:
    place.process.sessions.removals["far"].refuses = True  # type: ignore[attr-defined]
    place.retries = Retries(tries=8, first_wait_s=60.0)
    place.work()
    place.done("j1")
    wait_until(lambda: place.all_ended("j1", 1), 20, "the delivery")
    place.done("j2")
    wait_until(lambda: place.states("j1").get((WITHDRAW, "far")) is JobState.FAILED, 20, "the refusal")
    wait_until(lambda: place.states("j2").get(("deliver", "far")) is JobState.DONE, 20, "the next in the line")
    assert len(place.process.sessions.removals["far"].asked) == 1  # type: ignore[attr-defined]


def test_an_archive_that_holds_the_series_itself_keeps_the_results_when_it_is_deleted_elsewhere(place: Place) -> None:
    place.far.put(*ct_series(3, series=MADE.series_instance_uid, study=MADE.study_instance_uid))
    place.work()
    place.done("j1")
    wait_until(lambda: place.all_ended("j1", 1), 20, "the delivery")
    assert place.queue.withdrawals.of_deleted("j1")
    wait_until(lambda: place.all_ended("j1", 3), 20, "the withdrawals")
    assert (len(place.far.instances), len(place.process.archive.instances)) == (4, 0)


def test_results_that_a_job_elsewhere_shares_stay_there_and_nowhere_else(place: Place) -> None:
    """The same CT in another archive: one fingerprint, the same results, and a home of its own."""
    place.done("j1")
    here = place.queue.ledger.of_job("j1")
    assert here is not None
    plan = replace(MADE.plan, home_archive="far", destinations=())
    there = replace(MADE, archive="far", fingerprint=here.fingerprint, plan=plan)
    place.queue.enqueue(
        replace(here, archive="far", job_id="j2", state=JobState.DONE, argument=there.to_json(), ended_at=None)
    )
    place.far.put(RESULT)
    place.work()
    assert place.queue.withdrawals.of_deleted("j1")
    wait_until(lambda: (WITHDRAW, "far") in place.states("j1") and place.all_withdrawn("j1"), 20, "the withdrawals")
    assert (len(place.far.instances), len(place.process.archive.instances)) == (1, 0)


class HonouringArchive(MemoryArchive):
    """An archive that hides what a rejection note names, as IHE RAD-66 asks."""

    def store(self, ds: Dataset) -> None:
        super().store(ds)
        if ds.Modality == "KO":
            (study,) = ds.CurrentRequestedProcedureEvidenceSequence
            references = (item for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence)
            rejected = {item.ReferencedSOPInstanceUID for item in references}
            self.instances = {key: ds for key, ds in self.instances.items() if key[3] not in rejected}


@pytest.fixture
def honouring(place: Place) -> HonouringArchive:
    """The destination is no Orthanc and honours rejection notes."""
    place.far = HonouringArchive("far")
    archives = {"local": place.process.archive, "far": place.far}
    settings = parse_section({"Archives": {"far": {"Url": "http://127.0.0.1:1/dicom-web", "RejectionNotes": True}}}, {})
    removals = {"local": place.process.sessions.removals["local"]}
    place.process.sessions = replace(
        place.process.sessions, configuration=settings, archives=archives, removals=removals
    )
    return place.far


def test_an_archive_that_honours_rejection_notes_gets_one(place: Place, honouring: HonouringArchive) -> None:
    RESULT.Manufacturer = MANUFACTURER
    place.work()
    place.done("j1")
    wait_until(lambda: place.all_ended("j1", 1), 20, "the delivery")
    assert len(honouring.instances) == 1
    place.done("j2")
    wait_until(lambda: place.all_withdrawn("j1"), 20, "the withdrawals")
    wait_until(lambda: place.all_ended("j2", 1), 20, "the delivery of the newer results")
    notes = [ds for ds in honouring.instances.values() if ds.Modality == "KO"]
    assert [str(ds.ConceptNameCodeSequence[0].CodeValue) for ds in notes] == ["113001"]


def test_a_rejection_note_names_no_object_of_somebody_else(place: Place, honouring: HonouringArchive) -> None:
    RESULT.Manufacturer = "another maker"
    honouring.put(RESULT)
    with pytest.raises(RefusedError, match="has another object under"):
        place.process.sessions.rejecting.reject(Withdrawal("far", (OBJECT,)))
    assert len(honouring.instances) == 1


def test_a_report_names_the_ones_that_it_supersedes_where_they_stay(place: Place) -> None:
    first = place.decide("j1")
    names = LedgerNames(place.queue.ledger, lambda: "j1")
    place.process.archive.put(*ct_series(3, series=first.series_instance_uid, study=first.study_instance_uid))
    place.process.sessions = replace(
        place.process.sessions, names=names, predecessors=KeptPredecessors(place.queue.ledger)
    )
    wanted = replace(first, plan=replace(first.plan, outputs=(Output.SEG, Output.LANDMARKS)))
    reports = []
    for job_id in ("j1", "j2"):
        made = wanted if job_id == "j1" else replace(wanted, fingerprint=place.decide("j2").fingerprint)
        assert place.queue.ledger.start(job_id)
        place.process.sessions = replace(
            place.process.sessions, names=LedgerNames(place.queue.ledger, lambda job_id=job_id: job_id)
        )
        stored = [outcome.stored for outcome in run(place.process, made).values() if outcome.stored is not None]
        reports.append(next(item for item in stored if item.kind is Output.LANDMARKS))
    old, new = (place.process.stored[item.sop_instance_uid] for item in reports)
    assert "PredecessorDocumentsSequence" not in old
    (study,) = new.PredecessorDocumentsSequence
    assert (study.StudyInstanceUID, study.ReferencedSeriesSequence[0].SeriesInstanceUID) == (
        reports[0].study_instance_uid, reports[0].series_instance_uid,
    )  # fmt: skip
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (old.SOPClassUID, old.SOPInstanceUID)
    assert "PredecessorDocumentsSequence" not in next(
        ds for ds in place.process.stored.values() if ds.Modality == "SEG"
    )


def test_a_job_that_a_person_cancels_in_its_last_step_delivers_nothing(place: Place) -> None:
    made = place.decide("j1")
    assert place.queue.ledger.start("j1")
    place.queue.cancel("j1")
    place.end("j1", made)
    assert place.states("j1") == {}
    assert place.queue.show("j1").state is JobState.CANCELLED


def test_a_job_that_takes_the_place_of_another_keeps_what_it_adopts(place: Place) -> None:
    made = place.decide("j1")
    assert place.queue.ledger.start("j1")
    place.end("j1", made, JobState.SKIPPED, Refusal.GONE)
    assert place.states("j1") == {(WITHDRAW, "local"): JobState.QUEUED, (WITHDRAW, "far"): JobState.QUEUED}
    old = place.queue.ledger.of_job("j1")
    assert old is not None
    new = replace(old, job_id="j2", state=JobState.QUEUED, reason="", started_at=None, ended_at=None)
    assert place.queue.decide_again(new, made)
    assert set(place.states("j1").values()) == {JobState.CANCELLED}
