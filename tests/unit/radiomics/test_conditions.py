"""What is recorded for each segment and image: what was done, what is missing and why; and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.measures import SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import TEXTURES, FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.radiomics.feature_codes import coded_features
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.parameters import describe, filter_text, parameter_texts

SPACING_MM = (2.0, 1.0, 1.0)
IBSI = RadiomicsSettings()
PYRADIOMICS = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS)


def segment(number: int, key: str) -> Segment:
    return Segment(number, key, key, ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (number,))


def noise(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 60, shape).round().astype(np.float32)


def measure(
    voxels_hu: NDArray[np.float32],
    mask: NDArray[np.bool_],
    settings: RadiomicsSettings = IBSI,
    *,
    shape_keys: tuple[str, ...] = ("organ",),
    memory_mib: int = 2048,
) -> tuple[SegmentFeatures, ...]:
    segmentation = Segmentation(mask.astype(np.uint8), (segment(1, "organ"),))
    return measure_segments(
        Volume(voxels_hu, SPACING_MM, np.eye(4)), segmentation, shape_keys, settings, memory_mib=memory_mib
    )


def named(features: SegmentFeatures) -> set[str]:
    """All features of a group: with a value, or missing."""
    return {one.name for one in features.features} | {name for one in features.missing for name in one.names}


def plain_names() -> set[str]:
    classes = set(map(str, RadiomicsSettings().classes))
    return {one.name for one in coded_features(RadiomicsMode.IBSI) if one.name.split("_")[0] in classes} - {
        "shape_Compactness1",
        "shape_Compactness2",
        "shape_SphericalDisproportion",
    }


BLOCK = np.zeros((8, 12, 12), bool)
BLOCK[2:6, 3:9, 3:9] = True


@pytest.mark.parametrize("mode", RadiomicsMode)
@pytest.mark.parametrize("resegment", [(), (-500.0, 400.0)])
def test_each_image_records_where_its_bins_begin(mode: RadiomicsMode, resegment: tuple[float, ...]) -> None:
    settings = RadiomicsSettings(mode=mode, resegment_hu=resegment, log_sigma_mm=(1.5,))
    original, filtered = measure(noise(BLOCK.shape), BLOCK, settings)
    assert original.conditions is not None
    assert filtered.conditions is not None
    assert f"discretisation={original.conditions.discretisation}" in parameter_texts(settings)
    assert "HU" not in filtered.conditions.discretisation
    assert filtered.conditions.discretisation.endswith("a multiple of it")
    lowest = {one.name: one.value for one in filtered.features}["firstorder_Minimum"]
    origin = float(filtered.conditions.discretisation.split(" from ")[1].split(",")[0])
    assert origin <= lowest < origin + 25


def test_each_image_records_the_classes_it_was_measured_with() -> None:
    settings = RadiomicsSettings(log_sigma_mm=(1.5,), deprecated=True)
    original, filtered = measure(noise(BLOCK.shape), BLOCK, settings)
    (without_shape,) = measure(noise(BLOCK.shape), BLOCK, settings, shape_keys=())
    words = [one.conditions.classes for one in (original, filtered, without_shape) if one.conditions]
    assert words == [
        "shape firstorder glcm glrlm glszm ngtdm gldm deprecated",
        "firstorder glcm glrlm glszm ngtdm gldm",
        "volume firstorder",
    ]
    assert f"classes={words[0]}" in parameter_texts(settings)


def test_grid_and_voxels_are_those_that_were_measured() -> None:
    settings = RadiomicsSettings(spacing_mm=(1.0, 1.0, 1.0), resegment_hu=(0.0, 1000.0))
    (one,) = measure(noise(BLOCK.shape), BLOCK, settings)
    assert one.conditions is not None
    assert one.conditions.spacing_mm == (1.0, 1.0, 1.0)
    assert 0 < one.conditions.voxels < BLOCK.sum() * 2
    (plain,) = measure(noise(BLOCK.shape), BLOCK)
    assert plain.conditions is not None
    assert (plain.conditions.spacing_mm, plain.conditions.voxels) == (SPACING_MM, BLOCK.sum())


@pytest.mark.parametrize("mode", RadiomicsMode)
def test_a_filter_is_described_by_its_image(mode: RadiomicsMode) -> None:
    settings = RadiomicsSettings(mode=mode, log_sigma_mm=(1.0, 1e-05), wavelet=True)
    assert filter_text("log-sigma-1-0-mm-3D", settings).startswith("LoG, sigma 1 mm")
    assert filter_text("log-sigma-1e-05-mm-3D", settings).startswith("LoG, sigma 1e-05 mm")
    assert filter_text("wavelet-LLH", settings) == "wavelet coif1, level 1, LLH"
    assert ("IBSI kernel" in filter_text("log-sigma-1-0-mm-3D", settings)) == (mode is RadiomicsMode.IBSI)


def test_default_settings_are_described_as_before_so_that_uids_stay() -> None:
    assert describe(IBSI) == (
        "mode=ibsi; pyradiomics=3.0.1; classes=shape firstorder glcm glrlm glszm ngtdm gldm; resampling=none; "
        "resegmentation=none; discretisation=width 25 HU from -1000 HU; textures=3D, averaged; distance 1; alpha 0; "
        "kurtosis=excess; covariance=n - 1"
    )
    assert "LoG=sigma 1 2.5 mm" in parameter_texts(replace(PYRADIOMICS, log_sigma_mm=(1.0, 2.5)))


ONE_VOXEL = np.zeros(BLOCK.shape, bool)
ONE_VOXEL[3, 3, 3] = True
TWO_APART = ONE_VOXEL.copy()
TWO_APART[3, 3, 8] = True
CORNER = np.zeros(BLOCK.shape, bool)
CORNER[:2, :3, :3] = True
PARTS = CORNER.copy()
PARTS[5:8, 8:, 8:] = True
LINE = np.zeros(BLOCK.shape, bool)
LINE[3, 3, :] = True


@pytest.mark.parametrize("mode", RadiomicsMode)
@pytest.mark.parametrize("flat", [False, True], ids=["noise", "flat"])
@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(np.zeros(BLOCK.shape, bool), id="empty"),
        pytest.param(ONE_VOXEL, id="one voxel"),
        pytest.param(TWO_APART, id="two apart"),
        pytest.param(LINE, id="line from border to border"),
        pytest.param(CORNER, id="in a corner"),
        pytest.param(PARTS, id="two parts at two corners"),
        pytest.param(np.ones(BLOCK.shape, bool), id="all of the image"),
    ],
)
def test_every_feature_has_a_finite_value_or_a_reason(mask: NDArray[np.bool_], flat: bool, mode: RadiomicsMode) -> None:
    voxels_hu = np.full(mask.shape, -3.0, np.float32) if flat else noise(mask.shape)
    settings = RadiomicsSettings(mode=mode, log_sigma_mm=(1.5,), wavelet=True)
    images = measure(voxels_hu, mask, settings)
    assert [one.image for one in images][:3] == ["original", "log-sigma-1-5-mm-3D", "wavelet-LLL"]
    assert len(images) == 10
    for one in images:
        expected = {name for name in plain_names() if one.image == "original" or not name.startswith("shape")}
        assert named(one) == expected
        assert len(one.features) + sum(len(gap.names) for gap in one.missing) == len(expected)
        assert all(np.isfinite(feature.value) for feature in one.features)
        assert all(gap.reason for gap in one.missing)
        assert bool(one.features) == (mask.sum() > (mode is RadiomicsMode.PYRADIOMICS))
        assert (one.conditions is not None) == bool(one.features)


def test_too_many_grey_levels_are_the_reason_of_each_texture() -> None:
    voxels_hu = noise(BLOCK.shape)
    voxels_hu[3, 4, 4] = 1e6
    (one,) = measure(voxels_hu, BLOCK)
    (gap,) = one.missing
    assert {name.split("_")[0] for name in gap.names} == set(TEXTURES)
    assert "4096 grey levels" in gap.reason
    assert one.conditions is not None
    assert one.conditions.classes == "shape firstorder"


def test_an_image_that_is_too_small_for_pyradiomics_filter_is_a_reason() -> None:
    settings = replace(PYRADIOMICS, log_sigma_mm=(5.0,), classes=(FeatureClass.FIRSTORDER,))
    original, filtered = measure(noise(BLOCK.shape)[:3], BLOCK[:3], settings)
    assert original.features
    assert filtered.features == ()
    assert filtered.notes == ("no such image: the CT is too small for the filter",)
    assert len(filtered.missing[0].names) == 18


@pytest.mark.parametrize("mode", RadiomicsMode)
def test_a_resampling_beyond_the_memory_is_refused_and_only_that(mode: RadiomicsMode) -> None:
    mask = np.zeros((30, 60, 60), np.uint8)
    mask[5:25, 5:55, 5:55] = 1
    mask[2, 2, 2:4] = 2
    segmentation = Segmentation(mask, (segment(1, "large"), segment(2, "small")))
    volume = Volume(noise(mask.shape), SPACING_MM, np.eye(4))
    classes = (FeatureClass.SHAPE, FeatureClass.FIRSTORDER)
    settings = RadiomicsSettings(mode=mode, classes=classes, spacing_mm=(0.1, 0.1, 0.1))
    large, small = measure_segments(volume, segmentation, {"large", "small"}, settings, memory_mib=256)
    assert large.features == ()
    assert large.notes[0].startswith("not measured: resampling needs ")
    assert "RadiomicsMemory allows 256" in large.notes[0]
    assert small.features


def test_filters_that_need_too_large_a_grid_leave_the_original_image() -> None:
    mask = np.zeros((60, 120, 120), bool)
    mask[29:31, 59:61, 59:61] = True
    settings = RadiomicsSettings(classes=(FeatureClass.FIRSTORDER,), spacing_mm=(0.25, 0.25, 0.25), log_sigma_mm=(8.0,))
    original, filtered = measure(noise(mask.shape), mask, settings, memory_mib=256)
    assert original.features
    assert original.notes == ()
    assert filtered.features == ()
    assert "resampling needs" in filtered.missing[0].reason
