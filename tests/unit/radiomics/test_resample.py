"""Resampling and re-segmentation by IBSI's definitions, on rows whose values can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.domain.radiomics_settings import Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.radiomics.filters import filtered_images
from orthanc_plugin.radiomics.prepare import Region, prepare
from orthanc_plugin.radiomics.resample import Box, resampled

WHOLE = np.s_[0:1, 0:1, 0:4]


def row(*values: float) -> NDArray[np.float32]:
    return np.array([[values]], np.float32)


def along_x(
    image: NDArray[np.float32],
    mask: list[int],
    old_mm: float,
    new_mm: float,
    interpolation: Interpolation = Interpolation.LINEAR,
) -> tuple[list[float], list[bool]]:
    inside = np.array([[mask]], bool)
    box: Box = (slice(0, 1), slice(0, 1), slice(0, image.shape[2]))
    hu, there = resampled(image, inside, box, (1, 1, old_mm), (0, 0, new_mm), interpolation)
    return hu.ravel().tolist(), there.ravel().tolist()


def test_half_the_spacing_has_twice_the_voxels_about_the_same_centre() -> None:
    # New centres lie at -0.25, 0.25, 0.75, ... 3.25 of the old voxels; the ends repeat the outermost ones.
    hu, inside = along_x(row(0, 40, 80, 120), [1, 1, 0, 0], 2.0, 1.0)
    assert hu == [0, 10, 30, 50, 70, 90, 110, 120]
    assert inside == [True, True, True, True, False, False, False, False]


def test_a_grid_that_does_not_fit_is_rounded_up_and_stays_centred() -> None:
    # 4 voxels of 1 mm in voxels of 1.5 mm: 3 of them, at 0, 1.5 and 3 of the old ones.
    hu, inside = along_x(row(0, 40, 80, 120), [1, 1, 0, 0], 1.0, 1.5)
    assert hu == [0, 60, 120]
    assert inside == [True, True, False]  # the mask is exactly one half at 1.5


def test_a_spacing_that_divides_but_for_rounding_adds_no_voxel() -> None:
    assert len(along_x(row(1, 2, 3), [1, 1, 1], 0.1, 0.3)[0]) == 1


def test_hu_are_whole_numbers() -> None:
    assert along_x(row(0, 1, 3, 10), [1, 1, 1, 1], 2.0, 1.0)[0] == [0, 0, 1, 2, 2, 5, 8, 10]


def test_a_cubic_spline_overshoots_where_a_line_cannot() -> None:
    step = row(0, 0, 0, 0, 100, 100, 100, 100)
    linear, _ = along_x(step, [1] * 8, 2.0, 1.0)
    cubic, _ = along_x(step, [1] * 8, 2.0, 1.0, Interpolation.CUBIC)
    assert (min(linear), max(linear)) == (0, 100)
    assert min(cubic) < 0 < 100 < max(cubic)


def test_a_cubic_spline_gives_a_cubic_back_away_from_the_ends() -> None:
    x = np.arange(41.0)
    hu, _ = along_x(row(*(0.05 * (x - 20) ** 3)), [1] * 41, 2.0, 1.0, Interpolation.CUBIC)
    there = -0.25 + 0.5 * np.arange(82)
    np.testing.assert_array_equal(hu[20:62], np.rint(0.05 * (there[20:62] - 20) ** 3))


@pytest.mark.parametrize("interpolation", Interpolation)
def test_a_part_of_the_new_grid_is_that_of_the_whole(interpolation: Interpolation) -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(0, 200, (30, 40, 44)).astype(np.float32)
    whole_mask = np.zeros(image.shape, bool)
    box = np.s_[9:14, 20:31, 30:38]
    whole_mask[box] = rng.random((5, 11, 8)) > 0.4
    all_of_it = tuple(slice(0, size) for size in image.shape)
    old, new = (2.5, 0.7, 0.71), (1.5, 1.0, 0.9)
    hu, inside = resampled(image, whole_mask, all_of_it, old, new, interpolation)
    part_hu, part = resampled(image, whole_mask[box], box, old, new, interpolation, margin=1)
    z, y, x = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(inside))
    pz, py, px = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(part))
    np.testing.assert_array_equal(part[pz, py, px], inside[z, y, x])
    np.testing.assert_array_equal(part_hu[pz, py, px], hu[z, y, x])


def region(image: NDArray[np.float32], settings: RadiomicsSettings) -> Region:
    box: Box = (slice(0, 1), slice(0, 1), slice(0, image.shape[2]))
    return prepare(image, np.ones(image.shape, bool), box, (1.0, 1.0, 1.0), settings)


def test_a_range_takes_both_its_ends_and_leaves_the_morphological_mask() -> None:
    found = region(row(-501, -500, 400, 401), RadiomicsSettings(resegment_hu=(-500, 400)))
    assert found.intensity.ravel().tolist() == [False, True, True, False]
    assert found.morphological.all()


@pytest.mark.parametrize("box", [np.s_[0:4, 0:6, 0:7], np.s_[16:20, 12:20, 36:44]], ids=["first", "last"])
def test_the_wavelet_at_the_border_of_a_new_grid_is_that_of_the_whole_image(box: Box) -> None:
    image = np.random.default_rng(0).normal(0, 300, (20, 40, 44)).astype(np.float32)
    settings = RadiomicsSettings(spacing_mm=(1.5, 0.5, 0.5), wavelet=True)
    mask = np.zeros(image.shape, bool)
    mask[box] = True
    organ = prepare(image, mask[box], box, (3.0, 1.0, 1.0), settings)
    every = prepare(image, mask, np.s_[0:20, 0:40, 0:44], (3.0, 1.0, 1.0), settings)
    for (_, mine), (_, whole) in zip(
        filtered_images(organ.voxels_hu, organ.spacing_mm, organ.box, settings),
        filtered_images(every.voxels_hu, every.spacing_mm, every.box, settings),
        strict=True,
    ):
        np.testing.assert_array_equal(mine[organ.intensity], whole[every.intensity])


def test_outliers_are_beyond_so_many_population_deviations_of_the_mean() -> None:
    # Mean 10, deviation 30 (of ten voxels, divided by n): 100 is exactly three away and stays, with 2.9 it goes.
    image = row(*[0] * 9, 100)
    assert region(image, RadiomicsSettings(resegment_sigma=3)).intensity.all()
    assert not region(image, RadiomicsSettings(resegment_sigma=2.9)).intensity.ravel()[-1]


def test_deviations_are_those_within_the_range() -> None:
    # With 3000 they would be so large that nothing is an outlier; without it, 100 is one.
    image = row(*[0] * 9, 100, 3000)
    found = region(image, RadiomicsSettings(resegment_hu=(-1000, 400), resegment_sigma=2.9))
    assert found.intensity.ravel().tolist() == [True] * 9 + [False, False]


def test_pyradiomics_crops_both_masks_to_what_is_left() -> None:
    settings = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, resegment_hu=(0, 10))
    found = region(row(-1, 0, 11, 10, 12), settings)
    assert found.intensity.ravel().tolist() == [True, False, True]
    assert found.morphological.ravel().tolist() == [True, True, True]
    assert found.box[2] == slice(1, 4)


def test_an_organ_between_the_new_voxels_leaves_empty_masks() -> None:
    image = np.zeros((1, 1, 9), np.float32)
    mask = np.ones((1, 1, 1), bool)
    settings = RadiomicsSettings(spacing_mm=(0, 0, 9.0))
    found = prepare(image, mask, np.s_[0:1, 0:1, 1:2], (1.0, 1.0, 1.0), settings)
    assert not found.morphological.any()
    assert not found.intensity.any()


def test_a_spacing_of_zero_keeps_that_axis() -> None:
    image = np.zeros((3, 4, 4), np.float32)
    settings = RadiomicsSettings(spacing_mm=(0, 2, 2))
    found = prepare(image, np.ones(image.shape, bool), np.s_[0:3, 0:4, 0:4], (5.0, 1.0, 1.0), settings)
    assert found.spacing_mm == (5.0, 2, 2)
    assert found.morphological.shape == (3, 2, 2)
