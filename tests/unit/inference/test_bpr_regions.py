"""Landmarks, regions, coverage and tag of curves made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.domain.body import Region
from orthanc_plugin.inference.bpr import regions
from orthanc_plugin.inference.bpr.scores import body_curve
from tests.support.cases.bpr_case import SLOPE, TABLE, bpr_model

MODEL = bpr_model()


def line(first: float, last: float, spacing_mm: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and positions of a scan from one score to another, as fast as people's rise."""
    z = np.arange(0, abs(last - first) / SLOPE, spacing_mm)
    return first + np.sign(last - first) * SLOPE * z, z


def landmarks_of(scores: np.ndarray, z: np.ndarray):  # type: ignore[no-untyped-def]
    return {landmark.key: landmark for landmark in regions.landmarks(body_curve(scores, z, MODEL), z, MODEL)}


@pytest.mark.parametrize(("first", "last"), [(-5.0, 110.0), (110.0, -5.0)])
def test_landmarks_lie_where_the_curve_crosses_their_score(first: float, last: float) -> None:
    scores, z = line(first, last)
    found = landmarks_of(scores, z)
    assert list(found) == list(TABLE)
    for key, (mean, sd) in TABLE.items():
        assert found[key].z_mm == pytest.approx(abs(mean - first) / SLOPE, abs=0.01)
        assert found[key].sd_mm == pytest.approx(sd / SLOPE, rel=1e-6)
        assert abs(z[found[key].slice_index] - found[key].z_mm) <= 1.5 + 1e-6


def test_landmarks_outside_at_the_rim_and_in_gaps_are_not_invented() -> None:
    scores, z = line(44.0, 76.0)
    assert {"L1", "C7"}.isdisjoint(landmarks_of(scores, z))  # outside
    assert "lung_start" not in landmarks_of(scores, z)  # nearest slice is the first
    scores[(scores > 56) & (scores < 61)] = np.nan  # 42 mm
    found = landmarks_of(scores, z)
    assert {"Th8", "Th7"}.isdisjoint(found)
    assert {"Th9", "Th6"} <= found.keys()


def test_a_ripple_moves_no_landmark_twice() -> None:
    scores, z = line(20, 100)
    wavy = scores + 0.8 * np.sin(z / 5)
    at = [landmark.z_mm for landmark in regions.landmarks(body_curve(wavy, z, MODEL), z, MODEL)]
    assert at == sorted(at)


def test_regions_are_half_open_and_overlap() -> None:
    scores = np.array([-1, 0, 25.532, 28.824, 56.855, 56.856, 75.794, 81.826, 81.827, 90, np.nan])
    assert regions.regions(scores, MODEL) == {
        Region.LEGS: (0,),
        Region.PELVIS: (1, 2),
        Region.ABDOMEN: (2, 3, 4),
        Region.CHEST: (4, 5),
        Region.SHOULDER_NECK: (6, 7, 8),
        Region.HEAD: (8, 9),
    }


def test_slices_far_above_the_head_count_only_in_peer_mode() -> None:
    scores = np.array([100.0, 112.0, 114.0, 300.0])
    assert regions.regions(scores, MODEL)[Region.HEAD] == (0, 1, 2, 3)
    assert regions.regions(scores, MODEL, top_sd=3)[Region.HEAD] == (0, 1)


def test_coverage_is_the_part_of_the_score_range_in_the_scan() -> None:
    covered = regions.coverage(np.array([np.nan, 60.373, 70.0, 110.0]), MODEL)
    assert covered == pytest.approx(
        {Region.PELVIS: 0, Region.ABDOMEN: 0, Region.CHEST: 0.5, Region.SHOULDER_NECK: 1, Region.HEAD: 1}, abs=1e-4
    )


def test_what_a_table_lacks_is_not_reported() -> None:
    short = replace(MODEL, look_up=tuple(row for row in MODEL.look_up if row.key in {"Th12", "Th1", "Th8"}))
    scores, _ = line(30, 90)
    assert list(regions.regions(scores, short)) == [Region.CHEST]
    assert list(regions.coverage(scores, short)) == [Region.CHEST]
    assert regions.tag(scores, 500, short) == "NONE"


@pytest.mark.parametrize(
    ("first", "last", "tag"),
    [
        (-5, 110, "HEAD-NECK-CHEST-ABDOMEN-PELVIS"),
        (44, 78, "CHEST"),
        (24, 76, "CHEST-ABDOMEN"),
        (-2, 55, "ABDOMEN-PELVIS"),
        (70, 110, "HEAD-NECK"),
        (60, 110, "HEAD-NECK"),
        (60, 72, "CHEST"),
        (200, 250, "NONE"),
    ],
)
def test_tag(first: float, last: float, tag: str) -> None:
    scores, z = line(first, last)
    assert regions.tag(scores, float(np.ptp(z)), MODEL) == tag


def test_parts_between_are_filled_in() -> None:
    scores = np.array([-1.0, 29.0, 85.0, 101.0])  # few slices, but landmarks lie between the lowest and the highest
    assert regions.tag(scores, 900, MODEL) == "HEAD-NECK-CHEST-ABDOMEN-PELVIS"


def test_a_short_scan_is_what_most_of_its_slices_are() -> None:
    scores = np.array([54.5, 60, 70, 73.5, 75.0])
    assert regions.tag(scores, 90, MODEL) == "CHEST"
    assert regions.tag(np.array([np.nan, np.nan]), 90, MODEL) == "NONE"
