"""Tell contrast medium from bone: blood is even, thick and has soft tissue around it; bone is none of these.

Trabecular bone at 3 mm varies by more than 35 HU from voxel to voxel, and its cortex is denser than its middle.
Contrast medium in heart, vessels, bladder or bowel is even within a few HU, and what surrounds it is less dense.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from orthanc_plugin.domain.evenness import BLOOD_HU, even_as_blood
from orthanc_plugin.domain.masks import Mask, box_of
from orthanc_plugin.inference.grid import Field, Spacing

_SEED_ML = 4.0  # measured: even parts of bone have 2 mL at most, contrast in heart and aorta 65 to 90 mL
_DARK_SHARE = 0.4  # least part of the surroundings of a pool that has less than half of its HU
_BRIGHT_SHARE = 0.15  # most that may be denser than the pool: measured 0.05 around contrast, 0.23 and more in bone
_ABOVE_POOL_HU = 100.0
_GROWTH_VOXELS, _ALONG_VOXELS = 3, 2
_BONE_SHARE = 0.02  # of a component's voxels that are much denser than blood; bone has more
_ORGAN_ML, _DEEP_MM = 10.0, 25.0
_CUBE = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Where contrast medium looks like bone.

    mask: (z, y, x) bool; empty where no contrast was seen.
    hu: median of its largest pool; 0 without contrast.
    """

    mask: Mask
    hu: float


def find_contrast(hu: Field, bone: Mask, body: Mask, spacing_mm: Spacing) -> Contrast:
    """Find the part of what is as dense as bone that is contrast medium.

    Parameters
    ----------
    hu : (z, y, x) float32
        Canonical coarse grid of about 3 mm.
    bone, body : (z, y, x) bool
        All that exceeds the threshold of bone; the patient.
    spacing_mm : tuple of float
        (z, y, x).
    """
    nothing = np.zeros(hu.shape, bool)
    box = box_of(body & (hu > BLOOD_HU))
    if box is None:
        return Contrast(nothing, 0.0)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    even = body[box] & even_as_blood(hu[box])
    pools, levels = _pools(hu[box], even, voxel_ml)
    if not levels:
        return Contrast(nothing, 0.0)
    level = levels[0]
    limit = max(levels) + _ABOVE_POOL_HU
    dense = bone[box] & (hu[box] < limit)
    vessels = pools | ndimage.binary_dilation(even, iterations=_ALONG_VOXELS) & dense
    pools = ndimage.binary_propagation(pools, mask=vessels)
    grown = ndimage.binary_dilation(pools, iterations=_GROWTH_VOXELS, mask=dense | pools) & (bone[box] | pools)
    grown |= _organs(hu[box], bone[box] & ~grown, body[box], grown, limit, spacing_mm)
    nothing[box] = grown
    return Contrast(nothing, level)


def _pools(hu: Field, even: Mask, voxel_ml: float) -> tuple[Mask, list[float]]:
    """Find even, thick parts with darker surroundings; their median HU, the largest pool first."""
    labels, count = ndimage.label(ndimage.binary_opening(even))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    pools, levels = np.zeros(hu.shape, bool), []
    boxes = ndimage.find_objects(labels)
    for number in np.argsort(sizes[1:])[::-1] + 1:
        if sizes[number] * voxel_ml < _SEED_ML:
            break
        wide = tuple(slice(max(0, side.start - 4), side.stop + 4) for side in boxes[number - 1])
        pool = labels[wide] == number
        level = float(np.median(hu[wide][pool]))
        shell = ndimage.binary_dilation(pool, _CUBE, iterations=3) & ~ndimage.binary_dilation(pool, _CUBE, iterations=2)
        around = hu[wide][shell]
        dark = around.size and (around < level / 2).mean() >= _DARK_SHARE
        if dark and (around > level).mean() <= _BRIGHT_SHARE:
            pools[wide] |= pool
            levels.append(level)
    return pools, levels


def _organs(hu: Field, rest: Mask, body: Mask, pools: Mask, limit: float, spacing_mm: Spacing) -> Mask:
    """Find further parts without anything as dense as bone: kidneys, vessels that lead away from a pool."""
    labels, count = ndimage.label(rest, _CUBE)
    if not count:
        return rest
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    numbers = np.arange(count + 1)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    hard = np.bincount(labels.ravel(), hu.ravel() > limit, minlength=count + 1) / np.maximum(sizes, 1)
    depth = ndimage.distance_transform_edt(np.pad(body, ((0, 0), (1, 1), (1, 1))), spacing_mm)[:, 1:-1, 1:-1]
    deep = np.asarray(ndimage.mean(depth, labels, numbers)) >= _DEEP_MM
    near = np.zeros(count + 1, bool)
    near[np.unique(labels[ndimage.binary_dilation(pools, _CUBE, iterations=2)])] = True
    soft = deep & (hard < _BONE_SHARE) & (near | (sizes * voxel_ml >= _ORGAN_ML))
    soft[0] = False
    return np.asarray(soft[labels])
