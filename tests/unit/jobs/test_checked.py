"""Jobs that check their masks: held back results, reported failures, and the other forms of a segmentation."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pypdf
import pytest

from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.domain.masks import Probability, Segmentation
from orthanc_plugin.domain.plan import Location, Output, SegEncoding, SegSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.record import summarise
from orthanc_plugin.results.document.summary import NOT_CHECKED, pdf_of
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD, ellipsoids
from tests.support.fakes.hand_job import BPR, SERIES, EllipsoidEngine, HandProcess, job, run

SEGMENT, CAPTURE, SUMMARISE = (f"{verb} {CARD.name}" for verb in ("segment", "capture", "summarise"))


def checked_job(*more: Output, hold_back: tuple[Check, ...] = ()) -> EnrichJob:
    plain = job(None, *more)
    return replace(plain, plan=replace(plain.plan, hold_back=hold_back))


def mirrored() -> Segmentation:
    """The ellipsoids, with left and right exchanged."""
    found = ellipsoids(SERIES)
    return replace(found, labels=np.ascontiguousarray(found.labels[:, :, ::-1]))


@pytest.fixture
def process() -> HandProcess:
    return HandProcess(CHEST)


def finds(process: HandProcess, found: Segmentation) -> None:
    class Engine(EllipsoidEngine):
        def segment(self, volume: object) -> Segmentation:
            return found

    process.engine = Engine()


def failed(outcome: StageOutcome) -> set[tuple[Check, str]]:
    return {(result.check, result.key) for result in outcome.stage.checks if not result.passed}


def test_a_failed_check_that_the_rule_names_keeps_the_result_out_of_the_archive(process: HandProcess) -> None:
    finds(process, mirrored())
    outcomes = run(process, checked_job(Output.CHECKS, Output.RADIOMICS, hold_back=(Check.SIDE,)))
    assert [*outcomes] == ["retrieve", SEGMENT]
    assert process.stored == {}
    assert {check for check, _ in failed(outcomes[SEGMENT])} == {Check.SIDE}
    end = ending([*outcomes.values()])
    assert (end.state, end.reason) == (JobState.SKIPPED, Refusal.HELD_BACK)
    assert "side of lung_left" in end.detail


def test_what_else_a_job_stored_counts_beside_a_result_that_is_held_back(process: HandProcess) -> None:
    finds(process, mirrored())
    located = replace(job(Location(model=BPR), Output.BODY_LANDMARKS).plan, hold_back=(Check.SIDE,))
    outcomes = run(process, replace(job(None), plan=located))
    assert [ds.Modality for ds in process.stored.values()] == ["SR"]
    end = ending([*outcomes.values()])
    assert (end.state, end.reason) == (JobState.DONE, Refusal.HELD_BACK), "else it would not be delivered"


def test_without_such_a_rule_the_result_is_stored_and_the_failure_told(process: HandProcess) -> None:
    finds(process, mirrored())
    outcomes = run(process, checked_job(Output.CHECKS))
    kinds = [outcome.stored.kind for outcome in outcomes.values() if outcome.stored is not None]
    assert kinds == [Output.SEG, Output.CHECKS]
    assert (Check.SIDE, "lung_left") in failed(outcomes["check"])
    assert any(note.startswith("side of lung_left failed") for note in outcomes["check"].stage.notes)
    assert ending([*outcomes.values()]).state is JobState.DONE


def test_masks_in_place_are_not_held_back(process: HandProcess) -> None:
    outcomes = run(process, checked_job(hold_back=(Check.SIDE,)))
    assert outcomes[SEGMENT].stored is not None
    assert ending([*outcomes.values()]).reason == ""


def test_each_further_form_is_an_object_of_its_own_and_adopted_when_it_is_there(process: HandProcess) -> None:
    what = checked_job(Output.RTSTRUCT, Output.PREVIEW, Output.CHECKS)
    once = run(process, what)
    assert [ds.Modality for ds in process.stored.values()] == ["SEG", "RTSTRUCT", "OT", "SR"]
    again = run(process, what)
    for name, outcome in once.items():
        stored = again[name].stored
        assert stored == (outcome.stored and replace(outcome.stored, adopted=True))
    assert again["check"].stage.checks == once["check"].stage.checks != ()


FOR_OTHER_ARCHIVES = (Output.SECONDARY_CAPTURE, Output.SUMMARY_PDF, Output.KEY_OBJECTS)


def test_what_is_made_for_archives_without_seg_is_stored_named_and_adopted(process: HandProcess) -> None:
    what = checked_job(*FOR_OTHER_ARCHIVES, Output.CHECKS)
    once = run(process, what)
    capture = once[CAPTURE]
    assert len(capture.objects) == 9
    assert len({o.sop_instance_uid for o in capture.objects}) == 9
    assert len({o.series_instance_uid for o in capture.objects}) == 1
    named = summarise([*once.values()]).objects
    assert {o.sop_instance_uid for o in named} == set(process.stored), "what is not named is never withdrawn"
    assert [o.kind for o in named] == [
        Output.SEG, *[Output.SECONDARY_CAPTURE] * 9, Output.KEY_OBJECTS, Output.CHECKS, Output.SUMMARY_PDF
    ]  # fmt: skip
    again = run(process, what)
    assert {o.sop_instance_uid for o in summarise([*again.values()]).objects} == set(process.stored)
    assert all(o.adopted for outcome in again.values() for o in outcome.objects)
    assert StageOutcome.from_json(capture.to_json()) == capture
    assert '"more"' not in once[SEGMENT].to_json(), "as earlier versions wrote it"


def test_pictures_of_which_some_are_gone_are_made_again(process: HandProcess) -> None:
    what = checked_job(Output.SECONDARY_CAPTURE)
    once = run(process, what)[CAPTURE].objects
    gone = once[4].sop_instance_uid
    process.archive.instances = {k: ds for k, ds in process.archive.instances.items() if ds.SOPInstanceUID != gone}
    again = run(process, what)[CAPTURE].objects
    assert [o.sop_instance_uid for o in again] == [o.sop_instance_uid for o in once]
    assert [o.sop_instance_uid for o in again if not o.adopted] == [gone]


def test_a_summary_tells_the_checks_of_its_job(process: HandProcess) -> None:
    finds(process, mirrored())
    checked = run(process, checked_job(Output.SUMMARY_PDF, Output.CHECKS))[SUMMARISE].stored
    plain = run(process, checked_job(Output.SUMMARY_PDF))[SUMMARISE].stored
    assert checked is not None
    assert plain is not None
    assert checked.sop_instance_uid != plain.sop_instance_uid
    told = [
        " ".join(pypdf.PdfReader(BytesIO(pdf_of(process.stored[o.sop_instance_uid]))).pages[0].extract_text().split())
        for o in (checked, plain)
    ]
    assert "FAILED: Left lung: side:" in told[0]
    assert NOT_CHECKED in told[1]


def test_a_seg_is_read_back_once_for_all_that_is_made_of_it(process: HandProcess) -> None:
    what = checked_job(Output.LANDMARKS, Output.RTSTRUCT, Output.CHECKS)
    asked: list[str] = []
    find = process.archive.find

    def counting(study_uid: str, series_uid: str, sop_uid: str) -> object:
        asked.append(sop_uid)
        return find(study_uid, series_uid, sop_uid)

    process.archive.find = counting  # type: ignore[method-assign, assignment]
    outcomes = run(process, what)
    seg = outcomes[SEGMENT].stored
    assert seg is not None
    assert asked.count(seg.sop_instance_uid) == 2  # before the store, and to read it back


def test_another_encoding_is_another_object(process: HandProcess) -> None:
    plain = job(None)
    forced = replace(plain, plan=replace(plain.plan, seg=SegSettings(SegEncoding.LABELMAP_RLE)))
    run(process, plain)
    run(process, forced)
    assert len(process.stored) == 2
    assert plain.plan.digest != forced.plan.digest


class SoftEngine(EllipsoidEngine):
    """Also tells how sure it is: half, everywhere in a structure."""

    def segment_with_probabilities(self, volume: Volume) -> Segmentation:
        found = self.segment(volume)
        masks = ((one.key, found.labels == one.number) for one in found.segments)
        return replace(
            found, probabilities=tuple(Probability(key, np.where(mask, 128, 0).astype(np.uint8)) for key, mask in masks)
        )


def test_probabilities_are_stored_where_the_rule_asks_for_them(process: HandProcess) -> None:
    process.engine = SoftEngine()
    what = checked_job(Output.PROBABILITIES)
    once = run(process, what)
    stored = once[f"weigh {CARD.name}"].stored
    assert stored is not None
    assert stored.kind is Output.PROBABILITIES
    assert process.stored[stored.sop_instance_uid].SegmentationType == "FRACTIONAL"
    assert len(process.engine.seen) == 1, "the model does not run again"
    again = run(process, what)[f"weigh {CARD.name}"].stored
    assert again == replace(stored, adopted=True)


def test_a_model_without_probabilities_says_so_and_the_job_ends(process: HandProcess) -> None:
    outcomes = run(process, checked_job(Output.PROBABILITIES))
    outcome = outcomes[f"weigh {CARD.name}"]
    assert outcome.stored is None
    assert outcome.stage.notes[0] == f"{CARD.name} gives no probabilities"
    assert ending([*outcomes.values()]).state is JobState.DONE
