"""Decide which air is lung, by its core, side, size and place, on the coarse canonical grid (z:S, y:P, x:L)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.evenness import pockets
from orthanc_plugin.domain.masks import Mask, box_of
from orthanc_plugin.inference.grid import Field, Spacing

_CUBE = np.ones((3, 3, 3), bool)
_CORE_EROSIONS, _SPLIT_EROSIONS, _REACH_DILATIONS = 2, 8, 12
_SLIVER_HU = -450.0
_LUNG_HU = (-972.0, -300.0)  # median of a core: gas in bowel, skull and pneumothorax is lower, about -1000
_PART_HU = (-960.0, -400.0)
SMALLEST_ML, _SMALLEST_PART_ML = 100.0, 3.0
_THIN_HU = -650.0
_BELOW_SHARE = 0.3  # of a part below the lung that it would join
_JOINED_SHARE = 0.15
_BONE_SHELL_MM, _BONE_SHELL_SHARE = 9.0, 0.65
_CLOSING_MM = 8.0
_BETWEEN_SHARE = 0.8
_VESSELS_HU = 40.0  # measured: lungs of cip_ct64 58, table foam there 27
_WALL_HU, _LEAST_GAS_ML, _LARGEST_REST_ML = -600.0, 5.0, 20.0  # around a bulla, compressed lung is lighter
_WHOLE_ML, _WHOLE_HU = 500.0, (-950.0, -600.0)  # a lung that needs no trachea to tell it from bowel gas


@dataclass(frozen=True, slots=True)
class Lungs:
    """Left and right lung on the coarse grid with their vessels; a mask is empty if its lung is not found.

    above_gas: the sides of which gas was split off that lay below the lung, behind a thin wall.
    """

    left: Mask
    right: Mask
    above_gas: tuple[str, ...] = ()

    @property
    def sides(self) -> dict[str, Mask]:
        """The masks by the name of their side."""
        return {"left": self.left, "right": self.right}

    def only(self, *sides: str) -> Lungs:
        """Return the same without the lungs of the other sides."""
        kept = {name: lung & (name in sides) for name, lung in self.sides.items()}
        return Lungs(**kept, above_gas=tuple(side for side in self.above_gas if side in sides))


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


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts of the air of a body, one for each core.

    cores, region: (z, y, x) int32, number of the part of each voxel, 0 where there is none.
    volume_ml, median_hu, centre_x, lowest_z, top_z: of the parts 1, 2, ...; median of the core.
    """

    cores: NDArray[np.int32]
    region: NDArray[np.int32]
    volume_ml: NDArray[np.float64]
    median_hu: NDArray[np.float64]
    centre_x: NDArray[np.float64]
    lowest_z: NDArray[np.intp]
    top_z: NDArray[np.intp]

    def __len__(self) -> int:
        """Count the parts."""
        return len(self.volume_ml)

    def joined(self, chosen: Mask) -> Mask:
        """Make the mask of some parts."""
        return np.asarray(np.concatenate([[False], chosen])[self.region])

    def where(self, which: Mask, ask: Callable[[Mask], bool]) -> Mask:
        """Ask about each of some parts; the others are not asked and get no."""
        return np.array([bool(w) and ask(self.region == n) for n, w in enumerate(which, start=1)], bool)


def _parts(hu: Field, free: Mask, middle_x: float, spacing_mm: Spacing) -> _Parts:
    cores = _cores(free, middle_x)
    region = ndimage.binary_dilation(cores > 0, iterations=_REACH_DILATIONS, mask=free & (hu < _SLIVER_HU))
    region |= ndimage.binary_dilation(cores > 0, _CUBE, iterations=_CORE_EROSIONS + 1, mask=free)
    numbers = np.arange(1, int(cores.max()) + 1)
    parts = _nearest(cores, region) if len(numbers) else cores
    boxes = ndimage.find_objects(parts)
    return _Parts(
        cores,
        parts,
        np.asarray(np.bincount(parts.ravel())[1:] * (float(np.prod(spacing_mm)) / 1000.0), np.float64),
        np.asarray(ndimage.median(hu, cores, numbers), np.float64) if len(numbers) else np.zeros(0),
        np.array([centre[2] for centre in ndimage.center_of_mass(cores > 0, cores, numbers)]),
        np.array([box[0].start for box in boxes], np.intp),
        np.array([box[0].stop - 1 for box in boxes], np.intp),
    )


