"""Where a sliding window's result can be compared: voxels whose importance maps add up to more than 1e-4.

Below, nnU-Net v2's half precision leaves of its own logits little but whole numbers. An image voxel counts where every
voxel of the working grid that its interpolation reads is above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.catalog.nnunet import Framework
from tests.parity.nnunet.fixtures import Axes

Mask = NDArray[np.bool_]
LEAST_WEIGHT = 1e-4
_SCALE = {Framework.V1: 1.0, Framework.V2: 10.0}


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window; shape: (z, y, x) of what enters the network; patch: two numbers in 2d; step: part of it."""

    framework: Framework
    shape: tuple[int, ...]
    patch: tuple[int, ...]
    step: float = 0.5

    def weights(self) -> NDArray[np.float64]:
        """(z, y, x) sum of the importance maps, on the scale of the framework."""
        patch = (1, *self.patch)[-3:]
        axes = [self._axis(size, length) for size, length in zip(self.shape, patch, strict=True)]
        if self.framework is Framework.V1 and all(count == 1 for _, count in axes):
            return np.ones(self.shape)
        (z, _), (y, _), (x, _) = axes
        return np.asarray(_SCALE[self.framework] * z[:, None, None] * y[:, None] * x)

    def _axis(self, size: int, length: int) -> tuple[NDArray[np.float64], int]:
        """The sum along one axis (maps are products of one curve an axis), and the number of tiles."""
        if length == 1:  # 2d: every slice is a tile of its own, its map has no third axis
            return np.ones(size), 1
        padded, curve = max(size, length), np.zeros(length)
        curve[length // 2] = 1
        curve = ndimage.gaussian_filter1d(curve, length / 8, mode="constant")
        count = int(np.ceil((padded - length) / (length * self.step))) + 1
        total = np.zeros(padded)
        for start in np.round(np.linspace(0, padded - length, count)).astype(int):
            total[start : start + length] += curve / curve.max()
        before = (padded - size) // 2
        return total[before : before + size], count


def trusted(window: Window, transpose: Axes, voxels_hu: NDArray[np.float32]) -> Mask:
    """(z, y, x) of the image: in the crop to non-zero voxels, and heavy enough on the window's grid."""
    heavy = window.weights() > LEAST_WEIGHT
    box = ndimage.find_objects((voxels_hu != 0).astype(np.int8))[0]
    inner = np.zeros(voxels_hu.shape, bool)
    inside = inner[box].transpose(transpose)
    inside[:] = onto(heavy, inside.shape)
    return inner


def onto(heavy: Mask, shape: tuple[int, ...]) -> Mask:
    """Where linear interpolation to another shape reads heavy voxels only."""
    factors = [new / old for new, old in zip(shape, heavy.shape, strict=True)]
    found = ndimage.zoom(heavy.astype(np.float32), factors, order=1, mode="nearest", grid_mode=True)
    return np.asarray(found > 0.999)
