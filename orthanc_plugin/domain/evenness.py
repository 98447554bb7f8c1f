"""Tell apart by texture what HU alone do not: gas from lung, and blood with contrast medium from bone.

HU are looked at in blocks of about 3 mm, in which noise averages out and the texture of lung and bone stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Volume

Field = NDArray[np.float32]
Box = tuple[slice, slice, slice]

GAS_HU, GAS_SD_HU, GAS_WINDOW = -960.0, 8.0, 5
"""Gas lies below -960 HU (emphysema below -950); it varies by less than 8 HU over 5 voxels, lung by more."""
BLOOD_SD_HU, BLOOD_SD_SHARE, BLOOD_WINDOW = 20.0, 0.05, 3
"""Greatest standard deviation of blood with contrast medium over 3 voxels, at 0 HU and per HU; bone varies by more."""
BLOOD_HU, METAL_HU = 130.0, 1500.0
"""Contrast medium lies between; urine full of it is denser than blood, metal denser than both."""
LEAST_GAS_ML = 20.0
"""From this volume on, gas without vessels is no lung."""
_BLOCK_MM, _MOST = 3.0, 0.5


def even_gas_ml(volume: Volume, mask: Mask, box: Box) -> float:
    """Measure the largest part of a lung that is gas without any structure.

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
    return _largest(ndimage.binary_dilation(even, whole)) * block_ml


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
