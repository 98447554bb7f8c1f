"""Models agree on an organ if their masks overlap, whatever they call it and however they divide it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.quality.agreement import check_agreement
from tests.support.cases.quality_case import BOXES, SHAPE, Chest, chest
from tests.support.cases.results_case import CARD, ellipsoids, small_series

ONE, OTHER = chest(), replace(chest(), name="other")


def compare(*cases: Chest) -> dict[tuple[str, str], CheckResult]:
    results = check_agreement([(case.card, case.segmentation) for case in cases])
    assert {result.check for result in results} <= {Check.AGREEMENT}
    return {(result.model, result.key): result for result in results}


def test_the_same_masks_agree_and_both_models_are_told() -> None:
    results = compare(ONE, OTHER)
    assert set(results) == {(model, key) for model in ("boxes", "other") for key in BOXES}
    assert {(result.value, result.passed) for result in results.values()} == {(1.0, True)}
    assert results["boxes", "heart"].detail == "Dice 1.00 with Heart of other"
    assert results["other", "heart"].segment_number == 3


def test_a_shifted_organ_does_not_agree() -> None:
    shifted = OTHER.relabelled((BOXES["heart"], 0), (np.s_[18:30, 16:38, 25:45], 3))
    results = compare(ONE, shifted)
    assert results["boxes", "heart"].value == pytest.approx(1 / 3)
    assert not results["boxes", "heart"].passed
    assert not results["other", "heart"].passed
    assert results["boxes", "lung_left"].passed


@pytest.mark.parametrize(("shift", "passed"), [(3, True), (4, False)])
def test_dice_decides_at_its_threshold(shift: int, passed: bool) -> None:
    moved = OTHER.relabelled((BOXES["heart"], 0), (np.s_[10 + shift : 22 + shift, 16:38, 25:45], 3))
    result = compare(ONE, moved)["boxes", "heart"]
    assert result.value == pytest.approx((12 - shift) / 12)
    assert result.passed is passed


def test_codes_decide_and_not_numbers_or_keys() -> None:
    keys = ("heart", "lung_left", "lung_right")
    renumbered = replace(OTHER, keys=keys).relabelled(
        (np.s_[:], 0), *((BOXES[key], number) for number, key in enumerate(keys, start=1))
    )
    results = compare(ONE, renumbered)
    assert {key for _, key in results} == set(keys)
    assert {result.value for result in results.values()} == {1.0}
    mirrored = OTHER.relabelled((BOXES["lung_left"], 2), (BOXES["lung_right"], 1))
    assert compare(ONE, mirrored)["boxes", "lung_left"].value == 0


def test_a_lung_agrees_with_its_lobes() -> None:
    keys = ("lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_lower_lobe_right")
    lobes = replace(OTHER, keys=keys).relabelled(
        (np.s_[:], 0),
        (np.s_[18:30, 14:44, 45:60], 1),
        (np.s_[6:18, 14:44, 45:60], 2),
        (np.s_[18:30, 14:44, 10:25], 3),
        (np.s_[6:18, 14:44, 10:25], 4),
    )
    results = compare(ONE, lobes)
    assert set(results) == {("boxes", "lung_left")}  # the right lung lacks its middle lobe
    assert results["boxes", "lung_left"].value == 1.0
    assert "Upper lobe of left lung, Lower lobe of left lung of other" in results["boxes", "lung_left"].detail


def test_three_models_are_compared_two_by_two() -> None:
    results = check_agreement([(c.card, c.segmentation) for c in (ONE, OTHER, replace(ONE, name="third"))])
    assert len(results) == 3 * 2 * len(BOXES)


def test_an_empty_structure_the_body_and_a_single_model_are_not_compared() -> None:
    empty = OTHER.relabelled((BOXES["heart"], 0))
    assert {key for _, key in compare(ONE, empty)} == set(BOXES) - {"heart"}
    assert check_agreement([(ONE.card, ONE.segmentation)]) == check_agreement([]) == ()
    found = ellipsoids(small_series())
    keys = {result.key for result in check_agreement([(CARD, found), (replace(CARD, name="b"), found)])}
    assert keys == {"lung_left", "lung_right", "airway", "bone"}


def test_other_grids_are_refused() -> None:
    small = Segmentation(np.zeros((1, *SHAPE[1:]), np.uint8), ONE.segmentation.segments)
    with pytest.raises(ValueError, match="cannot be compared"):
        check_agreement([(ONE.card, ONE.segmentation), (OTHER.card, small)])
