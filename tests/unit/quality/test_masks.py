"""Each check passes correct boxes and fails boxes that were made wrong on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.quality.masks import check_masks
from tests.support.cases.quality_case import BOXES, SHAPE, chest, turned
from tests.support.cases.results_case import BODY, CARD, ellipsoids, small_series

GOOD = chest()
LUNG_CHECKS = {
    Check.COMPLETE,
    Check.ONE_PIECE,
    Check.SIDE,
    Check.VOLUME,
    Check.INSIDE_BODY,
    Check.PARTNER,
    Check.GAS,
    Check.IN_IMAGE,
    Check.CLOSED,
}
BLOB = np.s_[32:35, 14:18, 30:34]
"""48 voxels, 3.84 mL, far from the rest."""


def failed(results: dict[tuple[str, Check], CheckResult]) -> set[tuple[str, Check]]:
    return {asked for asked, result in results.items() if not result.passed}


def test_a_good_chest_passes_what_can_be_asked_of_it() -> None:
    results = GOOD.check()
    assert failed(results) == set()
    asked = {key: {check for k, check in results if k == key} for key in BOXES}
    whole = {Check.COMPLETE, Check.ONE_PIECE, Check.VOLUME}
    assert asked["lung_left"] == asked["lung_right"] == LUNG_CHECKS
    assert asked["heart"] == whole | {Check.BETWEEN_LUNGS}
    assert asked["spleen"] == whole


def test_results_name_model_and_segment_and_come_in_order() -> None:
    results = check_masks(GOOD.volume, GOOD.segmentation, GOOD.card)
    assert {(r.model, r.segment_number, r.key) for r in results} == {
        ("boxes", number, key) for number, key in enumerate(BOXES, start=1)
    }
    order = list(Check)
    assert [(r.segment_number, order.index(r.check)) for r in results] == sorted(
        (r.segment_number, order.index(r.check)) for r in results
    )


def test_values_are_what_was_measured() -> None:
    results = GOOD.check()
    values = {asked: (result.value, result.unit.value) for asked, result in results.items()}
    assert values["lung_left", Check.COMPLETE] == (6.0, "{slices}")
    assert values["spleen", Check.COMPLETE] == (2.0, "{slices}")
    assert values["heart", Check.ONE_PIECE] == (1.0, "{pieces}")
    assert values["lung_left", Check.SIDE] == (pytest.approx(140.0), "mm")
    assert values["heart", Check.VOLUME] == (pytest.approx(12 * 22 * 20 * 0.08), "mL")
    assert values["lung_right", Check.INSIDE_BODY] == (1.0, "1")
    assert values["heart", Check.BETWEEN_LUNGS] == (pytest.approx(0.5), "1")


@pytest.mark.parametrize(
    ("axes", "flips"),
    [((0, 1, 2), (0, 2)), ((0, 1, 2), (1, 2)), ((2, 0, 1), ()), ((2, 0, 1), (0, 1)), ((1, 0, 2), (1,))],
    ids=["feet first", "prone", "sagittal", "sagittal, reversed", "coronal"],
)
def test_left_is_where_the_affine_says(axes: tuple[int, int, int], flips: tuple[int, ...]) -> None:
    one, other = GOOD.check(), turned(GOOD, axes, flips).check()
    for asked in one:
        assert other[asked].passed
        if asked[1] is not Check.COMPLETE:  # COMPLETE depends on slices
            assert other[asked].value == pytest.approx(one[asked].value)


def test_an_oblique_series_has_its_sides() -> None:
    turn = np.deg2rad(30)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    volume = replace(GOOD.volume, affine=rotation @ GOOD.volume.affine)
    results = replace(GOOD, volume=volume).check()
    assert failed(results) == set()
    assert results["lung_left", Check.SIDE].value == pytest.approx(140 * np.cos(turn))


def test_mirrored_lungs_are_on_the_wrong_sides() -> None:
    mirrored = GOOD.relabelled((BOXES["lung_left"], 2), (BOXES["lung_right"], 1))
    results = mirrored.check()
    assert failed(results) == {("lung_left", Check.SIDE), ("lung_right", Check.SIDE)}
    assert results["lung_left", Check.SIDE].value == pytest.approx(-140)


def test_a_lung_without_its_partner_is_held_against_the_middle_of_the_body() -> None:
    left_alone = GOOD.relabelled((BOXES["lung_right"], 0))
    assert left_alone.check()["lung_left", Check.SIDE].passed
    right_called_left = GOOD.relabelled((BOXES["lung_left"], 0), (BOXES["lung_right"], 1))
    result = right_called_left.check()["lung_left", Check.SIDE]
    assert not result.passed
    assert "the middle of the body" in result.detail


@pytest.mark.parametrize(("shift", "passed"), [(4, True), (6, False)])
def test_the_middle_of_the_body_may_be_crossed_by_20_mm(shift: int, passed: bool) -> None:
    middle = 33 - shift  # columns of 4 mm; the body reaches from 4 to 61
    alone = GOOD.relabelled((np.s_[:], 0), (np.s_[6:30, 14:44, middle - 3 : middle + 3], 1))
    result = alone.check()["lung_left", Check.SIDE]
    assert result.passed is passed
    assert -4.0 * shift - 6 < result.value < -4.0 * shift + 6


def test_both_lungs_on_one_side_of_the_body_fail() -> None:
    halves = GOOD.relabelled(
        (BOXES["lung_right"], 0),
        (BOXES["lung_left"], 0),
        (np.s_[6:30, 14:44, 54:60], 1),
        (np.s_[6:30, 14:44, 46:52], 2),
    )
    assert failed(halves.check()) & {("lung_left", Check.SIDE), ("lung_right", Check.SIDE)} == {
        ("lung_right", Check.SIDE)
    }


def test_side_is_not_asked_where_nothing_tells_it() -> None:
    nothing = replace(GOOD.volume, voxels_hu=np.full(SHAPE, -1000, np.float32))
    alone = replace(GOOD, volume=nothing).relabelled((BOXES["lung_right"], 0))
    assert ("lung_left", Check.SIDE) not in alone.check()


@pytest.mark.parametrize(("first", "last"), [(0, 10), (30, 39), (0, 39)])
def test_an_organ_at_an_end_of_the_scan_is_cut_and_has_no_volume(first: int, last: int) -> None:
    cut = GOOD.relabelled((np.s_[first : last + 1, 16:38, 25:45], 3))
    results = cut.check()
    assert not results["heart", Check.COMPLETE].passed
    assert results["heart", Check.COMPLETE].value == 0
    assert ("heart", Check.VOLUME) not in results
    assert results["heart", Check.ONE_PIECE].passed is (first < 30)  # from 30 on, a piece of its own


def test_pieces_that_an_end_of_the_scan_cuts_may_be_joined_beyond_it_and_others_may_not() -> None:
    cut = GOOD.relabelled((BOXES["heart"], 0), (np.s_[30:40, 16:38, 25:45], 3))
    two = cut.relabelled((np.s_[36:40, 2:8, 2:12], 3)).check()["heart", Check.ONE_PIECE]
    assert (two.passed, two.value) == (True, 1)
    apart = cut.relabelled((np.s_[2:6, 2:8, 2:12], 3)).check()["heart", Check.ONE_PIECE]
    assert (apart.passed, apart.value) == (False, 2)
    inside = cut.check(searched=(0, 35))
    assert not inside["heart", Check.COMPLETE].passed
    assert inside["heart", Check.ONE_PIECE].passed


def test_the_ends_are_those_of_what_was_searched() -> None:
    results = GOOD.check(searched=(6, 39))
    assert failed(results) == {(key, Check.COMPLETE) for key in ("lung_left", "lung_right", "spleen")}
    assert GOOD.check(searched=(5, 30))["lung_left", Check.COMPLETE].value == 1


def test_a_second_piece_counts_from_one_ml() -> None:
    second = GOOD.relabelled((BLOB, 3))
    result = second.check()["heart", Check.ONE_PIECE]
    assert (result.passed, result.value) == (False, 2)
    assert "3.8 mL" in result.detail
    crumb = GOOD.relabelled((np.s_[32:34, 14:16, 30:33], 3))  # 12 voxels, 0.96 mL
    assert crumb.check()["heart", Check.ONE_PIECE].passed


def test_of_a_small_structure_a_small_piece_counts() -> None:
    small = replace(GOOD.relabelled((BOXES["spleen"], 0)), keys=("lung_left", "lung_right", "heart", "trachea"))
    pieces = small.relabelled((np.s_[30:35, 20:23, 30:33], 4), (np.s_[30:31, 26:28, 30:32], 4))  # 45 and 4 voxels
    result = pieces.check()["trachea", Check.ONE_PIECE]
    assert (result.passed, result.value) == (False, 2)


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    corner = GOOD.relabelled((np.s_[22:26, 38:42, 45:46], 0), (np.s_[22:25, 38:41, 44:45], 3))
    assert corner.check()["heart", Check.ONE_PIECE].passed


def test_volumes_no_adult_has_fail() -> None:
    small = GOOD.relabelled((BOXES["heart"], 0), (np.s_[10:14, 16:24, 25:35], 3))
    result = small.check()["heart", Check.VOLUME]
    assert (result.passed, result.value) == (False, pytest.approx(25.6))
    assert "expected 295 to 1600 mL (ICRP 89)" in result.detail


def test_lungs_of_the_air_around_the_body_are_outside_it() -> None:
    outside = GOOD.relabelled((BOXES["lung_left"], 0), (np.s_[6:30, 2:50, 62:63], 1), (np.s_[6:30, 1:7, 20:50], 1))
    results = outside.check()
    assert results["lung_left", Check.INSIDE_BODY].value == 0
    assert not results["lung_left", Check.INSIDE_BODY].passed
    assert results["lung_right", Check.INSIDE_BODY].passed


def test_lungs_cut_by_the_edge_of_the_image_are_not_asked_for_the_body() -> None:
    edge = GOOD.relabelled((np.s_[10:12, 20:22, 60:64], 1))
    results = edge.check()
    assert ("lung_left", Check.INSIDE_BODY) not in results
    assert ("lung_right", Check.INSIDE_BODY) in results


@pytest.mark.parametrize(
    ("box", "value"), [(np.s_[10:22, 16:38, 48:60], 1.06), (np.s_[32:38, 16:38, 25:45], 0.5)], ids=["shifted", "above"]
)
def test_a_heart_that_is_not_between_the_lungs_fails(box: object, value: float) -> None:
    shifted = GOOD.relabelled((BOXES["heart"], 0), (box, 3))
    result = shifted.check()["heart", Check.BETWEEN_LUNGS]
    assert not result.passed
    assert result.value == pytest.approx(value, abs=0.01)


def test_the_heart_lies_between_lungs_that_are_lobes() -> None:
    keys = (
        "heart",
        "lung_upper_lobe_left",
        "lung_lower_lobe_left",
        "lung_upper_lobe_right",
        "lung_middle_lobe_right",
        "lung_lower_lobe_right",
    )
    lobes = replace(GOOD, keys=keys).relabelled(
        (np.s_[:], 0),
        (BOXES["heart"], 1),
        (np.s_[18:30, 14:44, 45:60], 2),
        (np.s_[6:18, 14:44, 45:60], 3),
        (np.s_[20:30, 14:44, 10:25], 4),
        (np.s_[15:20, 14:44, 10:25], 5),
        (np.s_[6:15, 14:44, 10:25], 6),
    )
    results = lobes.check()
    assert failed(results) == set()
    assert results["heart", Check.BETWEEN_LUNGS].value == pytest.approx(0.5)
    assert ("lung_middle_lobe_right", Check.INSIDE_BODY) in results


def test_one_voxel_is_asked_and_an_empty_structure_is_not() -> None:
    voxel = GOOD.relabelled((BOXES["heart"], 0), (BOXES["spleen"], 0), (np.s_[12, 20, 30], 3))
    results = voxel.check()
    assert failed(results) == {("heart", Check.VOLUME)}
    assert results["heart", Check.ONE_PIECE].value == 1
    assert "spleen" not in {key for key, _ in results}
    assert check_masks(GOOD.volume, Segmentation(np.zeros(SHAPE, np.uint8), ()), CARD) == ()


def test_the_body_is_asked_nothing_and_tissue_only_what_has_a_meaning() -> None:
    series = small_series()
    results = check_masks(series.volume, ellipsoids(series), CARD)
    assert {result.key for result in results if result.check is not Check.CONTRAST} == {
        "lung_left",
        "lung_right",
        "airway",
    }
    assert {result.check for result in results if result.key == "bone"} == {Check.CONTRAST}


def test_structures_that_cover_others_are_measured_whole_and_their_stored_remainder_not_at_all() -> None:
    heart, chamber = GOOD.segmentation.segments[2:4]
    inside = GOOD.relabelled((np.s_[12:20, 20:30, 30:40], 4))
    whole = replace(inside.segmentation, segments=(replace(heart, covers=(3, 4)), chamber))
    result = {(r.key, r.check): r for r in check_masks(GOOD.volume, whole, GOOD.card)}
    assert result["heart", Check.VOLUME].value == pytest.approx(12 * 22 * 20 * 0.08 + 4 * 14 * 15 * 0.08)
    stored = replace(inside.segmentation, segments=(replace(heart, key="heart_remainder"), chamber))
    assert {r.key for r in check_masks(GOOD.volume, stored, GOOD.card)} == {"spleen"}
    assert BODY.key not in {r.key for r in check_masks(GOOD.volume, stored, CARD)}
