"""Riesz transforms along the directions that the image itself has at each voxel."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from orthanc_plugin.radiomics.ibsi2.riesz import riesz_weights
from orthanc_plugin.radiomics.resample import Box

Floats = NDArray[np.float64]
WINDOW_SIGMA = 4.0
"""Where the window of the structure tensor ends."""


def steered_transform(
    spectrum: NDArray[np.complex128], axes: Sequence[int], orders: Sequence[int], sigmas: Sequence[float], within: Box
) -> Floats:
    """Transform an image along its local directions instead of its axes.

    Parameters
    ----------
    spectrum : ndarray, shape (z, y, x)
        Fourier transform, along `axes`, of the image that a filter made.
    axes : sequence of int
        Axes along which the filter works: (0, 1, 2) or (1, 2).
    orders : sequence of int
        One for each direction, that of the smallest eigenvalue of the structure tensor first.
    sigmas : sequence of float
        Standard deviation of the tensor's Gaussian window along each axis, in voxels.
    within : three slices
        The voxels that the caller wants.

    Returns
    -------
    ndarray, float64
        Of the size of `within`. An eigenvector has no sign: it points to where the transform of first order is not
        negative.

    Source
    ------
    IBSI 2 reference manual, Riesz transform; Y. Dicente Cid et al., IEEE Trans Image Process 2017;26:1899: the
    structure tensor is made of the transforms of first order of the filtered image.
    """
    size = [spectrum.shape[axis] for axis in axes]

    def transformed(one: Sequence[int]) -> Floats:
        return np.asarray(fft.ifftn(spectrum * riesz_weights(size, one), axes=axes).real)

    first = [transformed(one) for one in np.eye(len(axes), dtype=int).tolist()]
    directions = _directions(first, axes, sigmas, within)
    along = np.einsum("da...,a...->d...", directions, np.stack([one[within] for one in first]))
    directions = np.where(along < 0, -1, 1)[:, None] * directions
    del first
    return sum((weight * transformed(one)[within] for one, weight in _rotated(directions, orders)), np.zeros(()))


def _directions(first: Sequence[Floats], axes: Sequence[int], sigmas: Sequence[float], within: Box) -> Floats:
    """Return unit vectors (direction, axis, z, y, x) by ascending eigenvalue of the structure tensor."""
    window = [dict(zip(axes, sigmas, strict=True)).get(axis, 0.0) for axis in range(3)]

    def mean(product_: Floats) -> Floats:
        return np.asarray(ndimage.gaussian_filter(product_, window, mode="wrap", truncate=WINDOW_SIGMA)[within])

    tensor = np.stack([np.stack([mean(one * other) for other in first], -1) for one in first], -2)
    return np.moveaxis(np.linalg.eigh(tensor).eigenvectors, (-1, -2), (0, 1))


def _rotated(directions: Floats, orders: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Floats]]:
    """Yield the orders along the axes whose transforms add up to the one along directions, and their weights.

    A product of `direction . frequency`, each to the power of its order, is multiplied out: each factor takes one axis.
    """
    rows = [row for row, order in enumerate(orders) for _ in range(order)]
    ways: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
    for columns in product(range(len(orders)), repeat=len(rows)):
        ways[tuple(columns.count(axis) for axis in range(len(orders)))].append(columns)
    for counts, alike in ways.items():
        total = sum(math.prod(directions[at] for at in zip(rows, columns, strict=True)) for columns in alike)
        factorials = (math.prod(map(math.factorial, one)) for one in (counts, orders))
        yield counts, total * math.sqrt(next(factorials) / next(factorials))
