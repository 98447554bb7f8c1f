"""Landmarks are the ends of the lungs, if they lie inside the volume."""

from __future__ import annotations

import numpy as np

from orthanc_plugin.codes import BOTTOM, TOP
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.quality.landmarks import find_landmarks
from tests.support.cases.results_case import BONE, LUNG_LEFT, LUNG_RIGHT, segment, small_series

SERIES = small_series(slices=10)


def lungs(left: slice, right: slice) -> Segmentation:
    labels = np.zeros(SERIES.volume.voxels_hu.shape, np.uint8)
    labels[left, 5:9, 20:25] = LUNG_LEFT.number
    labels[right, 5:9, 5:9] = LUNG_RIGHT.number
    return Segmentation(labels, (segment(LUNG_LEFT), segment(LUNG_RIGHT)))


def test_both_lungs_together_give_bottom_and_top() -> None:
    bottom, top = find_landmarks(lungs(slice(2, 6), slice(3, 9)), SERIES.volume)
    assert (bottom.name, bottom.modifier, bottom.slice_index, bottom.z_mm) == ("lung bottom", BOTTOM, 2, -290.0)
    assert (top.name, top.modifier, top.slice_index, top.z_mm) == ("lung top", TOP, 8, -260.0)


def test_a_lung_that_touches_the_first_slice_has_no_bottom() -> None:
    assert [found.name for found in find_landmarks(lungs(slice(2, 6), slice(0, 9)), SERIES.volume)] == ["lung top"]


def test_a_lung_that_touches_the_last_slice_has_no_top() -> None:
    assert [found.name for found in find_landmarks(lungs(slice(2, 10), slice(3, 9)), SERIES.volume)] == ["lung bottom"]


def test_a_lung_that_touches_an_end_of_what_was_searched_has_no_end_there() -> None:
    found = find_landmarks(lungs(slice(3, 6), slice(3, 9)), SERIES.volume, searched=(3, 9))
    assert [landmark.name for landmark in found] == ["lung top"]
    assert find_landmarks(lungs(slice(3, 6), slice(3, 9)), SERIES.volume, searched=(3, 8)) == ()


def test_without_lungs_there_is_no_landmark() -> None:
    labels = np.full(SERIES.volume.voxels_hu.shape, BONE.number, np.uint8)
    assert find_landmarks(Segmentation(labels, (segment(BONE),)), SERIES.volume) == ()
