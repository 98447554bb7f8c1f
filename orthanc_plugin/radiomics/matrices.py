"""Texture matrices of grey levels in a mask, in the form that the features need.

pyradiomics' C code counts co-occurrences. Zones are the connected components of equal level, which cc3d numbers in one
pass. Only entries above zero are kept: a matrix with a column for each size of a zone takes gigabytes for a lung. Runs,
dependences and neighbourhood differences come from shifted copies of the whole organ.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import cc3d
import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.radiomics.discretise import Levels
from orthanc_plugin.radiomics.reference import pyradiomics
from orthanc_plugin.radiomics.resample import Box

Floats = NDArray[np.float64]
_Kind = TypeVar("_Kind", bound=np.generic)

_DISTANCES = np.array([1])
_SLAB_VOXELS = 2_000_000
_MANY_LEVELS = 256
"""Grey levels up to which the whole matrix of co-occurrences costs less than leaving out those that are absent."""
_LONG_RUNS = 4
"""Steps along runs per voxel; beyond that pyradiomics' walk along lines is faster."""

Direction = tuple[int, int, int]
_DIRECTIONS: tuple[Direction, ...] = tuple(
    (z, y, x) for z, y, x in product((0, 1), (-1, 0, 1), (-1, 0, 1)) if (z, y, x) > (0, 0, 0)
)


