"""The Laplacian of Gaussian of mode `ibsi`: IBSI 2's kernel written down voxel by voxel, and its boundary modes.

IBSI's test 2.a filters an impulse, so its response map is the kernel itself.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.domain.radiomics_settings import RadiomicsMode, RadiomicsSettings
from orthanc_plugin.radiomics.filters import absent_images, filtered_images, image_names
from orthanc_plugin.radiomics.ibsi2.laplacian import laplacian_of_gaussian
from orthanc_plugin.radiomics.resample import Box

ISOTROPIC_MM = (2.0, 2.0, 2.0)
IMPULSE = 255.0


def kernel(sigma_voxels: float, reach: int, dimensions: int) -> NDArray[np.float64]:
    """Evaluate IBSI's equation of the kernel at each voxel, with index 0 of each axis at -reach."""
    grid = np.meshgrid(*[np.arange(-reach, reach + 1)] * dimensions, indexing="ij")
    squared = sum(axis.astype(float) ** 2 for axis in grid) / sigma_voxels**2
    gaussian = (1 / (np.sqrt(2 * np.pi) * sigma_voxels)) ** dimensions * np.exp(-squared / 2)
    return np.asarray(-1 / sigma_voxels**2 * (dimensions - squared) * gaussian)


def impulse(size: int = 64) -> NDArray[np.float32]:
    image = np.zeros((size, size, size), np.float32)
    image[size // 2 - 1, size // 2 - 1, size // 2 - 1] = IMPULSE
    return image


def within_one_percent(ours: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """IBSI's tolerance of a response map: one percent of its range."""
    assert np.abs(ours - expected).max() < 0.01 * (expected.max() - expected.min())


def test_the_response_to_an_impulse_is_the_kernel_of_ibsi() -> None:
    sigma_mm, reach = 3.0, 6
    response = laplacian_of_gaussian(impulse(), ISOTROPIC_MM, sigma_mm, boundary="constant")
    part = np.s_[31 - reach : 32 + reach]
    expected = IMPULSE * kernel(sigma_mm / 2.0, reach, 3)
    within_one_percent(response[part, part, part], expected)
    assert response[31, 31, 31] == pytest.approx(expected[reach, reach, reach], rel=1e-3)
    outside = response.copy()
    outside[part, part, part] = 0
    assert not outside.any()


def test_the_scale_of_the_response_follows_no_sigma() -> None:
    """pyradiomics' library multiplies by (sigma / spacing)^2: 2.25 for IBSI's test 2.a."""
    voxels = impulse()
    ours = laplacian_of_gaussian(voxels, ISOTROPIC_MM, 3.0)
    settings = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, log_sigma_mm=(3.0,))
    ((_, theirs),) = filtered_images(voxels, ISOTROPIC_MM, np.s_[0:64, 0:64, 0:64], settings)
    assert theirs[31, 31, 31] / ours[31, 31, 31] == pytest.approx((3.0 / 2.0) ** 2, rel=0.03)


@pytest.mark.parametrize(
    ("boundary", "before", "after"),
    [("reflect", "symmetric", {}), ("constant", "constant", {}), ("nearest", "edge", {}), ("wrap", "wrap", {})],
)
def test_boundaries_are_those_of_a_padded_image(boundary: str, before: str, after: dict[str, float]) -> None:
    voxels = np.random.default_rng(2).normal(0, 100, (20, 22, 24))
    padded = np.pad(voxels, 20, before, **after)
    whole = laplacian_of_gaussian(padded, ISOTROPIC_MM, 5.0)[20:-20, 20:-20, 20:-20]
    np.testing.assert_allclose(laplacian_of_gaussian(voxels, ISOTROPIC_MM, 5.0, boundary=boundary), whole, atol=1e-9)


def test_within_slices_the_kernel_has_two_dimensions_and_another_name() -> None:
    settings = RadiomicsSettings(log_sigma_mm=(3.0,), force_2d=True)
    ((name, response),) = filtered_images(impulse(), ISOTROPIC_MM, np.s_[0:64, 0:64, 0:64], settings)
    assert name == "log-sigma-3-0-mm-2D"
    within_one_percent(response[31, 25:38, 25:38], IMPULSE * kernel(1.5, 6, 2))
    assert not response[:31].any()
    assert not response[32:].any()


def test_pyradiomics_has_no_laplacian_within_slices() -> None:
    settings = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, log_sigma_mm=(3.0,))
    images = [
        dict(filtered_images(impulse(24), ISOTROPIC_MM, np.s_[0:24, 0:24, 0:24], one))
        for one in (settings, RadiomicsSettings(mode=settings.mode, log_sigma_mm=(3.0,), force_2d=True))
    ]
    assert [*images[0]] == [*images[1]] == ["log-sigma-3-0-mm-3D"]
    np.testing.assert_array_equal(*(one["log-sigma-3-0-mm-3D"] for one in images))


