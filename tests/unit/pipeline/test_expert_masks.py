"""A rule with `Measure: expert`: a job measures the masks that others made of its series, and runs no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.config.rule import Rule
from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.domain.plan import Measure, Output, Plan
from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsSettings
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.jobs.masks import ArchiveMasks
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.support.cases.foreign_case import balls, highdicom_seg, rtstruct, square
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import ellipsoids, encode
from tests.support.fakes.hand_job import SERIES, HandProcess, run

PLAN = Plan(
    "expert", (), (Output.RADIOMICS,), "local", measure=Measure.EXPERT,
    radiomics=RadiomicsSettings(classes=(FeatureClass.FIRSTORDER,)),
)  # fmt: skip
JOB = EnrichJob("local", "2.25.100", "2.25.200", "f" * 64, 0, PLAN)


def drawn(number: int = 0, **attributes: object) -> Dataset:
    ds = highdicom_seg(SERIES, balls(SERIES, (0.2, 0.1, 0.4), radius=0.4))
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = f"2.25.70{number}", f"2.25.71{number}", 40 + number
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def process_with(*masks: Dataset) -> HandProcess:
    process = HandProcess(CHEST)
    for ds in masks:
        process.archive.store(ds)
    return process


def end_of(outcomes: dict[str, StageOutcome]) -> tuple[JobState, str, str]:
    end = ending([*outcomes.values()])
    return end.state, end.reason, end.detail


def test_each_object_of_others_gives_a_report_and_no_model_runs() -> None:
    contours = rtstruct(SERIES, {"GTV": {4: [square(4.6, 4.6, 12.4, 12.4)]}})
    process = process_with(drawn(1), drawn(2), contours)
    outcomes = run(process, JOB)
    assert [*outcomes] == [
        "retrieve", "find masks", "measure masks 2.25.7001", "measure masks 2.25.701", "measure masks 2.25.702",
        "check masks",
    ]  # fmt: skip
    assert end_of(outcomes) == (JobState.DONE, "", "")
    stored = [outcome.stored for outcome in outcomes.values() if outcome.stored is not None]
    assert [one.kind for one in stored] == [Output.RADIOMICS] * 3
    rows = [read_radiomics_sr(process.stored[one.sop_instance_uid])[0] for one in stored]
    assert [row.seg_sop_instance_uid for row in rows] == ["2.25.7001", "2.25.701", "2.25.702"]
    assert process.engine.seen == []


def test_masks_of_ours_and_of_other_series_are_left_out() -> None:
    other = drawn(2)
    other.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.999"
    outcomes = run(process_with(encode(SERIES, ellipsoids(SERIES)), other, drawn(1)), JOB)
    assert [name for name in outcomes if name.startswith("measure")] == ["measure masks 2.25.701"]


def test_masks_that_do_not_fit_leave_a_note_and_the_others_are_measured() -> None:
    outcomes = run(process_with(drawn(1, FrameOfReferenceUID="2.25.9"), drawn(2)), JOB)
    assert outcomes["measure masks 2.25.701"].stage.notes == (
        "mask-frame-of-reference: the masks have the frame of reference 2.25.9, "
        f"and the CT has {SERIES.frame_of_reference_uid}",
    )
    assert outcomes["measure masks 2.25.702"].stored is not None
    assert end_of(outcomes)[0] is JobState.DONE


def test_a_series_whose_masks_do_not_fit_is_skipped_with_the_reasons() -> None:
    state, reason, detail = end_of(run(process_with(drawn(1, FrameOfReferenceUID="2.25.9")), JOB))
    assert (state, reason) == (JobState.SKIPPED, Refusal.NO_MASKS)
    assert detail.startswith("mask-frame-of-reference: ")


def test_a_series_without_masks_is_skipped() -> None:
    assert end_of(run(process_with(), JOB)) == (
        JobState.SKIPPED,
        "no-masks",
        "the study has no SEG and no RT structure set of others for this series",
    )


def test_names_of_structures_stay_in_the_archive() -> None:
    """People call structures what they like; notes of stages are kept in the database and logged."""
    contours = rtstruct(SERIES, {"Doe^Jane": {4: [square(-9, 4, 12, 12)]}})
    outcomes = run(process_with(contours), JOB)
    stage = outcomes["measure masks 2.25.7001"]
    assert stage.stage.notes == ("notes on the masks in the report: 2",)
    assert "Doe" not in "".join(outcome.to_json() for outcome in outcomes.values())


def test_running_again_measures_what_was_drawn_later_and_adopts_the_rest() -> None:
    process = process_with(drawn(1))
    run(process, JOB)
    process.archive.store(drawn(2))
    outcomes = run(process, JOB)
    first, second = (outcomes[f"measure masks 2.25.70{n}"].stored for n in (1, 2))
    assert first is not None
    assert second is not None
    assert (first.adopted, second.adopted) == (True, False)


def test_after_a_crash_the_recorded_list_counts() -> None:
    process = process_with(drawn(1))
    records = {"find masks": run(process, JOB)["find masks"]}
    process.archive.store(drawn(2))
    assert [name for name in run(process, JOB, records) if name.startswith("measure")] == ["measure masks 2.25.701"]


def test_masks_that_vanish_meanwhile_leave_a_note() -> None:
    process = process_with(drawn(1))
    records = {"find masks": run(process, JOB)["find masks"]}
    gone = HandProcess(CHEST)
    assert end_of(run(gone, JOB, records))[1] == "no-masks"
    with pytest.raises(MaskError, match="gone from its archive"):
        ArchiveMasks(gone.archive).read(records["find masks"].masks[0])


def test_a_plan_for_models_is_stored_and_hashed_as_before() -> None:
    plain = Plan("default", (), (Output.SEG,), "local")
    assert "measure" not in plain.to_json()
    assert plain.digest != replace(plain, measure=Measure.EXPERT).digest
    assert Plan.from_json(PLAN.to_json()) == PLAN


def test_values_are_those_of_the_voxels_that_were_drawn() -> None:
    process = process_with(drawn(1))
    voxels = np.random.default_rng(0).normal(0, 40, SERIES.volume.voxels_hu.shape).astype(np.float32)
    process.series["2.25.200"] = replace(SERIES, volume=replace(SERIES.volume, voxels_hu=voxels))
    stored = run(process, JOB)["measure masks 2.25.701"].stored
    assert stored is not None
    rows = read_radiomics_sr(process.stored[stored.sop_instance_uid])
    mean = next(row.value for row in rows if row.feature == "firstorder_Mean")
    assert mean == pytest.approx(voxels[balls(SERIES, (0.2, 0.1, 0.4), radius=0.4)[0]].mean(), rel=1e-5)


def test_a_rule_for_masks_needs_radiomics() -> None:
    with pytest.raises(ValueError, match='Measure "expert" needs Radiomics'):
        Rule.model_validate({"Name": "r", "Measure": "expert", "Radiomics": False})
