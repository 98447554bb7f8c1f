"""Simoncelli's wavelet: a band of spatial frequencies, whatever their direction; and its Riesz transforms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from orthanc_plugin.domain.image_filters import Reach, SimoncelliFilter

Floats = NDArray[np.float64]


def simoncelli_response(voxels: Floats, chosen: SimoncelliFilter) -> Floats:
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
        kernel = _riesz_weights(shape, chosen.level, chosen.orders[::-1])
        return np.asarray(fft.ifftn(fft.fftn(voxels, axes=axes) * kernel, axes=axes).real)
    squares = [_frequencies(size) ** 2 for size in shape]
    opposite = [np.roll(one[::-1], 1) for one in squares]
    weight = (_weights(squares, chosen.level) + _weights(opposite, chosen.level)) / 2
    return np.asarray(fft.irfftn(fft.rfftn(voxels, axes=axes) * weight, s=shape, axes=axes))


def _riesz_weights(shape: list[int], level: int, orders: tuple[int, ...]) -> NDArray[np.complex128]:
    """Return the weights of all frequencies for a Riesz transform of these orders along the axes.

    A Riesz transform of orders l that add up to L multiplies by (-j)^L sqrt(L! / prod l!) prod (f / |f|)^l: it is a
    derivative that amplifies no frequency.

    Source
    ------
    IBSI 2 reference manual, Riesz transform.
    """
    axes = np.meshgrid(*(_frequencies(size) for size in shape), indexing="ij", sparse=True)
    length, total = np.sqrt(sum(one**2 for one in axes)), sum(orders)
    share = math.factorial(total) / math.prod(map(math.factorial, orders))
    direction = math.prod(one**order for one, order in zip(axes, orders, strict=True))
    with np.errstate(invalid="ignore"):  # no frequency has no direction, and no share in the band
        derived = np.where(length > 0, direction / length**total, 0)
    return np.asarray((-1j) ** total * math.sqrt(share) * derived * _band(length, level))


def _frequencies(size: int) -> Floats:
    """Return the frequencies of an axis as shares of the highest, in the order of a Fourier transform."""
    return np.asarray(fft.ifftshift(np.linspace(-1, 1, size))) if size > 1 else np.zeros(1)


def _weights(squares: list[Floats], level: int) -> Floats:
    """Return the weights of the half of the frequencies that a real transform holds."""
    *others, last = squares
    grid = np.meshgrid(*others, last[: len(last) // 2 + 1], indexing="ij", sparse=True)
    return _band(np.sqrt(sum(grid)), level)


def _band(length: Floats, level: int) -> Floats:
    frequency = length * 2.0 ** (level - 1)
    band = (frequency >= 0.25) & (frequency <= 1)
    return np.where(band, np.cos(np.pi / 2 * np.log2(2 * np.where(band, frequency, 0.5))), 0)
