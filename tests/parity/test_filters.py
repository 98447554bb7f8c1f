"""Compares filtered images of mode `pyradiomics` with the extractor's: equal to the bit, within the organ's box.

Features depend on grey levels, and one voxel in another level changes them by more than 1e-9.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from radiomics import imageoperations

from orthanc_plugin.domain.radiomics_settings import RadiomicsMode, RadiomicsSettings
from orthanc_plugin.radiomics.filters import Box, filtered_images
from tests.support.cases.realct import real_ct

Voxels = NDArray[np.float32]
SPACING_MM = (2.5, 0.703125, 0.81)
SETTINGS = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, log_sigma_mm=(1.0, 2.5), wavelet=True)


def image(shape: tuple[int, int, int]) -> Voxels:
    """Noise with a flat part, whose details are nothing but rounding errors."""
    voxels = np.random.default_rng(sum(shape)).normal(0, 200, shape).round().astype(np.float32)
    voxels[:, : shape[1] // 2, : shape[2] // 2] = -1000
    return voxels


def reference(voxels: Voxels, spacing_mm: tuple[float, ...], force_2d: bool = False) -> dict[str, Voxels]:
    whole = sitk.GetImageFromArray(voxels)
    whole.SetSpacing(spacing_mm[::-1])
    filtered = [*imageoperations.getLoGImage(whole, None, sigma=[1.0, 2.5])]
    filtered += imageoperations.getWaveletImage(whole, None, force2D=force_2d)
    return {name: sitk.GetArrayFromImage(one) for one, name, _ in filtered}


def assert_same(ours: dict[str, Voxels], whole: dict[str, Voxels], box: Box) -> None:
    assert ours.keys() == whole.keys()
    for name in whole:
        np.testing.assert_array_equal(ours[name], whole[name][box], name, strict=True)


@pytest.mark.parametrize(
    "box",
    [
        pytest.param(np.s_[7:12, 9:20, 11:31], id="inside"),
        pytest.param(np.s_[0:20, 0:25, 0:34], id="all of it"),
        pytest.param(np.s_[0:3, 0:4, 0:5], id="first corner"),
        pytest.param(np.s_[17:20, 21:25, 30:34], id="last corner"),
        pytest.param(np.s_[4:5, 3:21, 30:31], id="a line"),
    ],
)
@pytest.mark.parametrize("shape", [(20, 25, 34), (21, 26, 35)], ids=["odd rows", "even rows"])
def test_the_box_of_a_filtered_image_is_that_of_the_whole(box: Box, shape: tuple[int, int, int]) -> None:
    voxels = image(shape)
    ours = dict(filtered_images(voxels, SPACING_MM, box, SETTINGS))
    assert len(ours) == 10
    assert_same(ours, reference(voxels, SPACING_MM), box)


def test_within_slices_the_wavelet_has_four_bands() -> None:
    voxels, box = image((6, 25, 34)), np.s_[2:4, 3:19, 7:20]
    settings = RadiomicsSettings(wavelet=True, force_2d=True)
    whole = {name: one for name, one in reference(voxels, SPACING_MM, True).items() if "wavelet" in name}
    assert sorted(whole) == ["wavelet-HH", "wavelet-HL", "wavelet-LH", "wavelet-LL"]
    assert_same(dict(filtered_images(voxels, SPACING_MM, box, settings)), whole, box)


@pytest.mark.parametrize("shape", [(3, 30, 30), (30, 30, 7)])
def test_an_image_that_is_too_small_for_a_sigma_has_no_such_image(shape: tuple[int, int, int]) -> None:
    settings = replace(SETTINGS, log_sigma_mm=(5.0,), wavelet=False)
    assert list(filtered_images(image(shape), SPACING_MM, np.s_[0:2, 0:2, 0:2], settings)) == []


@pytest.mark.real_ct
def test_a_real_chest_is_filtered_as_pyradiomics_filters_it() -> None:
    folder = real_ct("cip_ct64")
    one = sitk.ReadImage(folder / "ct-64.nrrd")
    spacing_mm, voxels = one.GetSpacing()[::-1], sitk.GetArrayFromImage(one).astype(np.float32)
    box = np.s_[20:50, 12:40, 8:30]
    assert_same(dict(filtered_images(voxels, spacing_mm, box, SETTINGS)), reference(voxels, spacing_mm), box)
