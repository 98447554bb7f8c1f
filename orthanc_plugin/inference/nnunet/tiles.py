"""Place the tiles of the sliding window, and compute the share of each tile in each voxel.

The Gaussian importance map is a product of one curve per axis, and tiles form a grid; so the sum of all maps is such a
product too. Each tile therefore gets its final share in advance, and the shares of a voxel add up to 1. Nothing is
divided at the end. The map's scale (1 in v1, 10 in v2) and v1's rule for a single tile have no effect, and tiny weights
cost no precision in the corners.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Curve = NDArray[np.float32]

_SIGMA = 1 / 8  # of the patch


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One position of the window along one axis. share: float32, for each voxel the tile's part of the sum."""

    start: int
    share: Curve

    @property
    def stop(self) -> int:
        """The first voxel after the tile."""
        return self.start + len(self.share)

    @property
    def span(self) -> slice:
        """Its voxels."""
        return slice(self.start, self.stop)


def tile_starts(size: int, patch: int, step: float) -> tuple[int, ...]:
    """Return the first voxel of each tile along an axis that has at least the length of the patch.

    Source
    ------
    nnU-Net v1 `SegmentationNetwork._compute_steps_for_sliding_window`, v2 `compute_steps_for_sliding_window`: as many
    tiles as steps of at most `step` patches need, evenly spread, rounded with halves to even.
    """
    count = int(np.ceil((size - patch) / (patch * step))) + 1
    distance = (size - patch) / (count - 1) if count > 1 else 0.0
    return tuple(int(np.round(index * distance)) for index in range(count))


def importance(patch: int) -> NDArray[np.float64]:
    """Compute the weight of each voxel along one axis of a patch, 1 in its middle.

    The map of a patch is the outer product of its axes' curves. It never reaches 0 (its smallest value is exp(-24)). So
    the original frameworks' replacement of zeros would change nothing in float32.

    Source
    ------
    nnU-Net v1 `_get_gaussian`, v2 `compute_gaussian`: Gaussian of a delta at patch // 2, sigma patch / 8.
    """
    delta = np.zeros(patch)
    delta[patch // 2] = 1.0
    curve = ndimage.gaussian_filter1d(delta, patch * _SIGMA, mode="constant")
    return np.asarray(curve / curve.max())


def axis_tiles(size: int, patch: int, step: float) -> tuple[Tile, ...]:
    """Place tiles along one axis and give them their shares."""
    starts, curve = tile_starts(size, patch, step), importance(patch)
    total = np.zeros(size)
    for start in starts:
        total[start : start + patch] += curve
    return tuple(Tile(start, (curve / total[start : start + patch]).astype(np.float32)) for start in starts)


def slice_blocks(size: int, depth: int) -> tuple[Tile, ...]:
    """Divide slices into blocks, for a network that sees one slice at a time; each slice belongs to one block."""
    return tuple(
        Tile(start, np.ones(min(depth, size - start), np.float32)) for start in range(0, size, min(depth, size))
    )


def padding(size: int, patch: int) -> tuple[int, int]:
    """Count voxels to add before and after an axis that is shorter than the patch; an odd one is added after.

    Source
    ------
    `pad_nd_image` of batchgenerators (v1) and acvl_utils (v2).
    """
    missing = max(0, patch - size)
    return missing // 2, missing - missing // 2


def mirrorings(axes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """List all subsets of the axes that test-time mirroring reverses, the empty one first."""
    return tuple(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
