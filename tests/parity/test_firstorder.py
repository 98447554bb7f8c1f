"""Compares first order with pyradiomics' own class: 1e-9 relative."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from radiomics.firstorder import RadiomicsFirstOrder
from radiomics.imageoperations import getBinEdges

from orthanc_plugin.radiomics.firstorder import first_order_features


def reference(values: NDArray[np.floating], bin_width: float = 25) -> dict[str, float]:
    image = sitk.GetImageFromArray(values.reshape(1, 1, -1))
    image.SetSpacing((0.7, 0.8, 2.5))
    label = sitk.GetImageFromArray(np.ones(values.reshape(1, 1, -1).shape, np.uint8))
    label.SetSpacing(image.GetSpacing())
    features = RadiomicsFirstOrder(image, label, binWidth=bin_width).execute()
    return {name: float(value) for name, value in features.items()}


def levels_of(values: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.digitize(values, getBinEdges(values, binWidth=25))


def noise(size: int, mean: float, decimals: int, dtype: type) -> NDArray[np.floating]:
    return (np.random.default_rng(size).gamma(2, 150, size) + mean).round(decimals).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param((2, -800, 0), id="two voxels"),
        pytest.param((7, 40, 1), id="few voxels"),
        pytest.param((50_000, -1000, 0), id="whole HU"),
        pytest.param((50_000, -300, 5), id="a filtered image"),
    ],
)
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_every_feature_equals_pyradiomics(values: tuple[int, float, int], dtype: type) -> None:
    hu = noise(*values, dtype)
    ours = first_order_features(hu, 0.7 * 0.8 * 2.5, levels_of(hu))
    assert len(ours) == 18
    assert ours == pytest.approx(reference(hu), rel=1e-9, abs=1e-12, nan_ok=True)


def test_entropy_and_uniformity_are_those_of_the_levels_that_are_given() -> None:
    hu = noise(1000, 0, 0, np.float32)
    levels = np.floor(hu / 10).astype(np.int32) + 3
    assert first_order_features(hu, 1.4, levels) == pytest.approx(reference(hu, 10), rel=1e-9)


@pytest.mark.parametrize("hu", [-1000.0, 0.1, 37.0])
def test_a_flat_region_equals_pyradiomics(hu: float) -> None:
    flat = np.full(60, hu)
    ours, theirs = first_order_features(flat, 1.4, levels_of(flat)), reference(flat)
    # pyradiomics' mean of 60 times 0.1 is not 0.1, so its moments are ratios of rounding errors.
    for name in ("Kurtosis", "Skewness"):
        assert ours.pop(name) == 0
        theirs.pop(name)
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
