"""Distances between masks: shapes with known answers, SimpleITK as second implementation, and the published tool."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from orthanc_plugin.validation.distances import _distances, compare_masks, surface

SPACING = (2.5, 0.7, 1.1)
Mask = NDArray[np.bool_]


def box(z: slice, y: slice, x: slice, shape: tuple[int, int, int] = (14, 16, 18)) -> Mask:
    mask = np.zeros(shape, bool)
    mask[z, y, x] = True
    return mask


def blob(seed: int, shape: tuple[int, int, int] = (14, 24, 22)) -> Mask:
    """A lumpy body of several pieces that reaches an edge of the image."""
    noise = SimpleITK.GetImageFromArray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    smooth = SimpleITK.GetArrayFromImage(SimpleITK.SmoothingRecursiveGaussian(noise, 2.0))
    return np.asarray(smooth > np.percentile(smooth, 80))


def test_equal_masks_agree_in_everything() -> None:
    mask = blob(1)
    found = compare_masks(mask, mask, SPACING, 0.0)
    assert found.distances is not None
    assert (found.dice, found.distances.hausdorff_mm, found.distances.hd95_mm) == (1.0, 0.0, 0.0)
    assert (found.distances.mean_mm, found.distances.surface_dice) == (0.0, 1.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_of_one_voxel_is_one_spacing(axis: int) -> None:
    mask = box(slice(4, 9), slice(4, 9), slice(4, 9))
    shifted = np.roll(mask, 1, axis)
    found = compare_masks(mask, shifted, SPACING, SPACING[axis])
    assert found.dice == pytest.approx(4 / 5)
    assert found.distances is not None
    assert found.distances.hausdorff_mm == pytest.approx(SPACING[axis])
    assert found.distances.hd95_mm == pytest.approx(SPACING[axis])
    assert found.distances.surface_dice == 1.0
    assert 0 < found.distances.mean_mm < SPACING[axis]
    just_below = compare_masks(mask, shifted, SPACING, SPACING[axis] * 0.999).distances
    assert just_below is not None
    assert just_below.surface_dice < 1.0


def test_nested_boxes_are_as_far_apart_as_their_corners() -> None:
    outer, inner = box(slice(2, 12), slice(2, 12), slice(2, 12)), box(slice(4, 10), slice(4, 10), slice(4, 10))
    found = compare_masks(inner, outer, SPACING, 1.0)
    assert found.dice == pytest.approx(2 * 216 / (216 + 1000))
    assert found.distances is not None
    assert found.distances.hausdorff_mm == pytest.approx(2 * math.hypot(*SPACING))


def test_spheres_of_two_radii_are_their_difference_apart() -> None:
    z, y, x = np.ogrid[-20:21, -40:41, -40:41]
    away = np.sqrt((z * 1.0) ** 2 + (y * 0.5) ** 2 + (x * 0.5) ** 2)
    found = compare_masks(away <= 12, away <= 16, (1.0, 0.5, 0.5), 4.5).distances
    assert found is not None
    assert found.mean_mm == pytest.approx(4.0, abs=0.25)
    assert found.hd95_mm == pytest.approx(4.0, abs=0.5)
    assert found.surface_dice > 0.99


def test_one_voxel_against_one_voxel() -> None:
    one, other = box(slice(3, 4), slice(3, 4), slice(3, 4)), box(slice(5, 6), slice(3, 4), slice(7, 8))
    found = compare_masks(one, other, SPACING, 1.0)
    assert found.dice == 0.0
    assert found.distances is not None
    distance = math.hypot(2 * 2.5, 4 * 1.1)
    assert found.distances.hausdorff_mm == pytest.approx(distance)
    assert found.distances.mean_mm == pytest.approx(distance)
    assert found.distances.surface_dice == 0.0


def test_empty_masks_have_no_distances() -> None:
    mask, nothing = box(slice(1, 3), slice(1, 3), slice(1, 3)), np.zeros((14, 16, 18), bool)
    assert compare_masks(mask, nothing, SPACING, 1.0).dice == 0.0
    assert compare_masks(mask, nothing, SPACING, 1.0).distances is None
    both = compare_masks(nothing, nothing, SPACING, 1.0)
    assert (both.dice, both.distances, both.ai_voxels) == (None, None, 0)


def test_the_edge_of_the_image_is_surface() -> None:
    full = np.ones((3, 5, 5), bool)
    assert surface(full).sum() == 75 - 9
    found = compare_masks(full, full[:, ::-1], SPACING, 0.0)
    assert found.dice == 1.0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        compare_masks(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), SPACING, 1.0)


def by_simpleitk(one: Mask, other: Mask, tolerance: float) -> tuple[float, float, float, float, float]:
    """The same metrics by SimpleITK: Dice, Hausdorff, HD95, mean, surface Dice."""
    images = []
    for mask in (one, other):
        image = SimpleITK.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        image.SetSpacing(SPACING[::-1])
        images.append(image)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    contours = [SimpleITK.LabelContour(image, False) for image in images]
    maps = [SimpleITK.SignedMaurerDistanceMap(c, False, False, True) for c in contours]
    arrays = [SimpleITK.GetArrayFromImage(c).astype(bool) for c in contours]
    away = [np.maximum(SimpleITK.GetArrayFromImage(m), 0) for m in maps]
    forth, back = away[1][arrays[0]], away[0][arrays[1]]
    both = np.concatenate((forth, back))
    hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
    near = float((both <= tolerance + 1e-4).mean())
    return overlap.GetDiceCoefficient(), float(both.max()), float(hd95), float(both.mean()), near


@pytest.mark.parametrize("seed", range(4))
def test_simpleitk_measures_the_same(seed: int) -> None:
    one, other = blob(seed), blob(seed + 10)
    found = compare_masks(one, other, SPACING, 2.2)
    assert found.distances is not None
    ours = (
        found.dice, found.distances.hausdorff_mm, found.distances.hd95_mm, found.distances.mean_mm,
        found.distances.surface_dice,
    )  # fmt: skip
    assert ours == pytest.approx(by_simpleitk(one, other, 2.2), rel=1e-5)


def test_the_tool_of_the_published_study_measures_the_same(tmp_path: Path) -> None:
    tool = str(Path(sys.executable).with_name("plastimatch"))
    one, other = blob(3), blob(13)
    for name, mask in (("ai", one), ("expert", other)):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(SPACING[::-1])
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    words = [tool, "dice", "--all", str(tmp_path / "expert.nrrd"), str(tmp_path / "ai.nrrd")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    theirs = {name: float(value) for name, value in re.findall(r"^(.+?)(?: =|:) +([\d.]+)$", said, re.MULTILINE)}
    found = compare_masks(one, other, SPACING, 1.0)
    assert found.distances is not None
    assert found.dice == pytest.approx(theirs["DICE"], abs=1e-4)
    assert found.distances.hausdorff_mm == pytest.approx(theirs["Hausdorff distance (boundary)"], abs=1e-3)
    # It takes the mean of both ways, where this package takes the greater for HD95 and all distances for the mean.
    ways = [_distances(surface(a), surface(b), SPACING) for a, b in ((one, other), (other, one))]
    percentiles = [np.percentile(way, 95) for way in ways]
    assert np.mean(percentiles) == pytest.approx(theirs["Percent (0.95) Hausdorff distance (boundary)"], abs=0.02)
    assert found.distances.hd95_mm == max(percentiles)
    means = [way.mean() for way in ways]
    assert np.mean(means) == pytest.approx(theirs["Avg average Hausdorff distance (boundary)"], abs=1e-3)
