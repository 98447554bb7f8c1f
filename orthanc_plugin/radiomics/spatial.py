"""Spatial autocorrelation of intensities: Moran's I and Geary's C over all pairs of voxels, without approximation.

Both weigh a pair by its inverse distance. So each double sum over pairs is a sum over distances of a correlation, which
a Fourier transform gives in n log n steps instead of n squared.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics.matrices import occupied_box
from orthanc_plugin.radiomics.resample import Spacing

Floats = NDArray[np.float64]

MOST_VOXELS = 40_000_000
"""Largest transform, in voxels of the doubled box."""
_BYTES = 32
"""Memory per voxel of the doubled box."""


def spatial_bytes(shape: tuple[int, ...]) -> int:
    """Bound the memory for a box of this shape; a box too large for a transform takes none."""
    voxels = math.prod(_doubled(shape))
    return voxels * _BYTES if voxels <= MOST_VOXELS else 0


def _doubled(shape: tuple[int, ...]) -> list[int]:
    """Return a box twice as long on each side, so that no shift wraps around."""
    return [fft.next_fast_len(2 * size - 1, real=True) for size in shape]


def spatial_features(voxels: Voxels, mask: Mask, spacing_mm: Spacing) -> dict[str, float]:
    """Measure the class `spatial`.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x), float32
    mask : ndarray, shape (z, y, x), bool
        The voxels whose intensities count; not empty.
    spacing_mm : (z, y, x)

    Returns
    -------
    dict
        MoranI and GearyC; NaN for one voxel, for equal values, and for a box of more than about 5 million voxels.

    Source
    ------
    IBSI reference manual, Moran's I index and Geary's C measure.
    """
    box = occupied_box(mask)
    inside = mask[box]
    shape = _doubled(inside.shape)
    values = np.where(inside, voxels[box], 0).astype(np.float64)
    count = np.count_nonzero(inside)
    values -= np.where(inside, values.sum() / count, 0)
    squares = float((values**2).sum())
    if count < 2 or not squares or math.prod(shape) > MOST_VOXELS:
        return {"MoranI": math.nan, "GearyC": math.nan}
    weights = fft.rfftn(_inverse_distance(shape, spacing_mm)).real
    ones = fft.rfftn(inside.astype(np.float64), shape)
    weight = _total(weights, ones, ones, shape)
    own = _total(weights, fft.rfftn(values**2, shape), ones, shape)
    del ones
    centred = fft.rfftn(values, shape)
    products = _total(weights, centred, centred, shape)
    return {
        "MoranI": count / weight * products / squares,
        "GearyC": (count - 1) / weight * (own - products) / squares,
    }


def _inverse_distance(shape: list[int], spacing_mm: Spacing) -> Floats:
    """Return 1 / distance (1/mm) of each shift, negative shifts from the end; 0 for no shift."""
    steps = [
        np.minimum(np.arange(size), size - np.arange(size)) * mm for size, mm in zip(shape, spacing_mm, strict=True)
    ]
    z, y, x = np.meshgrid(*steps, indexing="ij", sparse=True)
    distance = np.sqrt(z**2 + y**2 + x**2)
    distance[0, 0, 0] = np.inf
    return np.asarray(1 / distance)


def _total(weights: Floats, first: NDArray[np.complex128], second: NDArray[np.complex128], shape: list[int]) -> float:
    """Add up weight times first times second over all pairs of voxels (Parseval; the last axis holds half of it)."""
    products = weights * (first * second.conj()).real
    doubled = 2 * products.sum() - products[..., 0].sum()
    if shape[-1] % 2 == 0:
        doubled -= products[..., -1].sum()
    return float(doubled / math.prod(shape))
