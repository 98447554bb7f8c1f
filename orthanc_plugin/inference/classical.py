"""The engine of chest_structures: a morphology graph works on a coarse grid, HU set the borders on the fine one.

1. Turn the volume to canonical orientation. 2. Shrink it to about 3 mm. 3. Run the graph: outside, body, air, bone.
4. Find the airway tree and the lungs in the air. 5. Bring signed distances back to the fine grid, slice by slice; near
a border, HU decide (`borders`). So borders follow the image and topology follows the coarse grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.chest_graph import AIR, AIR_HU, BONE, LUNG, OUTSIDE
from orthanc_plugin.domain.masks import Labels, Mask, Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.airway import Airway, find_airway
from orthanc_plugin.inference.borders import Found, fine_labels
from orthanc_plugin.inference.grid import CoarseGrid, Field, Spacing, canonical_turn, resize
from orthanc_plugin.inference.lungs import find_lungs, without_vessels
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.inference.segments import segments_present

_LOW_HU, _HIGH_HU = -1024.0, 3071.0
_AIR_ABOVE_HU = -970.0  # median of a border patch: open air lies below, cut lung above
_CUT_MM2, _WALL_VOXELS = 500.0, 3
_CUT_NOTE = "the lungs are cut by the edge of the image: no lungs, no airways"
_VESSELS_HU = 40.0  # measured: lungs of cip_ct64 58, table foam there 27
_LARYNX_ABOVE_APEX_MM = 35.0


@dataclass(frozen=True, slots=True)
class _Scan:
    """A canonical scan on its coarse grids."""

    fine_hu: Field
    spacing_mm: Spacing
    grid: CoarseGrid
    hu: Field
    airway_grid: CoarseGrid
    airway_hu: Field


class ClassicalChestEngine:
    """Segments body, lungs, trachea with main bronchi, and bone."""

    def __init__(self, card: ModelCard, session: Any, provider: Provider) -> None:
        self.card = card
        self.provider: str = provider.value
        self._session = session

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a CT of the chest (see `SegmentationEngine`)."""
        turn = canonical_turn(volume)
        z, y, x = (volume.spacing_mm[axis] for axis in turn.axes)
        scan = self._scan(turn.forward(volume.voxels_hu), (z, y, x))
        found, notes = self._find(scan)
        labels = fine_labels(scan.fine_hu, scan.grid, scan.airway_grid, found, self._number)
        labels = np.ascontiguousarray(turn.backward(labels))
        return Segmentation(labels, segments_present(labels, self.card.labels), notes)

    def _number(self, key: str) -> int:
        return next(label.number for label in self.card.labels if label.key == key)

    def _scan(self, hu: Field, spacing_mm: Spacing) -> _Scan:
        grids = [
            CoarseGrid(hu.shape, spacing_mm, self.card.preprocessing[key]) for key in ("grid_mm", "airway_grid_mm")
        ]
        shrunk = [grid.shrink(hu, _LOW_HU, _HIGH_HU) for grid in grids]
        return _Scan(hu, spacing_mm, grids[0], shrunk[0], grids[1], shrunk[1])

    def _find(self, scan: _Scan) -> tuple[Found, tuple[str, ...]]:
        """Find all structures; if a lung opens at the image's edge and is lost, look again with walls."""
        found = self._find_within(scan, scan.hu)
        if found.lung_count < 2:
            walls = _cut_lung_at_the_edge(scan)
            walled = self._find_within(scan, np.where(walls, 0.0, scan.hu).astype(np.float32)) if walls.any() else found
            if walled.lung_count > found.lung_count and _has_vessels(scan.hu, walled):
                body = found.body | walled.lungs.left | walled.lungs.right
                return replace(found.without_chest(), body=body), (_CUT_NOTE,)
        return found, _notes(found)

    def _find_within(self, scan: _Scan, hu: Field) -> Found:
        coded = self._map(hu)
        body, bone = _big_parts(coded != OUTSIDE), coded == BONE
        air = np.isin(coded, (LUNG, AIR)) & (hu < AIR_HU) & body
        lung_z = _extent(air & (coded == LUNG))
        middle_x = float(np.median(np.nonzero(body[lung_z[0] : lung_z[1] + 1])[2])) if body.any() else 0.0
        airway = self._airway(scan, body, middle_x, lung_z)
        tree = np.zeros(hu.shape, bool) if airway is None else resize(airway.tree, hu.shape)
        reach = hu.shape[0] - 1 if airway is None else _lowest(tree, airway, scan)
        lungs = find_lungs(hu, air, tree, bone, middle_x, reach, scan.grid.spacing_mm)
        found = Found(body, without_vessels(bone & body, lungs), lungs, airway)
        return found if found.lung_count else found.without_chest()

    def _map(self, hu: Field) -> Labels:
        """Run the graph with a frame of open air around every slice."""
        framed = np.pad(hu, ((0, 0), (1, 1), (1, 1)), constant_values=-1000.0)
        (coded,) = self._session.run(["labels"], {"hu": framed[None, None]})
        return np.asarray(coded[0, 0, :, 1:-1, 1:-1])

    def _airway(self, scan: _Scan, body: Mask, middle_x: float, lung_z: tuple[int, int]) -> Airway | None:
        shape = scan.airway_grid.shape
        up = [fine / coarse for fine, coarse in zip(shape, body.shape, strict=True)]
        low, high = (round(z * up[0]) for z in lung_z)
        top = min(shape[0] - 1, high + round(_LARYNX_ABOVE_APEX_MM / scan.airway_grid.spacing_mm[0]))
        inside = resize(body, shape)
        return find_airway(scan.airway_hu, inside, middle_x * up[2], (low, high), top, scan.airway_grid.spacing_mm)


