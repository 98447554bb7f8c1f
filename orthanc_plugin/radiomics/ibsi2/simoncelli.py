"""Simoncelli's wavelet: a band of spatial frequencies, whatever their direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from orthanc_plugin.domain.image_filters import Reach, SimoncelliFilter
from orthanc_plugin.radiomics.ibsi2.riesz import frequencies, riesz_weights
from orthanc_plugin.radiomics.ibsi2.steering import steered_transform
from orthanc_plugin.radiomics.resample import Box, Spacing

Floats = NDArray[np.float64]


def simoncelli_response(voxels: Floats, spacing_mm: Spacing, chosen: SimoncelliFilter, within: Box) -> Floats:
    """Keep the frequencies of the level: a cosine of their logarithm between a quarter and all of the highest.

    IBSI's reference maps were made with frequencies that run from -1 to 1 over the voxels of an axis, both included.
    For an even number of voxels that is not symmetrical; the real part of the response, which counts, has the even part
    of the weights.

    Source
    ------
    IBSI 2 reference manual, non-separable wavelets.
    """
    axes = (1, 2) if chosen.reach is Reach.SLICE else (0, 1, 2)
    shape = [voxels.shape[axis] for axis in axes]
    if chosen.orders:
        grid = np.meshgrid(*(frequencies(size) for size in shape), indexing="ij", sparse=True)
        band, orders = _band(np.sqrt(sum(one**2 for one in grid)), chosen.level), chosen.orders[::-1]
        if chosen.steer:
            sigmas = [chosen.steer / spacing_mm[axis] for axis in axes]
            return steered_transform(fft.fftn(voxels, axes=axes) * band, axes, orders, sigmas, within)
        kernel = riesz_weights(shape, orders) * band
        return np.asarray(fft.ifftn(fft.fftn(voxels, axes=axes) * kernel, axes=axes).real)[within]
    squares = [frequencies(size) ** 2 for size in shape]
    opposite = [np.roll(one[::-1], 1) for one in squares]
    weight = (_weights(squares, chosen.level) + _weights(opposite, chosen.level)) / 2
    return np.asarray(fft.irfftn(fft.rfftn(voxels, axes=axes) * weight, s=shape, axes=axes))[within]


def _weights(squares: list[Floats], level: int) -> Floats:
    """Return the weights of the half of the frequencies that a real transform holds."""
    *others, last = squares
    grid = np.meshgrid(*others, last[: len(last) // 2 + 1], indexing="ij", sparse=True)
    return _band(np.sqrt(sum(grid)), level)


def _band(length: Floats, level: int) -> Floats:
    frequency = length * 2.0 ** (level - 1)
    band = (frequency >= 0.25) & (frequency <= 1)
    return np.where(band, np.cos(np.pi / 2 * np.log2(2 * np.where(band, frequency, 0.5))), 0)
