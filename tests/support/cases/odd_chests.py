"""Chests with one change each, made of any chest whose lungs are known: fluid, air, cuts, a couch, gas.

Axes are canonical here (z to the head, y to the back, x to the left), as in the phantom and in cip_ct64.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Volume, Voxels

FLUID_HU, AIR_HU, PADDING_HU = 20.0, -1000.0, -2000.0


def with_voxels(volume: Volume, voxels: Voxels) -> Volume:
    """Return the volume with other voxels; a crop stays at the old place, which no test here needs."""
    return replace(volume, voxels_hu=np.ascontiguousarray(voxels, np.float32))


def filled(volume: Volume, region: Mask, hu: float = FLUID_HU) -> Volume:
    """Fill a region, as an effusion (fluid) or a pneumothorax (air) fills a half of the chest."""
    return with_voxels(volume, np.where(region, np.float32(hu), volume.voxels_hu))


def cropped(volume: Volume, left: int = 0, right: int = 0) -> Volume:
    """Cut columns off: `right` at the patient's right, where x is low, and `left` at the left."""
    columns = volume.voxels_hu.shape[2]
    return with_voxels(volume, volume.voxels_hu[:, :, right : columns - left])


def in_circle(volume: Volume, radius: float, centre: tuple[float, float]) -> Volume:
    """Keep a reconstruction circle (voxels, centre (y, x)) and pad the rest."""
    y, x = np.indices(volume.voxels_hu.shape[1:])
    inside = np.hypot(y - centre[0], x - centre[1]) <= radius
    return with_voxels(volume, np.where(inside, volume.voxels_hu, np.float32(PADDING_HU)))


def half_filled_at_edge(volume: Volume) -> Volume:
    """Fill what is air in the right half within 24 columns of the middle of 64, and crop four columns each side."""
    middle = volume.voxels_hu.shape[2] // 2
    y, x = np.indices(volume.voxels_hu.shape[1:]) - middle
    half = (x <= 0) & (np.hypot(y, x) < 24)
    return cropped(filled(volume, half & (volume.voxels_hu < -400), 30.0), 4, 4)


def without_body(volume: Volume) -> Volume:
    """Leave a couch of foam, closed by shells, in open air."""
    voxels = np.full_like(volume.voxels_hu, AIR_HU)
    depth, width = (length // 8 for length in volume.voxels_hu.shape[1:])
    voxels[:, 4 * depth : 7 * depth, width:-width] = 0.0
    voxels[:, 4 * depth + 3 : 7 * depth - 3, width + 3 : -width - 3] = -960.0
    return with_voxels(volume, voxels)
