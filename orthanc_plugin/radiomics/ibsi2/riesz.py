"""Riesz transforms: derivatives of an image that amplify no frequency."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]


def riesz_transform(voxels: Floats, axes: Sequence[int], orders: Sequence[int]) -> Floats:
    """Transform a periodic image along some of its axes, with one order for each of them."""
    weights = riesz_weights([voxels.shape[axis] for axis in axes], orders)
    return np.asarray(fft.ifftn(fft.fftn(voxels, axes=axes) * weights, axes=axes).real)


def riesz_weights(shape: Sequence[int], orders: Sequence[int]) -> NDArray[np.complex128]:
    """Return the weights of all frequencies for a Riesz transform of these orders along the axes.

    A Riesz transform of orders l that add up to L multiplies by (-j)^L sqrt(L! / prod l!) prod (f / |f|)^l.

    Source
    ------
    IBSI 2 reference manual, Riesz transform.
    """
    axes = np.meshgrid(*(frequencies(size) for size in shape), indexing="ij", sparse=True)
    length, total = np.sqrt(sum(one**2 for one in axes)), sum(orders)
    share = math.factorial(total) / math.prod(map(math.factorial, orders))
    direction = math.prod(one**order for one, order in zip(axes, orders, strict=True))
    with np.errstate(invalid="ignore"):  # no frequency has no direction
        derived = np.where(length > 0, direction / length**total, 0)
    return np.asarray((-1j) ** total * math.sqrt(share) * derived)


def frequencies(size: int) -> Floats:
    """Return the frequencies of an axis as shares of the highest, in the order of a Fourier transform."""
    return np.asarray(fft.ifftshift(np.linspace(-1, 1, size))) if size > 1 else np.zeros(1)
