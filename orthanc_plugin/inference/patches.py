"""Place the patches of any network, and compute each one's share in each voxel, as its card says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.catalog.volume import Blending, Placing, VolumeModel
from orthanc_plugin.inference.grid import Field
from orthanc_plugin.inference.nnunet.tiles import importance, tile_starts

Place = tuple[slice, ...]

_LEAST_WEIGHT = 1e-3
_SIGMA = 1 / 8  # of the patch


def patches(sides: Sequence[int], patch: Sequence[int], model: VolumeModel) -> Iterator[tuple[Place, Field]]:
    """Yield the place of each patch and its share in each voxel; the shares of a voxel add up to 1."""
    places, weight = _places(sides, patch, model), _weights(patch, model)
    total = np.zeros(tuple(sides), np.float32)
    for place in places:
        total[place] += weight
    for place in places:
        yield place, weight / total[place]


def _places(sides: Sequence[int], patch: Sequence[int], model: VolumeModel) -> list[Place]:
    def starts(size: int, length: int) -> tuple[int, ...]:
        if model.placing is Placing.FIXED:
            return fixed_starts(size, length, model.overlap)
        return tile_starts(size, length, 1 - model.overlap)

    along = (starts(size, length) for size, length in zip(sides, patch, strict=True))
    return [tuple(slice(at, at + n) for at, n in zip(corner, patch, strict=True)) for corner in product(*along)]


def fixed_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """Return the first voxel of each patch along an axis at least as long: equal steps, the last one moved back.

    Source
    ------
    MONAI `_get_scan_interval` and `dense_patch_slices`: steps of int(patch x (1 - overlap)) voxels, 1 or more.
    """
    step = max(1, int(patch * (1 - overlap)))
    count = -(-max(0, size - patch) // step) + 1
    return tuple(min(index * step, size - patch) for index in range(count))


def _weights(patch: Sequence[int], model: VolumeModel) -> Field:
    if model.blending is Blending.UNIFORM:
        return np.ones(tuple(patch), np.float32)
    fixed = model.placing is Placing.FIXED
    weight = reduce(np.multiply.outer, [_centred(side) if fixed else importance(side) for side in patch])
    return np.asarray(np.maximum(weight, _LEAST_WEIGHT) if fixed else weight, np.float32)


def _centred(patch: int) -> NDArray[np.float64]:
    """Compute the weight of each voxel along one axis, symmetric about the middle of the patch.

    Source
    ------
    MONAI `compute_importance_map`: Gaussian with sigma patch / 8; of the product of all axes, values below 0.001 are
    raised to it.
    """
    middle = np.arange(patch) - (patch - 1) / 2
    return np.asarray(np.exp(-0.5 * (middle / (patch * _SIGMA)) ** 2))
