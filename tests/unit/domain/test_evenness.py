"""Pockets of gas in what was taken for lung, drawn in a column of lung under soft tissue."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from orthanc_plugin.domain.evenness import LEAST_GAS_ML, even_gas_ml, pockets
from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Volume

SHAPE = (50, 40, 40)
LUNG = np.zeros(SHAPE, bool)
LUNG[3:-3, 3:-3, 3:-3] = True


def lung() -> np.ndarray:
    """Draw uneven lung with vessels in tissue."""
    rng = np.random.default_rng(3)
    hu = -850 + 60 * rng.standard_normal(SHAPE, np.float32)
    hu[ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5) > 0.3] += 300
    return np.where(LUNG, hu, 30).astype(np.float32)


def ball(z: float, radius: float) -> Mask:
    """Draw a ball in the middle of the columns."""
    at = np.ogrid[tuple(map(slice, SHAPE))]
    return sum((axis - middle) ** 2 for axis, middle in zip(at, (z, 20, 20), strict=True)) <= radius**2


def with_gas(z: float, *, gas_hu: float, wall_hu: float | None, noise: float = 12.0) -> np.ndarray:
    """Draw a ball of gas, with a wall of one voxel or without."""
    hu, gas = lung(), ball(z, 8)
    if wall_hu is not None:
        hu[ndimage.binary_dilation(gas) & ~gas] = wall_hu
    return np.where(gas, gas_hu + noise * np.random.default_rng(4).standard_normal(SHAPE), hu).astype(np.float32)


def stomach(hu: np.ndarray) -> np.ndarray:
    """Turn what lies below the gas, at the lower end of the lung, into soft tissue."""
    low = np.zeros(SHAPE, bool)
    low[:13] = True
    return np.where(low & ~ndimage.binary_dilation(ball(12, 8)), 30, hu).astype(np.float32)


def test_lung_has_no_pocket() -> None:
    assert not list(pockets(lung(), LUNG))


def test_emphysema_is_no_pocket() -> None:
    assert not list(pockets(with_gas(25, gas_hu=-985, wall_hu=None, noise=15), LUNG))


@pytest.mark.parametrize("gas_hu", [-990.0, -950.0, -900.0])
def test_gas_below_lung_behind_a_thin_wall_is_a_pocket(gas_hu: float) -> None:
    hu = stomach(with_gas(12, gas_hu=gas_hu, wall_hu=-300))
    inside = LUNG & (hu < 0)
    (found,) = pockets(hu, inside)
    assert found.is_below
    assert found.mask[ball(12, 8) & inside].mean() > 0.98


def test_gas_within_lung_is_a_pocket_beside_it() -> None:
    (found,) = pockets(with_gas(25, gas_hu=-990, wall_hu=-300), LUNG)
    assert not found.is_below


@pytest.mark.parametrize("up", [1, -1])
def test_uneven_gas_behind_a_wall_is_measured_whichever_way_the_slices_lie(up: int) -> None:
    hu = stomach(with_gas(12, gas_hu=-930, wall_hu=-300))
    volume = Volume(np.ascontiguousarray(hu[::up]), (3.0, 3.0, 3.0), np.diag([3.0, 3.0, 3.0 * up, 1.0]))
    box = tuple(slice(0, size) for size in SHAPE)
    assert even_gas_ml(volume, (LUNG & (hu < 0))[::up], box) > LEAST_GAS_ML
    assert even_gas_ml(Volume(lung(), (3.0, 3.0, 3.0), np.eye(4)), LUNG, box) == 0
