"""What destinations get in place of objects that they do not take, and what becomes of it later."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import EnrichError, NotSupportedError, UnclearRefusalError
from tests.support.cases.results_place import Place, Removal
from tests.support.fakes.hand_job import run
from tests.support.fakes.memory_archive import MemoryArchive, ct_series
from tests.support.servers.orthanc_server import wait_until


class OldArchive(MemoryArchive):
    """An archive that takes no Comprehensive 3D SR; `unclear`: so many times it does not say why."""

    def __init__(self, unclear: int = 0) -> None:
        super().__init__("far")
        self.refuses, self.unclear = True, unclear

    def store(self, ds: Dataset) -> None:
        if ds.SOPClassUID == Comprehensive3DSRStorage and self.unclear:
            self.unclear -= 1
            raise UnclearRefusalError("status 0x0110")
        if ds.SOPClassUID == Comprehensive3DSRStorage and self.refuses:
            raise NotSupportedError("Comprehensive 3D SR")
        super().store(ds)

    def classes(self) -> set[str]:
        return {str(ds.SOPClassUID) for ds in self.instances.values() if ds.Modality == "SR"}


def deliver(place: Place, far: OldArchive) -> set[str]:
    """Run a job that makes a segmentation and a report; return what it stored."""
    archives = {"local": place.process.archive, "far": far}
    settings = {"Url": "http://127.0.0.1:1/dicom-web", "Fallback": ["comprehensive-sr"]}
    place.process.sessions = replace(
        place.process.sessions,
        configuration=parse_section({"Archives": {"far": settings}}, {}),
        archives=archives,
        removals={name: Removal(archive) for name, archive in archives.items()},  # type: ignore[misc]
    )
    made = place.decide("j1")
    made = replace(made, plan=replace(made.plan, outputs=(Output.SEG, Output.LANDMARKS)))
    assert place.queue.ledger.start("j1")
    place.process.archive.put(*ct_series(3, series=made.series_instance_uid, study=made.study_instance_uid))
    outcomes = run(place.process, made)
    place.steps.close(made, "j1", list(outcomes.values()))
    place.work()
    wait_until(lambda: place.all_ended("j1", 1), 20, "the delivery")
    return {outcome.stored.sop_instance_uid for outcome in outcomes.values() if outcome.stored is not None}


def test_what_a_destination_got_instead_is_withdrawn_too(place: Place) -> None:
    far = OldArchive()
    stored = deliver(place, far)
    assert len(stored - {key[3] for key in far.instances}) == 1
    assert len(far.instances) == 2
    place.done("j2")
    wait_until(lambda: place.all_withdrawn("j1"), 20, "the withdrawals")
    assert {str(ds.Modality) for ds in far.instances.values()} <= {"CT"}


def test_a_destination_that_learned_to_take_the_originals_gets_them_in_place_of_the_substitutes(place: Place) -> None:
    far = OldArchive()
    stored = deliver(place, far)
    assert far.classes() == {ComprehensiveSRStorage}
    far.refuses = False
    place.queue.deliveries.retry("j1", "far")
    wait_until(lambda: far.classes() == {Comprehensive3DSRStorage}, 20, "the originals alone")
    wait_until(lambda: place.all_ended("j1", 1), 20, "the record")
    assert {key[3] for key in far.instances} == stored
    (delivery,) = place.queue.deliveries.of_job("j1")
    assert "1 objects withdrawn that were sent earlier in another form" in delivery.notes


def test_a_delivery_that_sent_the_originals_is_not_run_again(place: Place) -> None:
    far = OldArchive()
    far.refuses = False
    deliver(place, far)
    with pytest.raises(EnrichError, match="no delivery to far that failed or was cancelled"):
        place.queue.deliveries.retry("j1", "far")


def test_a_refusal_that_may_pass_is_tried_again_before_anything_is_sent_instead(place: Place) -> None:
    far = OldArchive(unclear=2)
    far.refuses = False
    place.retries = replace(place.retries, tries=4)
    stored = deliver(place, far)
    assert ({key[3] for key in far.instances}, far.classes()) == (stored, {Comprehensive3DSRStorage})
    assert [d.state for d in place.queue.deliveries.of_job("j1")] == [JobState.DONE]


def test_a_refusal_that_does_not_pass_is_believed(place: Place) -> None:
    far = OldArchive(unclear=1000)
    place.retries = replace(place.retries, tries=4)
    deliver(place, far)
    assert far.classes() == {ComprehensiveSRStorage}
