"""IBSI's resampling of an organ. It computes only the part of the new grid that holds the organ.

The centres of old and new grid coincide. The new grid is never smaller, because its size is rounded up. Beyond its last
voxel the image keeps that voxel's value. HU are rounded to whole numbers. The mask is interpolated linearly, and a
voxel is inside from one half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.radiomics_settings import Interpolation
from orthanc_plugin.domain.volume import Voxels

Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]

_SPLINE_REACH = 16
"""Distance in voxels beyond which a neighbour's weight in a cubic spline is below 1e-9."""
_HALF = 0.5 - 1e-6
"""One half, with room for a rounding to 0.4999999 (IBSI manual, notes on interpolation)."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """New voxels of one axis: `count` voxels, `step` apart, from `start`. Unit: old voxels."""

    start: float
    step: float
    count: int

    def around(self, box: slice, margin: int, periodic: bool) -> _Axis:
        """Keep the voxels that touch the old voxels `box`, and `margin` on both sides; all near an end if periodic."""
        first = math.floor((box.start - 1 - self.start) / self.step) - margin
        last = math.ceil((box.stop - self.start) / self.step) + margin
        if periodic and (first < 0 or last >= self.count):
            return self
        first, last = max(0, first), min(self.count - 1, last)
        return _Axis(self.start + first * self.step, self.step, last - first + 1)

    def sources(self, size: int, reach: int) -> slice:
        """Return the old voxels on which the values depend."""
        end = self.start + (self.count - 1) * self.step
        first = min(size - 1, max(0, math.floor(self.start) - reach))
        return slice(first, max(first, min(size - 1, math.ceil(end) + reach)) + 1)


def resampled(
    voxels_hu: Voxels,
    mask: Mask,
    box: Box,
    spacing_mm: Spacing,
    new_spacing_mm: Spacing,
    interpolation: Interpolation,
    margin: int = 0,
    *,
    periodic: bool = False,
) -> tuple[Voxels, Mask]:
    """Resample an organ and its surroundings to IBSI's new grid.

    Parameters
    ----------
    voxels_hu : ndarray, shape (z, y, x), float32
        The whole image.
    mask : ndarray, bool
        The organ in `box`.
    new_spacing_mm : (z, y, x)
        0 keeps the spacing of that axis.
    margin : int
        New voxels on each side of the organ that a filter reads.
    periodic : bool
        Whether the filter wraps around at the ends of the image, as the wavelet does.

    Returns
    -------
    (ndarray, ndarray)
        The image, float32 with whole numbers, and the mask, bool, of the same shape.

    Source
    ------
    IBSI reference manual, interpolation, and the notes on interpolation of its reference data sets.
    """
    axes = _axes(voxels_hu.shape, box, spacing_mm, new_spacing_mm, margin, periodic)
    order = 3 if interpolation is Interpolation.CUBIC else 1
    reach = _SPLINE_REACH if order == 3 else 1
    there = tuple(axis.sources(size, reach) for axis, size in zip(axes, voxels_hu.shape, strict=True))
    image = _interpolated(voxels_hu[there], axes, there, order)
    inside = _interpolated(_within(mask, box, there), axes, there, 1) >= _HALF
    return np.rint(image).astype(np.float32), inside


def resampled_voxels(
    shape: tuple[int, ...],
    box: Box,
    spacing_mm: Spacing,
    new_spacing_mm: Spacing,
    margin: int = 0,
    *,
    periodic: bool = False,
) -> int:
    """Count the voxels that `resampled` would return, given the shape of the image and its other parameters."""
    return math.prod(axis.count for axis in _axes(shape, box, spacing_mm, new_spacing_mm, margin, periodic))


def _axes(
    shape: tuple[int, ...], box: Box, spacing_mm: Spacing, new_spacing_mm: Spacing, margin: int, periodic: bool
) -> list[_Axis]:
    return [
        _axis(size, old, new or old).around(part, margin, periodic)
        for size, old, new, part in zip(shape, spacing_mm, new_spacing_mm, box, strict=True)
    ]


def _axis(size: int, old_mm: float, new_mm: float) -> _Axis:
    count = math.ceil(size * old_mm / new_mm - 1e-9)  # 3 * 0.1 / 0.1 is 3.0000000000000004
    step = new_mm / old_mm
    return _Axis((size - 1) / 2 - (count - 1) / 2 * step, step, count)


def _within(mask: Mask, box: Box, there: tuple[slice, ...]) -> Mask:
    """Copy the mask to the part `there` of the image, which may hold all of the box, a part of it or nothing."""
    whole = np.zeros([part.stop - part.start for part in there], bool)
    starts = [max(part.start, crop.start) for part, crop in zip(box, there, strict=True)]
    stops = [max(first, min(p.stop, crop.stop)) for first, p, crop in zip(starts, box, there, strict=True)]
    target = tuple(slice(a - c.start, b - c.start) for a, b, c in zip(starts, stops, there, strict=True))
    source = tuple(slice(a - c.start, b - c.start) for a, b, c in zip(starts, stops, box, strict=True))
    whole[target] = mask[source]
    return whole


def _interpolated(
    values: Voxels | Mask, axes: list[_Axis], there: tuple[slice, ...], order: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(
        ndimage.affine_transform(
            values.astype(np.float32, copy=False),
            np.diag([axis.step for axis in axes]),
            [axis.start - crop.start for axis, crop in zip(axes, there, strict=True)],
            tuple(axis.count for axis in axes),
            output=np.float64,
            order=order,
            mode="nearest",
        )
    )
