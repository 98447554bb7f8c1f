"""Filters that are one kernel along each axis: mean, Laws, wavelets without decimation; and their rotations.

A set of kernels is turned by the rotations that map the axes onto each other: four of a square, 24 of a cube. Turning
swaps kernels and reverses some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.image_filters import Boundary, LawsFilter, MeanFilter, Pooling, Reach, WaveletFilter
from orthanc_plugin.radiomics.ibsi2.boundaries import SCIPY_MODES

Floats = NDArray[np.float64]
Kernels = Sequence[Floats]
"""One kernel along x, y and, in space, z."""

_LAWS = {
    "L3": np.array([1, 2, 1]) / np.sqrt(6),
    "L5": np.array([1, 4, 6, 4, 1]) / np.sqrt(70),
    "E3": np.array([-1, 0, 1]) / np.sqrt(2),
    "E5": np.array([-1, -2, 0, 2, 1]) / np.sqrt(10),
    "S3": np.array([-1, 2, -1]) / np.sqrt(6),
    "S5": np.array([-1, 0, 2, 0, -1]) / np.sqrt(6),
    "W5": np.array([-1, 2, 0, -2, 1]) / np.sqrt(10),
    "R5": np.array([1, -4, 6, -4, 1]) / np.sqrt(70),
}
"""IBSI 2 reference manual, Laws kernels, normalised."""


def mean_response(voxels: Floats, chosen: MeanFilter) -> Floats:
    """Average around each voxel."""
    kernel = np.full(chosen.size, 1 / chosen.size)
    return _convolved(voxels, [kernel] * (2 if chosen.reach is Reach.SLICE else 3), chosen.boundary)


def laws_response(voxels: Floats, chosen: LawsFilter) -> Floats:
    """Convolve with Laws kernels, pool over their rotations, and average the absolute response for the energy."""
    names = [chosen.kernels[at : at + 2] for at in range(0, len(chosen.kernels), 2)]
    kernels = [_LAWS[name] for name in names]
    response = _pooled(kernels, chosen.pooling, lambda turned: _convolved(voxels, turned, chosen.boundary))
    if not chosen.energy:
        return response
    size = 2 * chosen.energy + 1
    return _convolved(np.abs(response), [np.full(size, 1 / size)] * len(kernels), chosen.boundary)


def wavelet_response(voxels: Floats, chosen: WaveletFilter) -> Floats:
    """Decompose with the low pass down to the level, then with the chosen kernels; kernels widen by holes (a trous)."""
    import pywt  # type: ignore[import-untyped]  # comes with pyradiomics, which is an extra

    wavelet = pywt.Wavelet(chosen.family)
    passes = {"L": _centred(np.array(wavelet.dec_lo)), "H": _centred(np.array(wavelet.dec_hi))}
    low = [passes["L"]] * len(chosen.kernels)
    rotations = _rotations(len(chosen.kernels)) if chosen.pooling is not Pooling.NONE else _unturned(low)

    def response(turn: _Turn) -> Floats:
        image = voxels
        for level in range(chosen.level):
            last = level == chosen.level - 1
            kernels = [passes[letter] for letter in chosen.kernels] if last else low
            image = _convolved(image, [_with_holes(one, level) for one in _turned(kernels, turn)], chosen.boundary)
        return image

    return _pool((response(turn) for turn in rotations), chosen.pooling)


def separable_reach(chosen: MeanFilter | LawsFilter | WaveletFilter) -> int:
    """Return how many voxels around a voxel its response depends on."""
    if isinstance(chosen, MeanFilter):
        return chosen.size // 2
    if isinstance(chosen, LawsFilter):
        return 2 + chosen.energy
    import pywt

    return int(pywt.Wavelet(chosen.family).dec_len) * ((1 << chosen.level) - 1)


_Turn = tuple[tuple[int, ...], tuple[int, ...]]
"""Which kernel each axis gets, and -1 where it is reversed."""


def _rotations(axes: int) -> list[_Turn]:
    """List the turns that are rotations, not reflections: their determinant is 1."""
    turns = product(permutations(range(axes)), product((1, -1), repeat=axes))
    return [(order, signs) for order, signs in turns if np.linalg.det(np.eye(axes)[list(order)] * signs) > 0]


def _unturned(kernels: Kernels) -> list[_Turn]:
    return [(tuple(range(len(kernels))), (1,) * len(kernels))]


def _turned(kernels: Kernels, turn: _Turn) -> list[Floats]:
    order, signs = turn
    return [kernels[place][::sign] for place, sign in zip(order, signs, strict=True)]


def _pooled(kernels: Kernels, pooling: Pooling, respond: Callable[[Kernels], Floats]) -> Floats:
    """Pool the responses of the rotations that differ."""
    turns = _rotations(len(kernels)) if pooling is not Pooling.NONE else _unturned(kernels)
    distinct = {tuple(one.tobytes() for one in _turned(kernels, turn)): _turned(kernels, turn) for turn in turns}
    return _pool(map(respond, distinct.values()), pooling)


def _pool(responses: Iterator[Floats], pooling: Pooling) -> Floats:
    total, count = np.array(next(responses)), 1
    for one in responses:
        join = {Pooling.MAX: np.maximum, Pooling.MIN: np.minimum}.get(pooling, np.add)
        join(total, one, out=total)
        count += 1
    return total / count if pooling is Pooling.AVERAGE else total


def _convolved(voxels: Floats, kernels: Kernels, boundary: Boundary) -> Floats:
    for axis, kernel in zip((2, 1, 0), kernels, strict=False):
        voxels = ndimage.convolve1d(voxels, kernel, axis, mode=SCIPY_MODES[boundary])
    return np.asarray(voxels)


def _centred(kernel: Floats) -> Floats:
    """Give a kernel of even length its centre after the middle, by a zero at its end."""
    return np.append(kernel, 0.0) if len(kernel) % 2 == 0 else kernel


def _with_holes(kernel: Floats, level: int) -> Floats:
    step = 2**level
    spread = np.zeros((len(kernel) - 1) * step + 1)
    spread[::step] = kernel
    return spread
