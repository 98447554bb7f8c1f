"""Find trachea and main bronchi: seed by size and roundness, grow until a leak, cut behind the carina.

This module works on a coarse canonical grid (z:S, y:P, x:L) of 1 to 4 mm. It gives one connected tree without islands,
or nothing if it sees no trachea of plausible size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.inference.grid import Field, Spacing

_LUMEN_HU = -850.0  # mean of a candidate section
_SECTIONS_HU = (-600.0, -750.0, -850.0)  # thin walls vanish at the higher ones
_SECTION_MM2 = (45.0, 800.0)  # a trachea is 10 to 27 mm wide
_SECTION_WIDTH_MM = (6.0, 34.0)
_FROM_MIDDLE_MM = 50.0
_SEEN_MM = 20.0
_BOX_MM = (130.0, 70.0, 85.0)  # below the lowest section; to the front and back; to each side
_THRESHOLDS_HU = tuple(range(-980, -680, 20))
_TREE_FACTOR, _TREE_ML = 2.5, 40.0  # a tree down to the segments has about twice the volume of its trachea
_WALL_HU = -500.0
_BRANCH_MM2 = 10.0
_FORK_MM = 12.0
_LEFT_MM, _RIGHT_MM = (
    52.0,
    38.0,
)  # main bronchi: about 50 mm on the left; 25 mm and the intermediate bronchus on the right


@dataclass(frozen=True, slots=True)
class Airway:
    """The tree on the coarse grid.

    tree: everything that grew, including lobar bronchi but no lung.
    main: trachea and main bronchi, one connected component.
    carina_z: index of the fork, or None if it is not seen.
    """

    tree: Mask
    main: Mask
    carina_z: int | None


def _sections(hu: Field, inside: Mask, middle_x: float, spacing_mm: Spacing) -> Mask:
    """Find, in each slice, the sections of air that could be trachea."""
    found = np.zeros(hu.shape, bool)
    dy, dx = spacing_mm[1:]
    for z, limit in product(range(hu.shape[0]), _SECTIONS_HU):
        labels, _ = ndimage.label((hu[z] < limit) & inside[z])
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            part = labels[box] == number
            height, width = part.shape[0] * dy, part.shape[1] * dx
            area = part.sum() * dy * dx
            x = (box[1].start + box[1].stop - 1) / 2
            plausible = (
                _SECTION_MM2[0] <= area <= _SECTION_MM2[1]
                and min(height, width) >= _SECTION_WIDTH_MM[0]
                and max(height, width) <= _SECTION_WIDTH_MM[1]
                and area >= 0.55 * height * width
                and abs(x - middle_x) * dx <= _FROM_MIDDLE_MM
                and hu[z][box][part].min() < _LUMEN_HU
            )
            if plausible:
                found[z][box] |= part
    return found


def _trachea(sections: Mask, spacing_mm: Spacing, lowest_z: int) -> Mask | None:
    """Find the longest run of sections that reaches above `lowest_z`."""
    labels, count = ndimage.label(sections)
    best: tuple[int, int] = (0, 0)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        length = box[0].stop - max(box[0].start, lowest_z)
        best = max(best, (length, number))
    if count == 0 or best[0] * spacing_mm[0] < _SEEN_MM:
        return None
    return np.asarray(labels == best[1])


def _grow(hu: Field, region: Mask, seed: Mask, limit_voxels: float) -> Mask:
    """Grow the seed to its component at the highest threshold that does not leak."""
    grown = seed
    for threshold in _THRESHOLDS_HU:
        labels, _ = ndimage.label(((hu < threshold) & region) | seed)
        wanted = np.unique(labels[seed])
        component = np.isin(labels, wanted[wanted > 0])
        if component.sum() > limit_voxels:
            break
        grown = component
    return grown


def _fork(tree: Mask, spacing_mm: Spacing, top_z: int) -> tuple[int, float] | None:
    """Find (z, x) of the carina: going down, the first slice where the lumen divides and stays divided.

    A lobar bronchus that rises beside the trachea is not a fork, because it does not touch the lumen above.
    """
    lasts = max(2, round(_FORK_MM / spacing_mm[0]))
    voxel_mm2 = spacing_mm[1] * spacing_mm[2]
    lumen = tree[top_z]
    for z in range(top_z - 1, -1, -1):
        labels, _ = ndimage.label(tree[z], np.ones((3, 3)))
        below = np.unique(labels[lumen & tree[z]])
        lumen = np.isin(labels, below) & tree[z]
        wide = [part for part in below if (labels == part).sum() * voxel_mm2 >= _BRANCH_MM2]
        if len(wide) > 1 and all(_branches(tree[lower], voxel_mm2) > 1 for lower in range(max(0, z - lasts), z + 1)):
            return z + 1, float(np.mean([ndimage.center_of_mass(labels == part)[1] for part in wide]))
    return None


def _branches(section: Mask, voxel_mm2: float) -> int:
    sizes = np.bincount(ndimage.label(section, np.ones((3, 3)))[0].ravel())[1:]
    return int((sizes * voxel_mm2 >= _BRANCH_MM2 / 2).sum())


def _connected(mask: Mask, seed: Mask) -> Mask:
    labels, _ = ndimage.label(mask)
    wanted = np.unique(labels[seed & mask])
    return np.isin(labels, wanted[wanted > 0])


def _main(tree: Mask, trachea: Mask, fork: tuple[int, float] | None, spacing_mm: Spacing) -> Mask:
    """Cut trachea and main bronchi out of a tree, by their distance from the carina."""
    if fork is None:
        kept = tree & ndimage.binary_dilation(trachea, iterations=2)
        return _connected(kept, trachea)
    z0, x0 = fork
    at = np.argwhere(tree[min(z0, tree.shape[0] - 1)])
    y0 = at[:, 0].mean()
    z, y, x = (axis * mm for axis, mm in zip(np.ogrid[tuple(map(slice, tree.shape))], spacing_mm, strict=True))
    dz, dy, dx = z - z0 * spacing_mm[0], y - y0 * spacing_mm[1], x - x0 * spacing_mm[2]
    reach = np.where(dx > 0, _LEFT_MM, _RIGHT_MM)
    near = (dz * dz + dy * dy + dx * dx) <= reach * reach
    above = np.broadcast_to(dz >= 0, tree.shape) & ndimage.binary_dilation(trachea, iterations=3)
    return _connected(tree & (near | above), trachea)


def find_airway(
    hu: Field, inside: Mask, middle_x: float, lung_z: tuple[int, int], top_z: int, spacing_mm: Spacing
) -> Airway | None:
    """Find trachea and main bronchi.

    Parameters
    ----------
    hu : (z, y, x) float32
        Canonical coarse grid.
    inside : (z, y, x) bool
        Where air inside the body may be.
    middle_x : float
        Index of the body's middle.
    lung_z : tuple of int
        First and last slice of the lungs.
    top_z : int
        Highest slice that may belong to the trachea; the larynx is above.
    spacing_mm : tuple of float
        (z, y, x).

    Returns
    -------
    Airway or None
        None if no trachea is seen.

    Source
    ------
    Leak control by a rising threshold: Mori et al., IEEE Trans Med Imaging 15 (2000), doi 10.1109/42.845173.
    """
    allowed = inside.copy()
    allowed[top_z + 1 :] = False
    trachea = _trachea(_sections(hu, allowed, middle_x, spacing_mm), spacing_mm, sum(lung_z) // 2)
    if trachea is None:
        return None
    box = _box(trachea, spacing_mm)
    crop_hu, crop_trachea = hu[box], trachea[box]
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    limit = _TREE_FACTOR * crop_trachea.sum() + _TREE_ML / voxel_ml
    seed = crop_trachea & (crop_hu < _LUMEN_HU)
    tree = _grow(crop_hu, allowed[box], seed, limit)
    fork = _fork(tree, spacing_mm, int(np.argwhere(crop_trachea.any(axis=(1, 2)))[-1, 0]))
    main = _main(tree, crop_trachea, fork, spacing_mm)
    whole_tree, whole_main = np.zeros(hu.shape, bool), np.zeros(hu.shape, bool)
    whole_tree[box], whole_main[box] = tree, main
    return Airway(whole_tree, whole_main, None if fork is None else fork[0] + box[0].start)


def _box(trachea: NDArray[np.bool_], spacing_mm: Spacing) -> tuple[slice, slice, slice]:
    z, y, x = ndimage.find_objects(trachea.astype(np.uint8))[0]
    below, depth, side = (round(mm / step) for mm, step in zip(_BOX_MM, spacing_mm, strict=True))
    return (
        slice(max(0, z.start - below), z.stop),
        slice(max(0, y.start - depth), y.stop + depth),
        slice(max(0, x.start - side), x.stop + side),
    )
