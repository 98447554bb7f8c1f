"""Source slices in HU onto the grid of their volume, where these are not the same.

Sideways a slice moves by whole pixels, so its values stay as they are. Between slices values are interpolated linearly.
What no slice covers is air.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orthanc_plugin.domain.volume import Placement, Voxels
from orthanc_plugin.series.pixels import AIR_HU

ON_A_SLICE = 0.05
"""A slice of the volume this near to a source slice, in steps, takes its values as they are."""


def resample(slices: Voxels, placement: Placement, shape: tuple[int, int, int]) -> Voxels:
    """Fill a volume.

    Parameters
    ----------
    slices : ndarray, shape (n, rows, columns), float32
        HU, in the order of `placement`.
    shape : (z, y, x)
        Of the volume.
    """
    volume = np.full(shape, AIR_HU, np.float32)
    for k, plane in enumerate(volume):
        index, weight = _neighbours(placement, k)
        plane[placement.window(index)] = slices[index]
        if weight:
            plane -= np.float32(weight) * (plane - np.float32(AIR_HU))
            part = plane[placement.window(index + 1)]
            part += np.float32(weight) * (slices[index + 1] - np.float32(AIR_HU))
    return volume


def in_place(slices: Voxels, placement: Placement | None, shape: tuple[int, int, int]) -> Iterator[Voxels]:
    """Give each source slice (rows, columns) at its place in the planes of a volume (z, y, x), its edges drawn out."""
    if placement is None:
        yield from slices
        return
    for index, values in enumerate(slices):
        window = placement.window(index)
        beside = [(part.start, size - part.stop) for part, size in zip(window, shape[1:], strict=True)]
        yield np.pad(values, beside, mode="edge")


def _neighbours(placement: Placement, k: int) -> tuple[int, float]:
    """Give the source slice at or below a slice of the volume, and the weight of the next one."""
    z = placement.z
    index = int(np.clip(np.searchsorted(z, k, side="right") - 1, 0, len(z) - 2))
    weight = float(np.clip((k - z[index]) / (z[index + 1] - z[index]), 0, 1))
    near = abs(k - z[index]), abs(k - z[index + 1])
    if min(near) <= ON_A_SLICE:
        weight = float(near[1] < near[0])
    return (index + 1, 0.0) if weight == 1.0 else (index, weight)
