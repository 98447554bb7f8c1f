"""Decide which air is lung, by its core, side, size and place, on the coarse canonical grid (z:S, y:P, x:L)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.inference.grid import Field, Spacing

_CUBE = np.ones((3, 3, 3), bool)
_CORE_EROSIONS, _SPLIT_EROSIONS, _REACH_DILATIONS = 2, 8, 12
_SLIVER_HU = -450.0
_LUNG_HU = (-972.0, -300.0)  # median of a core: gas in bowel, skull and pneumothorax is lower, about -1000
_PART_HU = (-960.0, -400.0)
_SMALLEST_ML, _SMALLEST_PART_ML = 100.0, 3.0
_JOINED_SHARE = 0.15
_BONE_SHELL_MM, _BONE_SHELL_SHARE = 9.0, 0.65
_CLOSING_MM = 8.0
_BETWEEN_SHARE = 0.8
_VESSELS_HU = 40.0  # measured: lungs of cip_ct64 58, table foam there 27
_WHOLE_ML, _WHOLE_HU = 500.0, (-950.0, -600.0)  # a lung that needs no trachea to tell it from bowel gas


@dataclass(frozen=True, slots=True)
class Lungs:
    """Left and right lung on the coarse grid with their vessels; a mask is empty if its lung is not found."""

    left: Mask
    right: Mask

    @property
    def sides(self) -> dict[str, Mask]:
        """The masks by the name of their side."""
        return {"left": self.left, "right": self.right}

    def only(self, *sides: str) -> Lungs:
        """Return the same without the lungs of the other sides."""
        return Lungs(**{name: lung & (name in sides) for name, lung in self.sides.items()})


def _cut_in_two(core: Mask, middle_x: float) -> NDArray[np.int32]:
    """Label a core 1, or 1 and 2 if it lies on both sides: divided by erosion, or else at the middle."""
    x = np.arange(core.shape[2])
    whole = core.sum()
    left_share = core[:, :, x > middle_x].sum() / whole
    if min(left_share, 1 - left_share) < _JOINED_SHARE:
        return core.astype(np.int32)
    eroded = core
    for _ in range(_SPLIT_EROSIONS):
        eroded = ndimage.binary_erosion(eroded, border_value=1)
        labels, count = ndimage.label(eroded)
        sizes = ndimage.sum_labels(eroded, labels, np.arange(1, count + 1)) if count else np.zeros(0)
        order = np.argsort(sizes)[::-1]
        if count > 1 and sizes[order[1]] > 0.4 * _JOINED_SHARE * whole:
            seeds = np.where(labels == order[0] + 1, 1, np.where(labels == order[1] + 1, 2, 0)).astype(np.int32)
            return _nearest(seeds, core)
    return np.where(core, np.where(x > middle_x, 2, 1), 0).astype(np.int32)


def _nearest(seeds: NDArray[np.int32], region: Mask) -> NDArray[np.int32]:
    """Give each voxel of the region the number of its nearest seed."""
    at = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return np.where(region, seeds[tuple(at)], 0).astype(np.int32)


def _cores(free: Mask, middle_x: float) -> NDArray[np.int32]:
    """Find and number the cores of all air, and separate lungs that touch."""
    core = ndimage.binary_erosion(free, _CUBE, iterations=_CORE_EROSIONS, border_value=1)
    labels, _ = ndimage.label(core)
    numbered = np.zeros(labels.shape, np.int32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        two = _cut_in_two(labels[box] == number, middle_x - box[2].start)
        numbered[box] = np.where(two > 0, two + numbered.max(), numbered[box])
    return numbered


def _in_bone(core: Mask, bone: Mask, spacing_mm: Spacing) -> bool:
    """Check whether a shell around the core is mostly bone, as in a skull."""
    reach = round(_BONE_SHELL_MM / spacing_mm[0])
    wide = ndimage.binary_dilation(core, _CUBE, iterations=reach + 2)
    shell = wide & ~ndimage.binary_dilation(core, _CUBE, iterations=2)
    return bool(ndimage.binary_dilation(bone, _CUBE)[shell].mean() > _BONE_SHELL_SHARE)


def _closed(mask: Mask, spacing_mm: Spacing) -> Mask:
    """Close a mask by a ball of 8 mm, which adds vessels inside and small notches at the hilum."""
    if not mask.any():
        return mask
    pad = [(round(_CLOSING_MM / mm) + 1,) * 2 for mm in spacing_mm]
    padded = np.pad(mask, [(0, 0), *pad[1:]])
    padded = np.pad(padded, [pad[0], (0, 0), (0, 0)], mode="edge")
    wide = ndimage.distance_transform_edt(~padded, spacing_mm) <= _CLOSING_MM
    closed = ndimage.distance_transform_edt(wide, spacing_mm) > _CLOSING_MM
    inner = tuple(slice(p[0], -p[1]) for p in pad)
    return np.asarray(closed[inner] | mask)


def find_lungs(
    hu: Field, air: Mask, airway: Mask, bone: Mask, middle_x: float, lowest_top_z: int, spacing_mm: Spacing
) -> Lungs:
    """Find the lungs in the air of a body.

    Parameters
    ----------
    hu : (z, y, x) float32
        Canonical coarse grid.
    air, airway, bone : (z, y, x) bool
        Air inside the body; the airway tree, which is not lung; bone.
    middle_x : float
        Index of the body's middle.
    lowest_top_z : int
        A lung reaches this slice at least: the carina, or the top of the scan if no trachea is seen.
    spacing_mm : tuple of float
        (z, y, x).

    Returns
    -------
    Lungs
        Air of plausible size (100 mL), median HU, place and surroundings; not bowel gas or hollow bones.
    """
    free = air & ~ndimage.binary_dilation(airway, iterations=1)
    cores = _cores(free, middle_x)
    region = ndimage.binary_dilation(cores > 0, iterations=_REACH_DILATIONS, mask=free & (hu < _SLIVER_HU))
    region |= ndimage.binary_dilation(cores > 0, _CUBE, iterations=_CORE_EROSIONS + 1, mask=free)
    parts = _nearest(cores, region)
    count = int(cores.max())
    numbers = np.arange(1, count + 1)
    if not count:
        return Lungs(np.zeros(hu.shape, bool), np.zeros(hu.shape, bool))
    volume = ndimage.sum_labels(region, parts, numbers) * float(np.prod(spacing_mm)) / 1000.0
    median = ndimage.median(hu, cores, numbers)
    centre_x = np.array([centre[2] for centre in ndimage.center_of_mass(cores > 0, cores, numbers)])
    tops = np.array([box[0].stop - 1 for box in ndimage.find_objects(parts)])
    placed = tops >= lowest_top_z
    if not airway.any():
        placed |= (volume >= _WHOLE_ML) & (median > _WHOLE_HU[0]) & (median < _WHOLE_HU[1])
    lungs = []
    for left in (True, False):
        side = (centre_x > middle_x) == left
        main = side & (volume >= _SMALLEST_ML) & (median > _LUNG_HU[0]) & (median < _LUNG_HU[1]) & placed
        if not airway.any():
            main &= np.array([m and has_vessels(hu, parts == n) for n, m in zip(numbers, main, strict=True)])
        main &= np.array([m and not _in_bone(parts == n, bone, spacing_mm) for n, m in zip(numbers, main, strict=True)])
        extra = side & (volume >= _SMALLEST_PART_ML) & (median > _PART_HU[0]) & (median < _PART_HU[1])
        chosen = main | (extra & main.any())
        lungs.append(np.isin(parts, numbers[chosen]) & region)
    left_lung, right_lung = (_closed(lung, spacing_mm) & ~airway for lung in lungs)
    return Lungs(left_lung & ~lungs[1], right_lung & ~left_lung)


def has_vessels(hu: Field, lung: Mask) -> bool:
    """Check that what looks like lung has vessels; table foam, bowel gas and test objects have none."""
    inside = ndimage.binary_erosion(lung, iterations=2, border_value=1)
    middle, bright = np.percentile(hu[inside], (50, 95)) if inside.any() else (0.0, 0.0)
    return bool(bright - middle > _VESSELS_HU)


def without_vessels(bone: Mask, lungs: Lungs) -> Mask:
    """Remove from bone what lies between the lungs: calcified vessel walls, valves, contrast medium.

    The largest part always stays. The spine stays because it extends behind the lungs.
    """
    lung = lungs.left | lungs.right
    between = np.logical_or.accumulate(lung, axis=2)
    between &= np.logical_or.accumulate(lung[:, :, ::-1], axis=2)[:, :, ::-1]
    parts, count = ndimage.label(bone, _CUBE)
    if not count:
        return bone
    sizes = np.bincount(parts.ravel())
    vessels = np.bincount(parts[between], minlength=count + 1) > _BETWEEN_SHARE * sizes
    vessels[0] = vessels[1 + int(sizes[1:].argmax())] = False
    return np.asarray(bone & ~vessels[parts])