@dataclass(frozen=True, slots=True)
class GreyLevels:
    """Grey levels of a structure.

    levels: (z, y, x) int32, C order, cropped to the structure; any value outside of it.
    mask: (z, y, x) bool, C order.
    padded: (z + 2, y + 2, x + 2), smallest unsigned type, C order: the levels inside, 0 outside.
    counts: (highest + 1,), number of voxels of each grey level.
    force_2d: neighbours within slices only.
    ibsi: a direction without two voxels on a line has runs of one voxel, and a voxel without a neighbour does not count
    in the neighbourhood differences. pyradiomics leaves out the direction and counts the voxel.
    """

    levels: Levels
    mask: Mask
    padded: NDArray[np.unsignedinteger]
    counts: NDArray[np.int64]
    force_2d: bool
    ibsi: bool = False

    @classmethod
    def of(cls, levels: Levels, mask: Mask, force_2d: bool, ibsi: bool = False) -> GreyLevels:
        """Crop and count. A single column gets an empty one beside it: pyradiomics refuses masks without neighbours."""
        box = occupied_box(mask)
        cropped, inside = _packed(levels[box].astype(np.int32, copy=False)), _packed(mask[box])
        if inside.shape[1:] == (1, 1):
            beside = ((0, 0), (0, 0), (0, 1))
            cropped, inside = np.pad(cropped, beside), np.pad(inside, beside)
        values = cropped[inside]
        counts = np.bincount(values)
        padded = np.zeros([size + 2 for size in inside.shape], np.min_scalar_type(len(counts)))
        padded[1:-1, 1:-1, 1:-1][inside] = values
        return cls(cropped, inside, padded, counts, force_2d, ibsi)

    @property
    def highest(self) -> int:
        """Highest grey level, which pyradiomics uses as their number."""
        return len(self.counts) - 1

    @property
    def present(self) -> NDArray[np.int64]:
        """Grey levels that occur, ascending."""
        return np.flatnonzero(self.counts)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions to one of each pair of opposite neighbours."""
        return tuple(one for one in _DIRECTIONS if not (self.force_2d and one[0]))

    def step(self, direction: Direction) -> int:
        """Return the distance to the neighbour in the flat padded levels; across a border lies padding."""
        return int(np.dot(direction, self.padded.strides)) // self.padded.itemsize


def _packed(voxels: NDArray[_Kind]) -> NDArray[_Kind]:
    """Copy into C order with proper strides.

    pyradiomics divides by strides, and numpy may leave 0 as the stride of an axis of one voxel.
    """
    return np.ascontiguousarray(voxels).ravel().reshape(voxels.shape)


def occupied_box(mask: Mask) -> Box:
    """Return the smallest box around a mask that is not empty."""
    z, y, x = (slice(there[0], there[-1] + 1) for axis in range(3) for there in [_occupied(mask, axis)])
    return z, y, x


def _occupied(mask: Mask, axis: int) -> NDArray[np.int64]:
    return np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))


@dataclass(frozen=True, slots=True)
class SizeMatrix:
    """How often each grey level has each size (length of a run, voxels of a zone, dependent neighbours), without zeros.

    level, size, count: (n,) float64.
    """

    level: Floats
    size: Floats
    count: Floats

    @classmethod
    def of(cls, dense: NDArray[np.generic], level: NDArray[np.int64]) -> SizeMatrix:
        """Convert a matrix (levels, sizes). `level` (levels,) holds the grey levels; sizes are 1, 2, ..."""
        row, column = np.nonzero(dense)
        return cls(level[row].astype(float), (column + 1).astype(float), dense[row, column].astype(float))


def co_occurrences(grey: GreyLevels) -> Floats:
    """Count the symmetrical co-occurrences of the levels present, (level, level, direction)."""
    levels, present = grey.levels, grey.present
    if grey.highest > _MANY_LEVELS:
        # By their places among the levels present: a matrix of all levels may be a thousand times larger.
        place = np.zeros(grey.highest + 1, np.int32)
        place[present] = np.arange(1, len(present) + 1)
        levels, present = place[np.where(grey.mask, levels, 0)], np.arange(1, len(present) + 1)
    counted, _ = pyradiomics().cMatrices.calculate_glcm(
        levels, grey.mask, _DISTANCES, int(present[-1]), grey.force_2d, 0
    )
    one_way = counted[0][np.ix_(present - 1, present - 1)]
    return np.asarray(one_way + one_way.transpose(1, 0, 2))


def runs(grey: GreyLevels) -> list[SizeMatrix]:
    """Count the runs of each direction; `ibsi` decides which directions count."""
    found = _runs_of_lines(grey)
    if grey.ibsi:
        alone = SizeMatrix.of(grey.counts[:, None], np.arange(len(grey.counts)))
        found += [alone] * (len(grey.directions) - len(found))
    return found


def _runs_of_lines(grey: GreyLevels) -> list[SizeMatrix]:
    """Count the runs of each direction in which two voxels of the structure lie on one line."""
    found = []
    for direction in grey.directions:
        chains = _chains(grey, grey.step(direction))
        if chains is None:
            return _long_runs(grey)
        if len(chains) > 1 or _share_a_line(grey.mask, direction):
            ends = np.concatenate([chains, np.zeros((2, len(grey.counts)), np.int64)])
            exactly = ends[:-2] - 2 * ends[1:-1] + ends[2:]
            found.append(SizeMatrix.of(exactly.T, np.arange(len(grey.counts))))
    return found


def _chains(grey: GreyLevels, step: int) -> NDArray[np.int64] | None:
    """Count the voxels of each level that begin 1, 2, ... equal ones, (lengths, levels); None if it takes too long."""
    flat = grey.padded.ravel()
    equal = np.zeros(flat.size, bool)
    np.equal(flat[step:], flat[:-step], out=equal[:-step])
    equal &= flat > 0
    chains, steps, begin = [grey.counts], 0, np.flatnonzero(equal)
    while begin.size:
        chains.append(np.bincount(flat[begin], minlength=len(grey.counts)))
        steps += begin.size
        if steps > _LONG_RUNS * grey.counts.sum():
            return None
        begin = begin[equal[begin + (len(chains) - 1) * step]]
    return np.array(chains)


def _share_a_line(mask: Mask, direction: Direction) -> bool:
    voxels = np.argwhere(mask)
    along = voxels[:, direction.index(1)]
    lines = voxels - along[:, None] * direction
    return len(np.unique(lines @ (1 << 40, 1 << 20, 1))) < len(voxels)


def _long_runs(grey: GreyLevels) -> list[SizeMatrix]:
    counted, _ = pyradiomics().cMatrices.calculate_glrlm(
        grey.levels, grey.mask, grey.highest, max(grey.mask.shape), grey.force_2d, 0
    )
    directions = [direction for direction in np.moveaxis(counted[0], 2, 0) if direction.any()]
    return [SizeMatrix.of(direction, np.arange(1, grey.highest + 1)) for direction in directions]


def zones(grey: GreyLevels) -> SizeMatrix:
    """Count the connected zones of equal level by their size."""
    labels = zone_labels(grey)
    return _by_zone(grey, labels, np.bincount(labels.ravel())[1:])


def zone_distances(grey: GreyLevels, distance: NDArray[np.integer]) -> SizeMatrix:
    """Count the connected zones of equal level by their smallest distance.

    distance: (z, y, x), of the size of the structure's box, from 1.
    """
    labels = zone_labels(grey)
    inside = labels[tuple(map(slice, distance.shape))].ravel()
    farthest_first = np.argsort(-distance.ravel(), kind="stable")
    smallest = np.zeros(int(labels.max()) + 1, distance.dtype)
    smallest[inside[farthest_first]] = distance.ravel()[farthest_first]  # the last that is written stays
    return _by_zone(grey, labels, smallest[1:])


def zone_labels(grey: GreyLevels) -> NDArray[np.unsignedinteger]:
    """Give each connected zone of equal level a number from 1, (z, y, x); 0 outside."""
    levels = grey.padded[1:-1, 1:-1, 1:-1]
    if not grey.force_2d:
        return np.asarray(cc3d.connected_components(np.ascontiguousarray(levels), connectivity=26))
    spread = np.zeros((2 * len(levels), *levels.shape[1:]), levels.dtype)  # nothing between two slices
    spread[::2] = levels
    return np.asarray(cc3d.connected_components(spread, connectivity=26)[::2])


def _by_zone(grey: GreyLevels, labels: NDArray[np.unsignedinteger], size: NDArray[np.integer]) -> SizeMatrix:
    level = np.zeros(len(size) + 1, np.int64)
    level[labels.ravel()] = grey.padded[1:-1, 1:-1, 1:-1].ravel()
    width = int(size.max()) + 1
    entries, count = np.unique(level[1:] * width + size, return_counts=True)
    found_level, found_size = np.divmod(entries, width)
    return SizeMatrix(found_level.astype(float), found_size.astype(float), count.astype(float))


def dependences(grey: GreyLevels) -> SizeMatrix:
    """Count the neighbours of a voxel's own level, and the voxel itself."""
    flat = grey.padded.ravel()
    dependent = np.zeros(flat.size, np.uint8)
    for direction in grey.directions:
        step = grey.step(direction)
        equal = (flat[step:] == flat[:-step]).view(np.uint8)
        dependent[:-step] += equal
        dependent[step:] += equal
    inside = flat > 0
    counted = np.bincount(flat[inside].astype(np.int32) * 27 + dependent[inside], minlength=27 * len(grey.counts))
    return SizeMatrix.of(counted.reshape(-1, 27), np.arange(len(grey.counts)))


