"""Compares textures and 2D shape with pyradiomics' own classes: 1e-9 relative.

Masks that pyradiomics' extractor would refuse (one line, two voxels) are included: a rule may ask for them.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import SimpleITK as sitk
from radiomics import getFeatureClasses
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.radiomics_settings import TEXTURES, Aggregation
from orthanc_plugin.radiomics.discretise import Levels
from orthanc_plugin.radiomics.textures import texture_features
from tests.support.cases.organs import organ
from tests.support.cases.realct import real_ct

FLAT, VOLUME = Aggregation.FLAT_DIRECTIONS, Aggregation.VOLUME_AVERAGED


def texture(shape: tuple[int, ...], seed: int, levels: int, blur: float = 0.7) -> Levels:
    """Grey levels 1 to about `levels`, some of them without voxels."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), blur)
    ranked = (noise - noise.min()) / np.ptp(noise) * levels
    return np.asarray(np.floor(ranked) + 1, np.int32)


def shell() -> Mask:
    """A body with a hole and an island in it."""
    z, y, x = np.ogrid[-9:10, -9:10, -9:10]
    radius = z**2 + y**2 + x**2
    return np.asarray(((radius <= 64) & (radius > 16)) | (radius < 4))


def only(shape: tuple[int, int, int], *voxels: tuple[int, int, int]) -> Mask:
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def reference(levels: Levels, mask: Mask, force_2d: bool) -> dict[str, float]:
    """pyradiomics' classes with bins of one level."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    image = sitk.GetImageFromArray(np.where(mask, levels, 0)[box].astype(np.float64))
    label = sitk.GetImageFromArray(mask[box].astype(np.uint8))
    values: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of nothing
        for name in TEXTURES:
            # Bins start at the smallest value, so that the levels must start at 1.
            one = getFeatureClasses()[name](image, label, binWidth=1, force2D=force_2d, force2Ddimension=0)
            values |= {f"{name}_{feature}": float(value) for feature, value in one.execute().items()}
    if np.isnan(values["glcm_JointEnergy"]):  # no two voxels touch: undefined, not pyradiomics' 1
        values["glcm_MCC"] = np.nan
    return values


def assert_same(levels: Levels, mask: Mask, force_2d: bool = False) -> None:
    levels = levels - levels[mask].min() + 1
    ours = texture_features(levels, mask, TEXTURES, FLAT if force_2d else VOLUME)
    assert len(ours) == 75
    assert ours == pytest.approx(reference(levels, mask, force_2d), rel=1e-9, abs=1e-12, nan_ok=True)


MASKS = [
    pytest.param(organ((14, 19, 23), 0.0, 1), id="lobes cut off by the border"),
    pytest.param(organ((21, 16, 12), 0.8, 2), id="islands"),
    pytest.param(organ((12, 15, 18), -0.9, 3), id="with holes"),
    pytest.param(shell(), id="hollow ball with an island"),
    pytest.param(np.indices((5, 6, 7)).sum(axis=0) % 2 == 0, id="checkerboard"),
    pytest.param(organ((1, 17, 23), 0.0, 5), id="one slice"),
    pytest.param(organ((17, 1, 23), 0.0, 6), id="a plate across the slices"),
    pytest.param(np.ones((1, 1, 9), bool), id="a line"),
    pytest.param(np.ones((1, 1, 2), bool), id="two voxels"),
    pytest.param(only((2, 2, 2), (0, 0, 0), (1, 1, 1)), id="two voxels that touch at a corner"),
    pytest.param(only((4, 4, 4), (0, 0, 0), (0, 3, 0), (3, 0, 3)), id="three voxels that do not touch"),
    pytest.param(only((1, 3, 4), (0, 0, 0), (0, 2, 3)), id="two voxels on no line"),
]


@pytest.mark.parametrize("force_2d", [False, True], ids=["3D", "2D"])
@pytest.mark.parametrize("levels", [2, 12, 90])
@pytest.mark.parametrize("mask", MASKS)
def test_every_texture_equals_pyradiomics(mask: Mask, levels: int, force_2d: bool) -> None:
    assert_same(texture(mask.shape, 7, levels), mask, force_2d)


@pytest.mark.parametrize("force_2d", [False, True], ids=["3D", "2D"])
@pytest.mark.parametrize("mask", MASKS)
def test_a_flat_region_equals_pyradiomics(mask: Mask, force_2d: bool) -> None:
    assert_same(np.ones(mask.shape, np.int32), mask, force_2d)


@pytest.mark.parametrize("blur", [0.0, 3.0])
def test_noise_and_large_zones_equal_pyradiomics(blur: float) -> None:
    mask = organ((30, 40, 50), -0.5, 8)
    assert_same(texture(mask.shape, 9, 20, blur), mask)


def test_long_runs_equal_pyradiomics() -> None:
    mask = organ((30, 40, 50), -1.5, 8)
    assert_same(np.where(np.arange(50) < 40, 1, 3) * np.ones(mask.shape, np.int32), mask)


@pytest.mark.parametrize("seed", range(40))
def test_small_organs_of_few_levels_equal_pyradiomics(seed: int) -> None:
    """Cases in which rounding decides whether MCC and Imc2 are zero or undefined."""
    mask = organ((4, 4, 4), -0.3, seed)
    assert_same(texture(mask.shape, seed, 3), mask)


def test_a_line_across_the_slices_equals_pyradiomics_in_3d_and_has_no_pairs_in_2d() -> None:
    mask = np.ones((9, 1, 1), bool)
    levels = texture(mask.shape, 7, 3)
    assert_same(levels, mask)
    values = texture_features(levels, mask, TEXTURES, FLAT)  # pyradiomics raises RuntimeError
    assert {name.split("_")[0] for name, value in values.items() if np.isnan(value)} == {"glcm", "glrlm"}
    assert values["glszm_ZonePercentage"] == 1


@pytest.mark.real_ct
@pytest.mark.parametrize("force_2d", [False, True], ids=["3D", "2D"])
def test_the_lungs_of_a_real_chest_equal_pyradiomics(force_2d: bool) -> None:
    folder = real_ct("cip_ct64")
    image, lungs = (
        sitk.GetArrayFromImage(sitk.ReadImage(folder / name)) for name in ("ct-64.nrrd", "wholeLung-64.nrrd")
    )
    assert_same(np.floor(image / 25).astype(np.int32), lungs > 0, force_2d)