def _big_parts(body: Mask) -> Mask:
    """Keep the trunk and parts of at least a twentieth of it (arms)."""
    labels, count = ndimage.label(body)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= max(1, sizes.max() / 20))[labels] & body)


def _extent(mask: Mask) -> tuple[int, int]:
    """Return the first and last slice of the largest part, or of the whole stack if there is no part."""
    labels, count = ndimage.label(mask)
    if not count:
        return 0, mask.shape[0] - 1
    largest = int(np.bincount(labels.ravel())[1:].argmax())
    z = ndimage.find_objects(labels)[largest][0]
    return z.start, z.stop - 1


def _lowest(tree: Mask, airway: Airway, scan: _Scan) -> int:
    """Return the slice that a lung reaches at least: the carina, or the lowest visible part of the tree."""
    ratio = scan.grid.shape[0] / scan.airway_grid.shape[0]
    return int(np.argwhere(tree.any(axis=(1, 2)))[0, 0]) if airway.carina_z is None else int(airway.carina_z * ratio)


def _cut_lung_at_the_edge(scan: _Scan) -> Mask:
    """Make walls where lung, not open air, meets the edge of the image or its padding."""
    padding = np.all(scan.fine_hu == scan.fine_hu[0], axis=0)
    valid = ~resize(padding[None], (1, *scan.grid.shape[1:]))[0]
    edge = valid & ~ndimage.binary_erosion(valid, np.ones((3, 3), bool))
    labels, count = ndimage.label((scan.hu < AIR_HU) & edge)
    numbers = np.arange(1, count + 1)
    if not count:
        return np.zeros(scan.hu.shape, bool)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:] * scan.grid.spacing_mm[0] * scan.grid.spacing_mm[1]
    lung_like = ndimage.median(scan.hu, labels, numbers) > _AIR_ABOVE_HU
    if not (lung_like & (area >= _CUT_MM2)).any():
        return np.zeros(scan.hu.shape, bool)
    closed = edge & ~np.isin(labels, numbers[~lung_like])
    return np.asarray(ndimage.binary_dilation(closed, np.ones((1, 3, 3), bool), iterations=_WALL_VOXELS))


def _has_vessels(hu: Field, found: Found) -> bool:
    """Check that what looks like lung has vessels; the foam of a table has none."""
    inside = ndimage.binary_erosion(found.lungs.left | found.lungs.right, iterations=2, border_value=1)
    middle, bright = np.percentile(hu[inside], (50, 95)) if inside.any() else (0.0, 0.0)
    return bool(bright - middle > _VESSELS_HU)


def _notes(found: Found) -> tuple[str, ...]:
    if not found.lung_count:
        return ("no lung of plausible size and place: no lungs, no airways",)
    lungs = found.lungs.left | found.lungs.right
    seen = "left" if found.lungs.left.any() else "right"
    checks = (
        (found.lung_count == 1, f"only the {seen} lung was found"),
        (bool(lungs[0].any()), "the lungs reach the lowest slice and may be incomplete"),
        (bool(lungs[-1].any()), "the lungs reach the highest slice and may be incomplete"),
        (found.airway is None, "no trachea was seen: no airways"),
        (
            found.airway is not None and found.airway.carina_z is None,
            "the carina was not seen: trachea without bronchi",
        ),
    )
    return tuple(note for applies, note in checks if applies)