@pytest.mark.parametrize(
    "box", [np.s_[7:12, 9:20, 11:31], np.s_[0:20, 0:25, 0:34], np.s_[0:3, 0:4, 0:5], np.s_[17:20, 21:25, 30:34]]
)
@pytest.mark.parametrize("force_2d", [False, True])
def test_the_box_is_that_of_the_whole_image(box: Box, force_2d: bool) -> None:
    voxels = np.random.default_rng(1).normal(0, 200, (20, 25, 34)).astype(np.float32)
    spacing_mm = (2.5, 0.703125, 0.81)
    settings = RadiomicsSettings(log_sigma_mm=(1.0, 2.5), force_2d=force_2d)
    whole = dict(filtered_images(voxels, spacing_mm, np.s_[0:20, 0:25, 0:34], settings))
    part = dict(filtered_images(voxels, spacing_mm, box, settings))
    assert [*part] == [*whole] == [*image_names(settings)]
    for name in whole:
        np.testing.assert_allclose(part[name], whole[name][box], rtol=1e-5, atol=1e-4)


def test_steps_that_differ_give_the_same_response_in_all_directions_of_the_patient() -> None:
    """A Gaussian blob has one response, whatever the grid; per voxel of the mean step it is scaled as an equal grid."""
    fine, coarse = (1.0, 1.0, 1.0), (2.0, 1.0, 1.0)

    def blob(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
        axes = (np.arange(-30, 31, step) for step in spacing_mm)
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        return np.asarray(np.exp(-(z**2 + y**2 + x**2) / (2 * 6.0**2)))

    centre = [
        laplacian_of_gaussian(blob(one), one, 4.0)[tuple(n // 2 for n in blob(one).shape)] for one in (fine, coarse)
    ]
    assert centre[1] / centre[0] == pytest.approx(2 ** (2 / 3), rel=0.01)


def test_only_pyradiomics_needs_an_image_of_a_certain_size() -> None:
    small, spacing_mm = (3, 30, 30), (1.0, 1.0, 1.0)
    settings = RadiomicsSettings(log_sigma_mm=(5.0,))
    assert absent_images(small, spacing_mm, settings) == ()
    theirs = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, log_sigma_mm=(5.0,))
    assert absent_images(small, spacing_mm, theirs) == ("log-sigma-5-0-mm-3D",)
    assert absent_images((8, 30, 30), spacing_mm, theirs) == ()


@pytest.mark.parametrize("force_2d", [False, True])
@pytest.mark.parametrize("mode", RadiomicsMode)
def test_names_are_those_of_the_images(mode: RadiomicsMode, force_2d: bool) -> None:
    settings = RadiomicsSettings(mode=mode, log_sigma_mm=(1.0, 2.0), wavelet=True, force_2d=force_2d)
    images = filtered_images(impulse(20), ISOTROPIC_MM, np.s_[5:9, 5:9, 5:9], settings)
    assert tuple(name for name, _ in images) == image_names(settings)
