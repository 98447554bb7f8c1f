"""Tell apart by texture what HU alone do not: gas from lung, and blood with contrast medium from bone.

HU are looked at in blocks of about 3 mm, in which noise averages out and the texture of lung and bone stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Volume

Field = NDArray[np.float32]
Box = tuple[slice, slice, slice]

GAS_HU, GAS_SD_HU, GAS_WINDOW = -960.0, 8.0, 5
"""Gas lies below -960 HU (emphysema below -950); it varies by less than 8 HU over 5 voxels, lung by more."""
POCKET_HU, POCKET_SD_HU, POCKET_WINDOW, WALL_HU = (-880.0, -940.0), 30.0, 3, -800.0
"""Gas behind walls may be less dark and even: what tells it from lung is that nothing as light as air goes on from it.
It lies below the first limit where it is below lung, and below the second one elsewhere."""
_OPEN_SHARE = 0.25
"""Of the surface of a pocket at most a quarter is air; measured 0.01 to 0.15 on gas, 0.37 and more in even lung."""
_UNDER_LUNG, _OVER_LUNG = 0.6, 0.1
"""Least and greatest part of a pocket below lung that has lung above and below it; measured 0.9 to 1 and 0.02."""
BLOOD_SD_HU, BLOOD_SD_SHARE, BLOOD_WINDOW = 20.0, 0.05, 3
"""Greatest standard deviation of blood with contrast medium over 3 voxels, at 0 HU and per HU; bone varies by more."""
BLOOD_HU, METAL_HU = 130.0, 1500.0
"""Contrast medium lies between; urine full of it is denser than blood, metal denser than both."""
LEAST_GAS_ML = 20.0
"""From this volume on, gas without vessels is no lung."""
_BLOCK_MM, _MOST = 3.0, 0.5
_GROWTH_VOXELS = 4  # from the middle of a window to its corners, and once more
_CUBE = np.ones((3, 3, 3), bool)


def even_gas_ml(volume: Volume, mask: Mask, box: Box) -> float:
    """Measure the largest part of a lung that is gas without any structure, or less even gas behind walls.

    Parameters
    ----------
    volume : Volume
        The CT.
    mask : (z, y, x) bool
        The lung, inside `box`.
    box : tuple of slice
        Where the mask lies in the CT.

    Returns
    -------
    float
        mL.
    """
    hu, inside, block_ml = _in_blocks(volume, mask, box)
    mean, variance = _spread(hu, GAS_WINDOW)
    whole = np.ones((GAS_WINDOW,) * 3)
    even = ndimage.binary_erosion(inside, whole) & (mean < GAS_HU) & (variance < GAS_SD_HU**2)
    gas = ndimage.binary_dilation(even, whole)
    up = 1 if volume.affine[2, 2] >= 0 else -1
    for pocket in pockets(hu[::up], inside[::up]):
        gas |= pocket.mask[::up]
    return _largest(gas) * block_ml


@dataclass(frozen=True, slots=True)
class Pocket:
    """Even air that walls close off: gas of stomach or bowel, pneumothorax, a bulla.

    mask: (z, y, x) bool, as far as its walls.
    is_below: it has lung above it, and next to none below it.
    """

    mask: Mask
    is_below: bool


def pockets(hu: Field, inside: Mask, wall_hu: float = WALL_HU) -> Iterator[Pocket]:
    """Find the pockets of gas in what may be lung. Even parts of lung are none, because air goes on around them.

    Parameters
    ----------
    hu : (z, y, x) float32
        HU on a grid of about 3 mm, z to the head.
    inside : (z, y, x) bool
        Where to look.
    wall_hu : float
        What is denser is a wall.
    """
    mean, variance = _spread(hu, POCKET_WINDOW)
    core = ndimage.binary_erosion(inside, np.ones((POCKET_WINDOW,) * 3))
    numbered, _ = ndimage.label(core & (mean < max(POCKET_HU)) & (variance < POCKET_SD_HU**2))
    air = inside & (hu < wall_hu)
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        wide = tuple(slice(max(0, side.start - _GROWTH_VOXELS - 1), side.stop + _GROWTH_VOXELS + 1) for side in box)
        pocket = ndimage.binary_dilation(numbered[wide] == number, iterations=_GROWTH_VOXELS, mask=air[wide])
        surface = ndimage.binary_dilation(pocket) & ~pocket
        if (air[wide] & surface).sum() >= _OPEN_SHARE * surface.sum():
            continue
        whole = np.zeros(hu.shape, bool)
        whole[wide] = pocket
        is_below = _is_below(whole, inside)
        if np.median(hu[whole]) < (max(POCKET_HU) if is_below else min(POCKET_HU)):
            yield Pocket(whole, is_below)


def _is_below(pocket: Mask, inside: Mask) -> bool:
    """Compare a pocket with the lung in its columns; its walls are no lung."""
    lung = inside & ~ndimage.binary_dilation(pocket, _CUBE, iterations=2)
    above, below = np.logical_or.accumulate(lung[::-1])[::-1], np.logical_or.accumulate(lung)
    return bool(above[pocket].mean() >= _UNDER_LUNG and below[pocket].mean() <= _OVER_LUNG)


def contrast_ml(volume: Volume, mask: Mask, box: Box) -> float:
    """Measure the largest part of bone that is as even as blood with contrast medium (see `even_gas_ml`)."""
    hu, inside, block_ml = _in_blocks(volume, mask, box)
    return _largest(ndimage.binary_opening(inside & even_as_blood(hu))) * block_ml


def even_as_blood(hu: Field) -> Mask:
    """Find, on a grid of about 3 mm, what is as dense and as even as blood with contrast medium."""
    _, variance = _spread(hu, BLOOD_WINDOW)
    return np.asarray(
        (hu > BLOOD_HU) & (hu < METAL_HU) & (variance < (BLOOD_SD_HU + BLOOD_SD_SHARE * np.maximum(hu, 0)) ** 2)
    )


def _in_blocks(volume: Volume, mask: Mask, box: Box) -> tuple[Field, Mask, float]:
    """Average HU in blocks; also give the blocks that lie mostly in the mask, and mL of a block."""
    steps = [max(1, round(_BLOCK_MM / mm)) for mm in volume.spacing_mm]
    inside = _blocks(mask, steps) > _MOST
    return _blocks(volume.voxels_hu[box], steps), np.asarray(inside), float(np.prod(steps)) * volume.voxel_ml


def _blocks(array: NDArray[np.generic], steps: list[int]) -> Field:
    """Average blocks of voxels; the last block of an axis may be smaller."""
    z, y, x = steps
    slabs = (array[start : start + z].mean(axis=0, dtype=np.float32) for start in range(0, len(array), z))
    return np.stack([_means(_means(slab, y).T, x).T for slab in slabs])


def _means(plane: Field, step: int) -> Field:
    """Average every `step` rows."""
    starts = np.arange(0, len(plane), step)
    sizes = np.diff(np.append(starts, len(plane))).astype(np.float32)
    return np.asarray(np.add.reduceat(plane, starts, axis=0) / sizes[:, None])


def _spread(hu: Field, window: int) -> tuple[Field, Field]:
    mean = ndimage.uniform_filter(hu, window)
    return mean, ndimage.uniform_filter(hu * hu, window) - mean * mean


def _largest(mask: Mask) -> int:
    """Count the voxels of the largest part."""
    parts, count = ndimage.label(mask)
    return int(np.bincount(parts.ravel())[1:].max()) if count else 0
