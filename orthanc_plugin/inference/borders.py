"""Draw borders at full resolution from coarse signed distances and HU.

A voxel well inside a coarse structure belongs to it (vessels of a lung do), one far outside does not. In a band around
the coarse border, HU decide. So topology comes from the coarse grid, but no border shows the grid's steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.correlation import CarryingPool
from orthanc_plugin.domain.masks import Labels, Mask, box_of
from orthanc_plugin.inference.airway import Airway
from orthanc_plugin.inference.contrast import Contrast
from orthanc_plugin.inference.grid import CoarseGrid, Field, Spacing
from orthanc_plugin.inference.lungs import Lungs
from orthanc_plugin.inference.providers import usable_threads

_LUNG_HU, _AIRWAY_HU, _BODY_HU, _BONE_HU = -400.0, -500.0, -320.0, 200.0
_LUNG_BAND_MM, _BONE_BAND_MM = 3.0, 3.0
_BODY_BAND_MM = (-6.0, 2.0)
_AIRWAY_BAND_MM, _WALL_MM = (-0.75, 1.5), 2.0
_SKIN_MM = 3.0  # electrodes, beads and zips are nearer to the air than bones are
_SMALLEST_BODY_ML, _SMALLEST_LUNG_ML, _SMALLEST_BONE_ML = 20.0, 1.0, 0.5
_FAR_MM = 100.0


@dataclass(frozen=True, slots=True)
class Found:
    """Structures on the coarse canonical grid; the airway on its own finer grid."""

    body: Mask
    bone: Mask
    lungs: Lungs
    airway: Airway | None
    contrast: Contrast

    @property
    def lung_count(self) -> int:
        """How many lungs were found: 0, 1 or 2."""
        return int(self.lungs.left.any()) + int(self.lungs.right.any())

    def without_chest(self) -> Found:
        """Return the same without lungs and airways."""
        nothing = np.zeros_like(self.body)
        return replace(self, lungs=Lungs(nothing, nothing), airway=None)


def _distance(mask: Mask, spacing_mm: Spacing) -> Field:
    """Compute the signed distance to the border in mm, negative inside; exact near the mask, `_FAR_MM` far from it."""
    field = np.full(mask.shape, _FAR_MM, np.float32)
    box = box_of(mask)
    if box is None:
        return field
    grown = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in box)
    part, half = mask[grown], min(spacing_mm) / 2
    outside = ndimage.distance_transform_edt(~part, spacing_mm) - half
    inside = ndimage.distance_transform_edt(np.pad(part, 1, mode="edge"), spacing_mm)[1:-1, 1:-1, 1:-1] - half
    field[grown] = np.where(part, -inside, outside)
    return field


def fine_labels(
    hu: Field, grid: CoarseGrid, airway_grid: CoarseGrid, found: Found, number: Callable[[str], int]
) -> Labels:
    """Paint the label map of a canonical volume.

    Parameters
    ----------
    hu : (z, y, x) float32
        Canonical, at full resolution.
    grid, airway_grid : CoarseGrid
        The grids of `found` and of its airway.
    found : Found
        Structures on the coarse grids.
    number : callable
        Returns the label number of a key.

    Returns
    -------
    (z, y, x) uint8
        Labels without islands.
    """
    masks = (found.body, found.bone, found.lungs.left, found.lungs.right)
    body, bone, left, right = (_distance(mask, grid.spacing_mm) for mask in masks)
    main = np.zeros(airway_grid.shape, bool) if found.airway is None else found.airway.main
    airway = _distance(main, airway_grid.spacing_mm)
    pools = _distance(found.contrast.mask, grid.spacing_mm) if found.contrast.hu else None
    labels = np.zeros(hu.shape, np.uint8)

    def draw(z: int) -> None:
        plane = hu[z]
        b, o, le, ri = (grid.refine(field, z, _FAR_MM) for field in (body, bone, left, right))
        a = airway_grid.refine(airway, z, _FAR_MM)
        paint = labels[z]
        paint[_body(b, plane)] = number("body")
        hard = (o < _BONE_BAND_MM) & (plane > _BONE_HU) & (b < -_SKIN_MM)
        paint[hard & (o < grid.refine(pools, z, _FAR_MM)) if pools is not None else hard] = number("bone")
        lung = _either(np.minimum(le, ri), plane, -_LUNG_BAND_MM, _LUNG_BAND_MM, _LUNG_HU) & (a > _WALL_MM)
        paint[lung & (le <= ri)] = number("lung_left")
        paint[lung & (le > ri)] = number("lung_right")
        paint[_either(a, plane, *_AIRWAY_BAND_MM, _AIRWAY_HU)] = number("airway")

    with CarryingPool(usable_threads()) as pool:
        list(pool.map(draw, range(len(hu))))
    _remove_islands(labels, float(np.prod(grid.fine_spacing_mm)) / 1000.0, number)
    return labels


def _either(distance: Field, hu: Field, surely: float, perhaps: float, below_hu: float) -> Mask:
    return np.asarray((distance < surely) | ((distance < perhaps) & (hu < below_hu)))


def _body(distance: Field, hu: Field) -> Mask:
    surely, perhaps = _BODY_BAND_MM
    return np.asarray(ndimage.binary_fill_holes((distance < surely) | ((distance < perhaps) & (hu > _BODY_HU))))


def _remove_islands(labels: Labels, voxel_ml: float, number: Callable[[str], int]) -> None:
    """Turn small parts into body, and small parts of the whole into outside; in place."""
    smallest = {"lung_left": _SMALLEST_LUNG_ML, "lung_right": _SMALLEST_LUNG_ML, "bone": _SMALLEST_BONE_ML}
    for key, least_ml in smallest.items():
        box, small = _islands(labels == number(key), least_ml / voxel_ml)
        labels[box][small] = number("body")
    box, small = _islands(labels == number("airway"), np.inf)
    labels[box][small] = number("body")
    box, small = _islands(labels > 0, _SMALLEST_BODY_ML / voxel_ml)
    labels[box][small] = 0


def _islands(mask: Mask, least_voxels: float) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """Find the box of a mask and, in it, the parts below `least_voxels`; the largest part is never one of them."""
    box = box_of(mask)
    if box is None:
        return (slice(0),) * 3, np.zeros((0, 0, 0), bool)
    part = np.ascontiguousarray(mask[box])
    del mask  # of the whole volume
    labels, count = cc3d.connected_components(part, connectivity=26, return_N=True)
    del part
    # Plane by plane, because one count would widen all labels to 8 bytes each.
    sizes = sum((np.bincount(plane.ravel(), minlength=count + 1) for plane in labels), np.zeros(count + 1, np.intp))
    sizes[0] = 0
    small = sizes < min(least_voxels, sizes.max())
    small[0] = False
    return box, small[labels]
