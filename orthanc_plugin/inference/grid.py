"""Turn a volume to canonical orientation, and resample between its own grid and a coarse one.

Canonical means z:S, y:P, x:L: indices grow toward head, back and left. Turning reorders and reverses axes without
interpolation. A coarse grid has the volume's extent; its voxel size is the wanted one up to rounding. Resampling is
linear, with a kernel that widens when it shrinks, so that it misses no fine structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import InputError, Refusal

Field = NDArray[np.float32]
Spacing = tuple[float, float, float]

_MAX_OBLIQUE_DEGREES = 30.0
_HALF_WAY = 0.01
"""Rows within 0.2 degrees of 45 count as half-way: rounded cosines must not decide."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How a volume's array becomes canonical: reorder its axes, then reverse some."""

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def forward(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of `array` in canonical order."""
        return array.transpose(self.axes)[self._slices]

    def backward(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a canonical array in the volume's own order."""
        return array[self._slices].transpose(tuple(np.argsort(self.axes)))

    @property
    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)


def canonical_turn(volume: Volume) -> Turn:
    """Find the turn to z:S, y:P, x:L.

    Raises
    ------
    InputError
        NOT_AXIAL where the slices lie more than 30 degrees off the axial plane. Rows may be turned in that plane by
        any angle: each takes the nearer of the two patient axes, and at 45 degrees the one it is stored along.
    """
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    towards = directions[::-1, ::-1]  # rows: patient z, y, x; columns: array axes z, y, x
    axes = axial_axes(np.abs(towards))
    if axes is None:
        raise InputError(Refusal.NOT_AXIAL, "the slices are not axial")
    flipped = [bool(towards[row, axis] < 0) for row, axis in enumerate(axes)]
    return Turn(axes, (flipped[0], flipped[1], flipped[2]))


def axial_axes(nearness: NDArray[np.floating]) -> tuple[int, int, int] | None:
    """Match array axes to patient z, y and x; None where the slices lie more than 30 degrees off the axial plane.

    Parameters
    ----------
    nearness : ndarray, shape (3, 3)
        Size of the cosine between patient axis (rows: z, y, x) and array axis (columns: z, y, x).
    """
    if nearness[0, 0] < np.cos(np.radians(_MAX_OBLIQUE_DEGREES)):
        return None
    crossed = nearness[1, 2] + nearness[2, 1] > nearness[1, 1] + nearness[2, 2] + _HALF_WAY
    return (0, 2, 1) if crossed else (0, 1, 2)


def _linear(size_in: int, size_out: int) -> Any:
    """Make a sparse (size_out, size_in) matrix that interpolates linearly between grids of the same extent."""
    ratio = size_in / size_out
    centres = (np.arange(size_out) + 0.5) * ratio - 0.5
    width = max(1.0, ratio)
    rows, columns = np.meshgrid(np.arange(size_out), np.arange(-int(width) - 1, int(width) + 2), indexing="ij")
    columns = columns + np.round(centres).astype(int)[:, None]
    weights = np.clip(1.0 - np.abs(columns - centres[:, None]) / width, 0.0, None)
    weights[(columns < 0) | (columns >= size_in)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights > 0
    entries = (weights[used].astype(np.float32), (rows[used], columns[used]))
    return sparse.csr_matrix(entries, shape=(size_out, size_in))


def resize(mask: NDArray[np.bool_], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Bring a mask to another grid of the same extent; a voxel is set if any voxel that it covers is set."""
    for axis, size in enumerate(shape):
        old = mask.shape[axis]
        first = np.arange(size) * old // size
        last = np.maximum(first, ((np.arange(size) + 1) * old - 1) // size)
        counts = np.cumsum(mask, axis=axis, dtype=np.int32)
        before = np.take(counts, first, axis=axis) - np.take(mask, first, axis=axis)
        mask = np.take(counts, last, axis=axis) > before
    return mask


class CoarseGrid:
    """A grid of about `wanted_mm` over a canonical array.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x).
    spacing_mm : tuple of float
        (z, y, x), of the coarse grid.
    fine_spacing_mm : tuple of float
        (z, y, x), of the array.
    """

    def __init__(self, shape: Sequence[int], spacing_mm: Sequence[float], wanted_mm: float) -> None:
        self._fine = tuple(shape)
        self.fine_spacing_mm = tuple(spacing_mm)
        sizes = [max(1, round(size * step / wanted_mm)) for size, step in zip(shape, spacing_mm, strict=True)]
        self.shape = (sizes[0], sizes[1], sizes[2])
        steps = [s * mm / n for s, mm, n in zip(shape, spacing_mm, sizes, strict=True)]
        self.spacing_mm = (steps[0], steps[1], steps[2])
        self._down = [_linear(fine, coarse) for fine, coarse in zip(shape, self.shape, strict=True)]
        self._up = [_linear(coarse, fine) for fine, coarse in zip(shape, self.shape, strict=True)]

    def shrink(self, fine: NDArray[Any], low: float, high: float) -> Field:
        """Clip a fine array to [low, high] and shrink it slice by slice: (z, y, x) float32 on the coarse grid."""
        slices = np.empty((self._fine[0], *self.shape[1:]), np.float32)
        for index, plane in enumerate(fine):
            clipped = np.clip(plane, low, high).astype(np.float32)
            slices[index] = self._in_plane(self._down, clipped)
        flat = self._down[0] @ slices.reshape(len(slices), -1)
        return np.asarray(flat, np.float32).reshape(self.shape)

    def mixes_in(self, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find the coarse pixels (y, x) whose value in `shrink` some of the given fine pixels (y, x) enter."""
        return np.asarray(self._in_plane(self._down, pixels.astype(np.float32)) > 0)

    def refine(self, coarse: Field, z: int, far: float) -> Field:
        """Return slice z (y, x) of a coarse field on the fine grid; where the field is about `far`, exactly `far`."""
        row = self._up[0].getrow(z)
        plane = np.tensordot(row.data, coarse[row.indices], axes=1)
        fine = np.full(self._fine[1:], far, np.float32)
        near = plane < far - 1
        if near.any():
            # Only what is near costs anything; the airway fills a hundredth of a slice.
            rows, columns = (self._around(np.flatnonzero(near.any(axis=1 - axis)), axis + 1) for axis in (0, 1))
            fine[rows, columns] = self._in_plane((None, self._up[1][rows], self._up[2][columns]), plane)
        return fine

    def _around(self, there: NDArray[np.intp], axis: int) -> slice:
        """Return the fine indices along an axis that take anything from some coarse indices, given in order."""
        first, last = there[[0, -1]]
        ratio = self._fine[axis] / self.shape[axis]
        return slice(max(0, int((first - 1) * ratio) - 2), min(self._fine[axis], int((last + 2) * ratio) + 1))

    @staticmethod
    def _in_plane(matrices: Sequence[Any], plane: NDArray[Any]) -> Field:
        return np.asarray((matrices[2] @ (matrices[1] @ plane).T).T, np.float32)
