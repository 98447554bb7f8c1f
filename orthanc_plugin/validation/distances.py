"""How far two masks agree: overlap, distances between their surfaces, volumes.

Conventions. The surface of a mask is every voxel of it that lacks one of its six face neighbours; what lies beyond the
image counts as outside. Distances run between centres of voxels, in mm, from each surface voxel of one mask to the
nearest one of the other, and both ways count:

- Hausdorff distance: the greatest distance of either way;
- HD95: the greater of the 95th percentiles of both ways (linear between ranks);
- mean surface distance: the mean of all distances of both ways together;
- surface Dice: the part of all distances of both ways together that are at most the tolerance.

Distances exist only where both masks have a voxel. Dice is then defined as well where one mask is empty: 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from orthanc_plugin.domain.masks import Mask

PERCENTILE = 95.0
_ROUNDING_MM = 1e-6
"""A voxel that lies exactly at the tolerance is within it, whatever the last bit of its spacing."""


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances between two surfaces. surface_dice: at tolerance_mm, 0 to 1."""

    hausdorff_mm: float
    hd95_mm: float
    mean_mm: float
    surface_dice: float
    tolerance_mm: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two masks agree. distances: None where one of them, or both, are empty; dice: None where both are."""

    ai_voxels: int
    expert_voxels: int
    dice: float | None
    distances: SurfaceDistances | None


def compare_masks(ai: Mask, expert: Mask, spacing_mm: tuple[float, float, float], tolerance_mm: float) -> Agreement:
    """Compare two masks on one grid.

    Parameters
    ----------
    ai, expert : ndarray, shape (z, y, x), bool
    spacing_mm : (z, y, x)
        Of an orthogonal grid.
    tolerance_mm : float
        For the surface Dice.

    Raises
    ------
    ValueError
        If the masks have different shapes.

    Source
    ------
    Dice 1945; Nikolov et al., J Med Internet Res 2021;23:e26151 (surface Dice); Maier-Hein et al., Nature Methods
    2024;21:195 (pitfalls of each).
    """
    if ai.shape != expert.shape:
        raise ValueError("masks of different shapes cannot be compared")
    box = _box(ai | expert)
    one, other = ai[box], expert[box]
    sizes = int(one.sum()), int(other.sum())
    dice = 2 * int((one & other).sum()) / sum(sizes) if any(sizes) else None
    found = surface_distances(one, other, spacing_mm, tolerance_mm) if all(sizes) else None
    return Agreement(*sizes, dice, found)


def surface_distances(
    one: Mask, other: Mask, spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> SurfaceDistances:
    """Measure between the surfaces of two masks that have voxels; see the module for each convention."""
    surfaces = surface(one), surface(other)
    forth = _distances(*surfaces, spacing_mm)
    back = _distances(*surfaces[::-1], spacing_mm)
    both = np.concatenate((forth, back))
    return SurfaceDistances(
        hausdorff_mm=float(both.max()),
        hd95_mm=float(max(np.percentile(forth, PERCENTILE), np.percentile(back, PERCENTILE))),
        mean_mm=float(both.mean()),
        surface_dice=float((both <= tolerance_mm + _ROUNDING_MM).mean()),
        tolerance_mm=tolerance_mm,
    )


def surface(mask: Mask) -> Mask:
    """Return the voxels of a mask that lack a face neighbour; beyond the image is outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _distances(start: Mask, end: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Measure from each voxel of `start` to the nearest one of `end`, in mm; voxels that both have are at 0."""
    shared = int((start & end).sum())
    apart = np.argwhere(start & ~end) * spacing_mm
    measured = KDTree(np.argwhere(end) * spacing_mm).query(apart)[0] if len(apart) else np.empty(0)
    return np.concatenate((np.zeros(shared), measured))


def _box(mask: Mask) -> tuple[slice, ...]:
    """Return the part of the grid that holds every voxel of a mask."""
    spans = []
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append(slice(int(present[0]), int(present[-1]) + 1) if present.size else slice(0, 0))
    return tuple(spans)
