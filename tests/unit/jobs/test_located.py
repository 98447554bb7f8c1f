"""Jobs that locate their scan first: the order of stages, refusals, crashes and crops."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.codes import BOTTOM, TOP
from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.plan import BODY_OUTPUTS, Location, Output
from orthanc_plugin.errors import InputError, Refusal
from tests.support.cases.location_case import CHEST, NOWHERE
from tests.support.cases.results_case import CARD
from tests.support.fakes.hand_job import ABSENT, BPR, ORGANS, SERIES, HandProcess, job, run, run_session


def test_a_scan_is_located_and_reported_before_organs_are_found() -> None:
    process = HandProcess(CHEST)
    outcomes = run(process, job(Location(BPR), *BODY_OUTPUTS))
    reports = [f"report {output}" for output in BODY_OUTPUTS]
    assert [*outcomes] == ["retrieve", "locate bpr", *reports, f"segment {CARD.name}"]
    assert outcomes["locate bpr"].stage.location == CHEST
    kinds = {o.stored.kind: o.stored.sop_instance_uid for o in outcomes.values() if o.stored is not None}
    assert [*kinds] == [*BODY_OUTPUTS, Output.SEG]
    assert {*kinds.values()} == {*process.stored}


def test_a_plan_without_location_runs_as_before_and_one_without_model_says_what_stands_in() -> None:
    plain = run(HandProcess(CHEST), job(None, Output.LANDMARKS))
    absent = run(HandProcess(CHEST), job(ABSENT, Output.LANDMARKS))
    assert [*plain] == [*absent] == ["retrieve", f"segment {CARD.name}", f"report {CARD.name}"]
    note = "no body part regression model is installed: landmarks of the lung masks stand in"
    assert note in absent[f"report {CARD.name}"].stage.notes
    assert note not in plain[f"report {CARD.name}"].stage.notes


def test_a_refusal_ends_the_job_and_keeps_the_scores() -> None:
    process = HandProcess(replace(CHEST, coverage={Region.CHEST: 0.43}))
    outcomes = run(process, job(Location(BPR, ((Region.CHEST, 0.8),)), *BODY_OUTPUTS))
    assert [*outcomes] == ["retrieve", "locate bpr", "guard bpr"]
    end = outcomes["guard bpr"]
    assert (end.state, end.reason, end.detail) == (
        JobState.SKIPPED,
        Refusal.NOT_COVERED,
        "chest 0.43 covered, 0.80 wanted",
    )
    assert outcomes["locate bpr"].stage.location is not None
    assert not process.stored
    assert not process.engine.seen


def test_where_nothing_is_known_no_landmark_is_stored_and_organs_are_found_as_ever() -> None:
    process = HandProcess(NOWHERE)
    outcomes = run(process, job(Location(BPR), *BODY_OUTPUTS))
    assert f"no valid region: {NOWHERE.reason}" in outcomes["locate bpr"].stage.notes
    for output in BODY_OUTPUTS:
        report = outcomes[f"report {output}"]
        assert report.stored is None
        assert NOWHERE.reason in report.stage.notes[0]
    assert len(process.stored) == 1


def test_slices_that_are_not_axial_are_a_reason_and_no_end() -> None:
    process = HandProcess(InputError(Refusal.NOT_AXIAL, "the slices are not axial"))
    outcomes = run(process, job(Location(BPR)))
    location = outcomes["locate bpr"].stage.location
    assert location is not None
    assert (location.reason, location.landmarks, location.scores) == ("the slices are not axial", (), ())
    assert outcomes[f"segment {CARD.name}"].stored is not None
    guarded = run(HandProcess(process.hand_locator.says), job(Location(BPR, ((Region.CHEST, 0.1),))))
    assert "the slices are not axial" in guarded["guard bpr"].detail


def test_after_a_crash_the_location_comes_from_the_record() -> None:
    what = job(Location(BPR, crop=Region.ABDOMEN), *BODY_OUTPUTS)
    before = run(HandProcess(CHEST), what)
    after = HandProcess(NOWHERE)  # the model is not asked again
    outcomes = run(after, what, {name: before[name] for name in ("retrieve", "locate bpr")})
    assert after.hand_locator.runs == 0
    assert [o.stored.sop_instance_uid for o in outcomes.values() if o.stored] == [
        o.stored.sop_instance_uid for o in before.values() if o.stored
    ]


class TestCrop:
    WANTED = Location(BPR, crop=Region.ABDOMEN)

    def test_organ_models_see_the_region_and_a_margin_and_nothing_lies_outside(self) -> None:
        narrow = replace(CHEST, regions={Region.ABDOMEN: (7,)})
        process = HandProcess(narrow)
        seg = run(process, job(self.WANTED))[f"segment {CARD.name}"].stored
        assert seg is not None
        (seen,) = process.engine.seen
        assert len(seen.voxels_hu) == 11  # slice 7 and 30 mm of 5 mm slices on both sides: 1 to 11 of 0 to 11
        assert seen.affine[2, 3] == SERIES.volume.affine[2, 3] + 5.0
        assert np.shares_memory(seen.voxels_hu, SERIES.volume.voxels_hu)
        stored = process.stored[seg.sop_instance_uid]
        assert "only slices 2 to 12, counted from the feet, were analysed: the abdomen as" in stored.ImageComments
        shown = {
            frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            for frame in stored.PerFrameFunctionalGroupsSequence
        }
        assert SERIES.identity.sop_instance_uids[0] not in shown
        assert SERIES.identity.sop_instance_uids[1] in shown

    def test_where_the_crop_cuts_an_organ_there_is_no_landmark(self) -> None:
        process = HandProcess(
            replace(CHEST, regions={Region.ABDOMEN: (10,)})
        )  # slices 4 to 11; the lungs are in 2 to 9
        report = run(process, job(self.WANTED, Output.LANDMARKS))[f"report {CARD.name}"].stored
        assert report is not None
        said = str(process.stored[report.sop_instance_uid])
        assert TOP.meaning in said
        assert BOTTOM.meaning not in said

    def test_a_crop_without_a_structure_says_both(self) -> None:
        process = HandProcess(CHEST)
        process.engine.finds_nothing = True
        outcome = run(process, job(self.WANTED))[f"segment {CARD.name}"]
        assert outcome.stored is None
        assert outcome.stage.notes[0].startswith("only slices 1 to 12, counted from the feet")
        assert outcome.stage.notes[-1] == "no structure of the model was found"

    def test_cropped_and_uncropped_never_adopt_each_other(self) -> None:
        process, plans = HandProcess(CHEST), (Location(BPR), self.WANTED, Location(BPR, crop=Region.CHEST))
        uids = set()
        for wanted in plans:
            stored = run(process, job(wanted))[f"segment {CARD.name}"].stored
            assert stored is not None
            assert not stored.adopted
            uids.add(stored.sop_instance_uid)
        assert len(uids) == len(plans)

    def test_a_stage_that_is_tried_again_infers_once(self) -> None:
        process, what = HandProcess(CHEST), job(self.WANTED)
        with closing(process.sessions.open(what)) as session:
            located = run_session(session)["locate bpr"]
            process.archive.instances.clear()
            session.segment(ORGANS, located)
        assert len(process.engine.seen) == 1

    def test_a_scan_without_the_region_is_skipped_before_anything_is_stored(self) -> None:
        process = HandProcess(CHEST)
        end = run(process, job(Location(BPR, crop=Region.HEAD), *BODY_OUTPUTS))["guard bpr"]
        assert (end.state, end.reason) == (JobState.SKIPPED, Refusal.NOT_COVERED)
        assert end.detail == "head is not in the scan, and CropToRegion names it"
        assert not process.stored

    def test_a_scan_of_which_nothing_is_known_is_not_cropped_and_says_so(self) -> None:
        process = HandProcess(NOWHERE)
        outcome = run(process, job(self.WANTED))[f"segment {CARD.name}"]
        assert outcome.stage.notes[0].startswith("not cropped")
        assert len(process.engine.seen[0].voxels_hu) == 12
        plain = HandProcess(CHEST)
        again = run(plain, job(None))[f"segment {CARD.name}"]
        assert outcome.stored is not None
        assert again.stored is not None
        assert outcome.stored.sop_instance_uid == again.stored.sop_instance_uid


@pytest.mark.parametrize("kind", BODY_OUTPUTS)
def test_a_report_that_is_there_is_adopted(kind: Output) -> None:
    process, what = HandProcess(CHEST), job(Location(BPR), kind)
    first, again = (run(process, what)[f"report {kind}"].stored for _ in range(2))
    assert first is not None
    assert again == replace(first, adopted=True)
