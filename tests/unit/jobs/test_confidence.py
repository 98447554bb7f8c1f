"""The confidence of a model goes from its stage into the checks, their report and `HoldBack`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.job import StageOutcome
from orthanc_plugin.domain.masks import Confidence, Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.quality.confidence import BORDER_BITS, MEMBERS_DICE
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import ellipsoids
from tests.support.fakes.hand_job import SERIES, HandProcess, run
from tests.unit.jobs.test_checked import SEGMENT, checked_job, finds

SURE = Confidence("lung_left", 8, 0.98, 0.4)
DOUBTFUL = Confidence("lung_right", 8, MEMBERS_DICE - 0.1, BORDER_BITS + 0.1)


@pytest.fixture
def process() -> HandProcess:
    made = HandProcess(CHEST)
    finds(made, replace(ellipsoids(SERIES), confidence=(SURE, DOUBTFUL)))
    return made


def about(outcome: StageOutcome) -> dict[tuple[str, Check], CheckResult]:
    return {(one.key, one.check): one for one in outcome.stage.checks if one.check in (Check.MEMBERS, Check.BORDER)}


def test_confidence_is_checked_and_reported_with_the_numbers_of_the_seg(process: HandProcess) -> None:
    outcomes = run(process, checked_job(Output.CHECKS))
    found = about(outcomes["check"])
    assert {asked: one.passed for asked, one in found.items()} == {
        ("lung_left", Check.MEMBERS): True,
        ("lung_left", Check.BORDER): True,
        ("lung_right", Check.MEMBERS): False,
        ("lung_right", Check.BORDER): False,
    }
    seg, report = (
        process.stored[outcomes[name].stored.sop_instance_uid]
        for name in (SEGMENT, "check")  # type: ignore[union-attr]
    )
    numbers = {item.SegmentLabel: item.SegmentNumber for item in seg.SegmentSequence}
    assert found["lung_right", Check.MEMBERS].segment_number == numbers["Right lung"]
    named = [element.value[0] for element in report.iterall() if element.keyword == "ConceptNameCodeSequence"]
    codes = {item.CodeValue for item in named}
    assert {"QC_MEMBERS", "QC_MEMBERS_DICE", "QC_BORDER", "QC_ENTROPY"} <= codes


def test_a_rule_may_hold_back_what_the_members_dispute(process: HandProcess) -> None:
    outcomes = run(process, checked_job(hold_back=(Check.MEMBERS,)))
    assert outcomes[SEGMENT].stored is None
    assert {(one.key, one.check) for one in outcomes[SEGMENT].stage.checks} == {("lung_right", Check.MEMBERS)}


def test_an_adopted_seg_has_no_confidence_and_a_model_of_one_pass_writes_none(process: HandProcess) -> None:
    run(process, checked_job(Output.CHECKS))
    again = run(process, checked_job(Output.CHECKS))
    assert again[SEGMENT].stage.confidence == ()
    assert about(again["check"]) == {}
    assert '"confidence"' not in again[SEGMENT].to_json(), "as earlier versions wrote it"


def test_a_structure_that_is_not_in_the_seg_has_no_result(process: HandProcess) -> None:
    found = ellipsoids(SERIES)
    left_only = tuple(segment for segment in found.segments if segment.key != "lung_right")
    finds(process, Segmentation(found.labels, left_only, confidence=(SURE,)))
    assert {key for key, _ in about(run(process, checked_job(Output.CHECKS))["check"])} == {"lung_left"}