def neighbourhood_differences(grey: GreyLevels) -> tuple[NDArray[np.int64], Floats]:
    """Return the voxels that count and their sum of |level - mean of neighbours|, both (highest + 1,)."""
    depth, *slice_shape = grey.mask.shape
    slices = max(1, _SLAB_VOXELS // int(np.prod(slice_shape)))
    differences, counts = np.zeros(len(grey.counts)), np.zeros(len(grey.counts), np.int64)
    for start in range(0, depth, slices):
        slab = grey.padded[start : start + slices + 2].astype(np.int32)
        own, inside = slab[1:-1, 1:-1, 1:-1], grey.mask[start : start + slices]
        level = own[inside]
        neighbours = _surrounding(slab > 0, grey.force_2d)[inside] - 1
        mean = (_surrounding(slab, grey.force_2d)[inside] - level) / np.maximum(neighbours, 1)
        differences += np.bincount(level, np.where(neighbours, abs(level - mean), 0), len(grey.counts))
        counts += np.bincount(level[neighbours > 0] if grey.ibsi else level, minlength=len(grey.counts))
    return counts, differences


def _surrounding(slab: NDArray[np.generic], force_2d: bool) -> NDArray[np.int32]:
    """Add up each inner voxel and its neighbours."""
    total = slab.astype(np.int32)
    total = total[1:-1] if force_2d else total[:-2] + total[1:-1] + total[2:]
    total = total[:, :-2] + total[:, 1:-1] + total[:, 2:]
    return np.asarray(total[:, :, :-2] + total[:, :, 1:-1] + total[:, :, 2:])
