"""Texture matrices of grey levels in a mask, in the form in which features need them.

pyradiomics' C code counts co-occurrences, runs, neighbourhood differences and dependences. Zones would be a matrix of
grey levels by size of the largest zone there (gigabytes for a lung): they are searched a few levels at a time, and
only the entries that are not empty are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.masks import Mask
from orthanc_plugin.radiomics.reference import pyradiomics

Floats = NDArray[np.float64]
Levels = NDArray[np.int32]

_DISTANCES = np.array([1])
_ZONE_ENTRIES = 8_000_000
"""Entries of the matrix of zones that pyradiomics may fill at once: 64 MB."""


@dataclass(frozen=True, slots=True)
class GreyLevels:
    """Grey levels of a structure.

    levels: (z, y, x) int32, C order, cropped to the structure; anything outside of it.
    mask: (z, y, x) bool, C order.
    counts: (highest + 1,), voxels of each grey level.
    force_2d: neighbours within slices only.
    """

    levels: Levels
    mask: Mask
    counts: NDArray[np.int64]
    force_2d: bool

    @classmethod
    def of(cls, levels: Levels, mask: Mask, force_2d: bool) -> GreyLevels:
        """Crop and count; a single column gets an empty one beside it: pyradiomics refuses what has no neighbours."""
        box = tuple(slice(there[0], there[-1] + 1) for axis in range(3) for there in [_occupied(mask, axis)])
        cropped, inside = np.ascontiguousarray(levels[box], np.int32), np.ascontiguousarray(mask[box])
        if inside.shape[1:] == (1, 1):
            beside = ((0, 0), (0, 0), (0, 1))
            cropped, inside = np.pad(cropped, beside), np.pad(inside, beside)
        return cls(cropped, inside, np.bincount(cropped[inside]), force_2d)

    @property
    def highest(self) -> int:
        return len(self.counts) - 1

    @property
    def present(self) -> NDArray[np.int64]:
        """Grey levels that occur, ascending."""
        return np.flatnonzero(self.counts)


def _occupied(mask: Mask, axis: int) -> NDArray[np.int64]:
    return np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))


@dataclass(frozen=True, slots=True)
class SizeMatrix:
    """How often a grey level has a size (length of a run, voxels of a zone, dependent neighbours): entries above zero.

    level, size, count: (n,) float64.
    """

    level: Floats
    size: Floats
    count: Floats

    @classmethod
    def of(cls, dense: NDArray[np.generic], level: NDArray[np.int64]) -> SizeMatrix:
        """From a matrix (levels, sizes); `level` (levels,) are the grey levels, the sizes 1, 2, ..."""
        row, column = np.nonzero(dense)
        return cls(level[row].astype(float), (column + 1).astype(float), dense[row, column].astype(float))


def co_occurrences(grey: GreyLevels) -> Floats:
    """Symmetrical co-occurrences of the levels present, (level, level, direction)."""
    counted, _ = pyradiomics().cMatrices.calculate_glcm(
        grey.levels, grey.mask, _DISTANCES, grey.highest, grey.force_2d, 0
    )
    there = grey.present - 1
    one_way = counted[0][np.ix_(there, there)]
    return np.asarray(one_way + one_way.transpose(1, 0, 2))


def runs(grey: GreyLevels) -> Iterator[SizeMatrix]:
    """Runs of each direction in which two voxels of the structure lie on one line."""
    counted, _ = pyradiomics().cMatrices.calculate_glrlm(
        grey.levels, grey.mask, grey.highest, max(grey.mask.shape), grey.force_2d, 0
    )
    for direction in np.moveaxis(counted[0], 2, 0):
        if direction.any():
            yield SizeMatrix.of(direction, np.arange(1, grey.highest + 1))


def zones(grey: GreyLevels) -> SizeMatrix:
    """Connected zones of equal level."""
    found = [_zones_of(grey, group) for group in _groups(grey)]
    return SizeMatrix(*(np.concatenate([getattr(part, name) for part in found]) for name in ("level", "size", "count")))


def _groups(grey: GreyLevels) -> Iterator[NDArray[np.int64]]:
    """Levels present, rarest first, in groups whose matrix stays small: no zone is larger than its level."""
    group: list[int] = []
    for level in grey.present[grey.counts[grey.present].argsort(kind="stable")]:
        if group and (len(group) + 1) * grey.counts[level] > _ZONE_ENTRIES:
            yield np.array(group)
            group = []
        group.append(int(level))
    yield np.array(group)


def _zones_of(grey: GreyLevels, group: NDArray[np.int64]) -> SizeMatrix:
    row = np.zeros(len(grey.counts), np.int32)
    row[group] = np.arange(1, len(group) + 1)
    levels = np.zeros_like(grey.levels)
    levels[grey.mask] = row[grey.levels[grey.mask]]
    counted = pyradiomics().cMatrices.calculate_glszm(
        levels, levels > 0, len(group), int(grey.counts[group].sum()), grey.force_2d, 0
    )
    return SizeMatrix.of(counted[0], group)


def dependences(grey: GreyLevels) -> SizeMatrix:
    """Neighbours of the voxel's own level, and the voxel itself."""
    counted = pyradiomics().cMatrices.calculate_gldm(
        grey.levels, grey.mask, _DISTANCES, grey.highest, 0, grey.force_2d, 0
    )
    return SizeMatrix.of(counted[0], np.arange(1, grey.highest + 1))


def neighbourhood_differences(grey: GreyLevels) -> Floats:
    """Sum over the voxels of each level present of |level - mean of its neighbours|, (levels,)."""
    counted = pyradiomics().cMatrices.calculate_ngtdm(
        grey.levels, grey.mask, _DISTANCES, grey.highest, grey.force_2d, 0
    )
    return np.asarray(counted[0][grey.present - 1, 1])