def find_lungs(
    hu: Field,
    air: Mask,
    airway: Mask,
    bone: Mask,
    middle_x: float,
    lowest_top_z: int,
    spacing_mm: Spacing,
    least_ml: float = SMALLEST_ML,
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
    least_ml : float
        Least volume of a lung.

    Returns
    -------
    Lungs
        Air of plausible size, median HU, place and surroundings, with vessels in it; not bowel gas or hollow bones.
    """
    free = air & ~ndimage.binary_dilation(airway, iterations=1)
    parts = _parts(hu, free, middle_x, spacing_mm)
    if not len(parts):
        return Lungs(np.zeros(hu.shape, bool), np.zeros(hu.shape, bool))
    placed = parts.top_z >= lowest_top_z
    if not airway.any():
        placed |= (parts.volume_ml >= _WHOLE_ML) & _between(parts.median_hu, _WHOLE_HU)
    main = placed & (parts.volume_ml >= least_ml) & _between(parts.median_hu, _LUNG_HU)
    main = parts.where(main, lambda part: has_vessels(hu, part) and not _in_bone(part, bone, spacing_mm))
    main &= parts.centre_x != middle_x
    left = parts.centre_x > middle_x
    lungs = [parts.joined(main & side | side & _belong(hu, parts, main & side)) for side in (left, ~left)]
    gas = [gas_below(hu, lung, spacing_mm) for lung in lungs]
    lungs = [lung & ~below for lung, below in zip(lungs, gas, strict=True)]
    left_lung, right_lung = (_closed(lung, spacing_mm) & ~airway for lung in lungs)
    above_gas = tuple(side for side, below in zip(("left", "right"), gas, strict=True) if below.any())
    return Lungs(left_lung & ~lungs[1], right_lung & ~left_lung, above_gas)


def gas_below(hu: Field, lung: Mask, spacing_mm: Spacing) -> Mask:
    """Find gas of stomach or bowel in what was taken for a lung: even, closed by walls, and below lung.

    Bullae and emphysema are as dark and even, but they go on as lung, or lie beside it.
    """
    gas = np.zeros(lung.shape, bool)
    box = box_of(lung)
    if box is None:
        return gas
    inside, voxel_ml = lung[box], float(np.prod(spacing_mm)) / 1000.0
    for pocket in pockets(hu[box], inside, _WALL_HU):
        if pocket.is_below and pocket.mask.sum() * voxel_ml >= _LEAST_GAS_ML:
            rest = inside & ~ndimage.binary_dilation(pocket.mask, _CUBE, iterations=2)
            nearest = _nearest(np.where(pocket.mask, 1, np.where(rest, 2, 0)).astype(np.int32), inside)
            gas[box] |= nearest == 1
    return gas | _parts_beside(gas, lung & ~gas, _LARGEST_REST_ML / voxel_ml)


def _parts_beside(gas: Mask, lung: Mask, most_voxels: float) -> Mask:
    """Find small parts of a lung that were joined to it by gas only."""
    parts, count = ndimage.label(lung, _CUBE)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    beside = np.bincount(parts[ndimage.binary_dilation(gas, _CUBE, iterations=2)], minlength=count + 1) > 0
    beside[0] = False
    return np.asarray((beside & (sizes < most_voxels))[parts])


def _between(values: NDArray[np.float64], limits: tuple[float, float]) -> Mask:
    return np.asarray((values > limits[0]) & (values < limits[1]))


def _belong(hu: Field, parts: _Parts, main: Mask) -> Mask:
    """Choose the smaller parts that belong to a lung: next to it without a wall, or beside it with vessels.

    Gas of stomach and bowel lies below the lung that it would join, behind diaphragm and wall.
    """
    if not main.any():
        return np.zeros(len(parts), bool)
    lung = parts.joined(main)
    may = ~main & (parts.volume_ml >= _SMALLEST_PART_ML) & _between(parts.median_hu, _PART_HU)
    # Connected through thin air: a wall between lung and gas is denser, even where it is one voxel thin.
    joined, _ = ndimage.label((parts.region > 0) & (hu < _THIN_HU))
    with_lung = np.unique(joined[lung & (parts.cores > 0)])
    inside = np.isin(joined, with_lung[with_lung > 0])
    sizes = np.bincount(parts.cores.ravel(), minlength=len(parts) + 1)[1:]
    next_to = np.bincount(parts.cores[inside], minlength=len(parts) + 1)[1:] > sizes / 2
    bottom = parts.lowest_z[main].min()
    columns = lung.any(axis=0)
    floor = np.where(columns, lung.argmax(axis=0), -1)

    def beside(part: Mask) -> bool:
        z, y, x = np.nonzero(part)
        return bool((z < floor[y, x]).mean() < _BELOW_SHARE) and has_vessels(hu, part)

    return may & (next_to | parts.where(may & (parts.lowest_z >= bottom), beside))


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
