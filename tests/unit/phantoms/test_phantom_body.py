"""The body phantom has its anatomy in order, another person for every seed, and levels at the stated heights."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from orthanc_plugin.catalog.bpr import LANDMARKS
from orthanc_plugin.phantoms.dicom import encode_phantom
from tests.support.phantoms.body import LEVELS_MM, BodyPhantom, make_body_phantom

SEEDS = range(3)


@cache
def body(seed: int) -> BodyPhantom:
    return make_body_phantom(seed, spacing_mm=(10.0, 5.0, 5.0))


def at(found: BodyPhantom, key: str, above_mm: float = 0.0) -> np.ndarray:
    """Return HU of the slice nearest to a level."""
    volume = found.phantom.volume
    index = round((found.levels_mm[key] + above_mm - volume.affine[2, 3]) / volume.spacing_mm[0])
    return np.asarray(volume.voxels_hu[index])


def area_cm2(picture: np.ndarray, low: float, high: float) -> float:
    return float(np.count_nonzero((picture > low) & (picture < high)) * 0.25)


def test_every_landmark_of_body_part_regression_has_a_height() -> None:
    assert LEVELS_MM.keys() == set(LANDMARKS)
    upward = (
        "pelvis_start femur_end L5 pelvis_end L1 Th12 lung_start Th8 lung_end C7 C2 teeth C1 nose eyes_end head_end"
    )
    heights = [LEVELS_MM[key] for key in upward.split()]
    assert heights == sorted(heights)


@pytest.mark.parametrize("seed", SEEDS)
def test_levels_rise_as_in_the_reference_body(seed: int) -> None:
    levels = body(seed).levels_mm
    assert sorted(levels, key=lambda key: levels[key]) == sorted(LEVELS_MM, key=lambda key: LEVELS_MM[key])


@pytest.mark.parametrize("seed", SEEDS)
def test_lungs_lie_between_their_levels(seed: int) -> None:
    found = body(seed)

    def lung_cm2(key: str, above_mm: float = 0.0) -> float:
        labels = found.phantom.labels
        index = round((found.levels_mm[key] + above_mm - found.phantom.volume.affine[2, 3]) / 10.0)
        inside = np.maximum.accumulate(labels[index], 1) & np.maximum.accumulate(labels[index][:, ::-1], 1)[:, ::-1]
        picture = found.phantom.volume.voxels_hu[index]
        return float(np.count_nonzero(inside.astype(bool) & (picture < -600)) * 0.25)

    assert lung_cm2("Th4") > 50
    assert lung_cm2("lung_end", 25) < 15
    assert lung_cm2("L5") < 40


@pytest.mark.parametrize("seed", SEEDS)
def test_neck_is_narrow_and_the_skull_a_ring_around_the_brain(seed: int) -> None:
    found = body(seed)
    assert area_cm2(at(found, "C4"), -200, 3000) < 0.5 * area_cm2(at(found, "Th4"), -200, 3000)
    eyes = at(found, "eyes_end", 15)
    rows, columns = np.nonzero(eyes > 500)
    centre = eyes[int(rows.mean()) - 2 : int(rows.mean()) + 3, int(columns.mean()) - 2 : int(columns.mean()) + 3]
    assert area_cm2(eyes, 500, 3000) > 10
    assert -50 < np.median(centre) < 100


def test_a_part_of_the_scan_shows_the_same_person() -> None:
    part = make_body_phantom(1, (-100.0, 100.0), (10.0, 5.0, 5.0))
    assert part.levels_mm == body(1).levels_mm
    assert part.phantom.volume.affine[2, 3] == -100.0
    whole = body(1).phantom.volume
    first = round((-100.0 - whole.affine[2, 3]) / 10.0)
    same = np.abs(part.phantom.volume.voxels_hu - whole.voxels_hu[first : first + 21]).mean()
    assert same < 60, "the same but for noise"


def test_same_seed_same_body_other_seed_another_person() -> None:
    again = make_body_phantom(0, spacing_mm=(10.0, 5.0, 5.0))
    np.testing.assert_array_equal(again.phantom.volume.voxels_hu, body(0).phantom.volume.voxels_hu)
    assert body(1).levels_mm["head_end"] != body(0).levels_mm["head_end"]


def test_a_body_is_no_patient_and_no_two_parts_share_uids() -> None:
    parts = [make_body_phantom(0, heights, (20.0, 20.0, 20.0)).phantom for heights in ((-100.0, 0.0), (0.0, 100.0))]
    first, other = (encode_phantom(part)[0] for part in parts)
    assert first.QualityControlImage == "YES"
    assert first.SeriesInstanceUID != other.SeriesInstanceUID
