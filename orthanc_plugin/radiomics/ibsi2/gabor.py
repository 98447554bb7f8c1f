"""Gabor filters: how strong a wave of one length and direction is around a voxel of a slice."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from orthanc_plugin.domain.image_filters import GaborFilter, Pooling, Reach
from orthanc_plugin.radiomics.ibsi2.boundaries import PADDING
from orthanc_plugin.radiomics.resample import Spacing

Floats = NDArray[np.float64]

_WIDTHS = 5.0
"""Standard deviations of the envelope at which a kernel ends: a weight of 4e-6."""


def gabor_response(voxels: Floats, spacing_mm: Spacing, chosen: GaborFilter) -> Floats:
    """Return the modulus, pooled over the directions and averaged over the axes that slices are stacked along.

    Source
    ------
    IBSI 2 reference manual, Gabor filters.
    """
    axes = (0,) if chosen.reach is Reach.SLICE else (0, 1, 2)
    stacks = [_of_stack(voxels, spacing_mm, axis, chosen) for axis in axes]
    return np.asarray(np.mean(stacks, axis=0))


def gabor_reach(spacing_mm: Spacing, chosen: GaborFilter) -> tuple[int, int, int]:
    """Return how many voxels around a voxel its response depends on, (z, y, x)."""
    widest = _WIDTHS * chosen.sigma * max(1, 1 / chosen.gamma)
    z, y, x = (math.ceil(widest / mm) for mm in spacing_mm)
    return (0 if chosen.reach is Reach.SLICE else z), y, x


def _of_stack(voxels: Floats, spacing_mm: Spacing, axis: int, chosen: GaborFilter) -> Floats:
    slices = np.moveaxis(voxels, axis, 0)
    steps = np.delete(np.array(spacing_mm), axis)
    kernels = [_kernel(steps, theta, chosen) for theta in _directions(chosen)]
    reach = [size // 2 for size in kernels[0].shape]
    shape = [fft.next_fast_len(size + 2 * edge) for size, edge in zip(slices.shape[1:], reach, strict=True)]
    spectra = [fft.fft2(kernel, shape) for kernel in kernels]
    around = [(edge, edge) for edge in reach]
    inner = tuple(slice(2 * edge, 2 * edge + size) for edge, size in zip(reach, slices.shape[1:], strict=True))
    response = np.empty(slices.shape)
    for place, one in enumerate(slices):
        spectrum = fft.fft2(np.pad(one, around, mode=PADDING[chosen.boundary]), shape)  # type: ignore[call-overload]
        moduli = (np.abs(fft.ifft2(spectrum * kernel)[inner]) for kernel in spectra)
        response[place] = _pool(list(moduli), chosen.pooling)
    return np.moveaxis(response, 0, axis)


def _pool(moduli: list[Floats], pooling: Pooling) -> Floats:
    join = {Pooling.MAX: np.max, Pooling.MIN: np.min}.get(pooling, np.mean)
    return np.asarray(join(moduli, axis=0))


def _directions(chosen: GaborFilter) -> list[float]:
    """List the directions in degrees; a direction and its opposite have one modulus."""
    if not chosen.step:
        return [chosen.theta]
    turn = [chosen.theta + at * chosen.step for at in range(round(360 / chosen.step))]
    return turn[: len(turn) // 2] if len(turn) % 2 == 0 else turn


def _kernel(steps_mm: Floats, theta: float, chosen: GaborFilter) -> NDArray[np.complex128]:
    """Return the kernel on the grid of a slice, rows by columns, from its middle to where its envelope ends."""
    widest = _WIDTHS * chosen.sigma * max(1, 1 / chosen.gamma)
    y, x = (np.arange(-(edge := math.ceil(widest / mm)), edge + 1) * mm for mm in steps_mm)
    angle = math.radians(theta)
    along = x * math.cos(angle) + y[:, None] * math.sin(angle)
    across = y[:, None] * math.cos(angle) - x * math.sin(angle)
    envelope = np.exp(-(along**2 + (chosen.gamma * across) ** 2) / (2 * chosen.sigma**2))
    return np.asarray(envelope * np.exp(2j * np.pi * along / chosen.wavelength))
