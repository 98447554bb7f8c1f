"""`InputQuality` of a rule: at each limit a job notes or refuses, and the report is stored like the other results."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from orthanc_plugin.config.rule import Rule
from orthanc_plugin.domain.input_quality import REFUSABLE, InputCheck, InputLimits
from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.domain.plan import Location, Output, Plan
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.quality.scan import measure_scan
from orthanc_plugin.results.sr.input_quality import CONCEPTS
from orthanc_plugin.series.read import read_series
from tests.support.cases.body_results_case import values
from tests.support.cases.input_quality_case import scan_with_metal
from tests.support.cases.location_case import CHEST
from tests.support.fakes.hand_job import ABSENT, BPR, HandProcess, job, run, step

NO, YES = "373067005", "373066001"
KEYS = {"MaxNoise": InputCheck.NOISE, "MaxTruncated": InputCheck.TRUNCATED, "MaxMetal": InputCheck.METAL}


@pytest.fixture(scope="module")
def faulty() -> CtSeries:
    """A phantom with every fault that a rule may refuse; its noise is above 1 HU."""
    series = read_series(encode_phantom(make_phantom((40, 96, 96))))
    voxels = series.volume.voxels_hu.copy()
    voxels[20:24, 48, 48] = 3071
    voxels[30:] = np.roll(voxels[30:], 10, axis=2)
    voxels[11] = voxels[10]
    volume = replace(series.volume, voxels_hu=np.ascontiguousarray(voxels[:, :, 20:]))
    return replace(series, volume=volume)


def retrieved(series: CtSeries, **input_quality: Any) -> StageOutcome:
    """Retrieve the series in a job of a rule with these limits."""
    process = HandProcess(CHEST)
    limits = Rule.model_validate({"Name": "a", "InputQuality": input_quality}).input_quality.limits
    what = job(ABSENT)
    what = replace(what, plan=replace(what.plan, input_limits=limits))
    process.series[what.series_instance_uid] = series
    with closing(process.sessions.open(what)) as session:
        return step({}, "retrieve", session.retrieve)


def failed(outcome: StageOutcome) -> set[InputCheck]:
    return {check for check in InputCheck if any(f"input {check} FAILED" in note for note in outcome.stage.notes)}


@pytest.mark.parametrize("key", KEYS)
def test_a_check_fails_above_its_limit_and_not_at_it(faulty: CtSeries, key: str) -> None:
    check = KEYS[key]
    value = next(f.value for f in measure_scan(faulty, InputLimits()) if f.check is check)
    assert value is not None
    assert check not in failed(retrieved(faulty, **{key: value}))
    assert check in failed(retrieved(faulty, **{key: float(np.nextafter(value, 0))}))


@pytest.mark.parametrize("check", REFUSABLE)
def test_a_failed_check_is_noted_unless_the_rule_refuses_it(faulty: CtSeries, check: InputCheck) -> None:
    noted = retrieved(faulty, MaxNoise=1)
    assert (ending([noted]).state, check in failed(noted)) == (JobState.DONE, True)
    refused = ending([retrieved(faulty, MaxNoise=1, Refuse=[check])])
    assert (refused.state, refused.reason) == (JobState.SKIPPED, Refusal.INPUT_QUALITY)
    assert f"{check}: " in refused.detail


@pytest.mark.parametrize(
    "keys",
    [
        {"MaxNoise": 0}, {"MaxNoise": 1000.1}, {"MaxTruncated": -0.1}, {"MaxTruncated": 1.1}, {"MaxMetal": -0.1},
        {"MaxMetal": 1.1}, {"Refuse": ["padding"]}, {"Refuse": ["contrast"]}, {"Refuse": ["nonsense"]}, {"Noise": 1},
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate({"Name": "a", "InputQuality": keys})


def test_each_key_stands_in_the_plan_and_its_digest() -> None:
    plain = job(ABSENT).plan
    for keys in ({"MaxNoise": 9}, {"MaxTruncated": 0.5}, {"MaxMetal": 0.5}, {"Refuse": ["metal", "noise"]}):
        limits = Rule.model_validate({"Name": "a", "InputQuality": keys}).input_quality.limits
        chosen = replace(plain, input_limits=limits)
        assert chosen.digest != plain.digest
        assert Plan.from_json(chosen.to_json()) == chosen
    assert "input_limits" not in plain.to_json()


def test_the_order_of_refusals_is_no_part_of_the_plan() -> None:
    one, other = (
        Rule.model_validate({"Name": "a", "InputQuality": {"Refuse": checks}}).input_quality.limits
        for checks in (["metal", "noise"], ["noise", "metal", "noise"])
    )
    assert one == other


def reported(process: HandProcess) -> EnrichJob:
    """A job that asks for the report on a series with metal, whose header names the chest."""
    what = job(Location(BPR), Output.INPUT_QUALITY)
    process.series[what.series_instance_uid] = scan_with_metal()
    return what


def test_a_job_stores_the_report_with_number_answer_and_sentence() -> None:
    process = HandProcess(CHEST)
    outcome = run(process, reported(process))["report input-quality"]
    assert outcome.stored is not None
    report = process.stored[outcome.stored.sop_instance_uid]
    assert (report.Modality, report.SeriesDescription[:13]) == ("SR", "Input quality")
    (group,) = values(report, "125007")
    answers = {check: values(group, fine.value) for check, (fine, _) in CONCEPTS.items()}
    assert answers[InputCheck.METAL][0].ConceptCodeSequence[0].CodeValue == NO
    assert answers[InputCheck.BODY_PART][0].ConceptCodeSequence[0].CodeValue == YES
    (metal,) = values(group, CONCEPTS[InputCheck.METAL][1].value)
    assert metal.MeasuredValueSequence[0].FloatingPointValue == pytest.approx(1 / 12)
    said = [item.TextValue for item in values(group, "121106")]
    assert sum(text.startswith("input metal FAILED: ") for text in said) == 1
    assert len(said) == len(InputCheck)


def test_the_report_is_adopted_when_it_is_there_and_other_limits_make_another() -> None:
    process = HandProcess(CHEST)
    what = reported(process)
    first = run(process, what)["report input-quality"].stored
    again = run(process, what)["report input-quality"].stored
    strict = replace(what, plan=replace(what.plan, input_limits=InputLimits(max_metal=0.5)))
    other = run(process, strict)["report input-quality"].stored
    assert first is not None
    assert again == replace(first, adopted=True)
    assert other is not None
    assert other.sop_instance_uid != first.sop_instance_uid


def test_a_rule_that_does_not_ask_gets_no_report() -> None:
    process = HandProcess(CHEST)
    assert "report input-quality" not in run(process, job(ABSENT))
    assert all("Input quality" not in ds.SeriesDescription for ds in process.stored.values())
