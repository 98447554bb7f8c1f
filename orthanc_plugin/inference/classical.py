"""The engine of chest_structures: a morphology graph works on a coarse grid, HU set the borders on the fine one.

1. Turn the volume to canonical orientation. 2. Shrink it to about 3 mm. 3. Run the graph: outside, body, air, bone.
4. Find the airway tree and the lungs in the air. 5. Bring signed distances back to the fine grid, slice by slice; near
a border, HU decide (`borders`). So borders follow the image and topology follows the coarse grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.chest_graph import AIR, AIR_HU, BONE, LUNG, OUTSIDE
from orthanc_plugin.domain.evenness import LEAST_GAS_ML, even_gas_ml
from orthanc_plugin.domain.masks import Labels, Mask, Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.airway import Airway, find_airway
from orthanc_plugin.inference.borders import Found, fine_labels
from orthanc_plugin.inference.contrast import find_contrast
from orthanc_plugin.inference.edges import Framed, ImageEdge, image_edge, in_open_air
from orthanc_plugin.inference.grid import CoarseGrid, Field, Spacing, canonical_turn, resize
from orthanc_plugin.inference.lungs import SMALLEST_ML, find_lungs, has_vessels, without_vessels
from orthanc_plugin.inference.memory import memory_errors
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.inference.segments import segments_present

_LOW_HU, _HIGH_HU = -1024.0, 3071.0
_NO_LUNG = "no lung of plausible size and place: no lungs, no airways"
_CUT_NOTE = "the lungs are cut by the edge of the image: no lungs, no airways"
_SIDES_NOTE = "the middle of the body lies at the edge of the image: no lungs, no airways"
_UPSIDE_DOWN_NOTE = "the scan is upside down (its airway forks toward the head): no lungs, no airways"
_BACK_NOTE = "front and back of the scan are exchanged (its spine lies in front): no lungs, no airways"
_ADULT_MM, _SMALL, _SMALLEST_SIZE = 340.0, 0.7, 0.3  # width of the trunk, and shares of it
_SMALLEST_CHILD_ML = 50.0
_AIR_SHARE = 0.08  # of a body; both lungs are a tenth of a trunk and more
_SHARE_BEYOND = 0.03  # of a lung that is kept although the edge of the image cuts it
_OPEN_MM2, _LUNG_ABOVE_HU = 500.0, -940.0
_OPENINGS = "a gap in the skin, streaks of metal"
_SPINE_VOXELS, _HALF_MM = 11, 60.0
_LARYNX_ABOVE_APEX_MM = 35.0


@dataclass(frozen=True, slots=True)
class _Scan:
    """A canonical scan on its coarse grids. least_ml: least volume of a lung in it."""

    fine_hu: Field
    grid: CoarseGrid
    hu: Field
    airway_grid: CoarseGrid
    airway_hu: Field
    least_ml: float

    def reversed(self) -> _Scan:
        """Return the scan from head to feet."""
        return replace(self, fine_hu=self.fine_hu[::-1], hu=self.hu[::-1], airway_hu=self.airway_hu[::-1])


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
        scan, found, notes = self._look(turn.forward(volume.voxels_hu), (z, y, x))
        labels = fine_labels(scan.fine_hu, scan.grid, scan.airway_grid, found, self._number)
        labels = np.ascontiguousarray(turn.backward(labels))
        notes = (*_with_open_lungs(notes, scan, found), *self._gas_notes(volume, labels))
        return Segmentation(labels, segments_present(labels, self.card.labels), notes)

    def _gas_notes(self, volume: Volume, labels: Labels) -> Iterator[str]:
        boxes = dict(enumerate(ndimage.find_objects(labels), start=1))
        for side in ("left", "right"):
            number = self._number(f"lung_{side}")
            if (box := boxes.get(number)) and even_gas_ml(volume, labels[box] == number, box) >= LEAST_GAS_ML:
                yield f"the {side} lung holds gas without vessels (pneumothorax, bulla, stomach or bowel)"

    def _number(self, key: str) -> int:
        return next(label.number for label in self.card.labels if label.key == key)

    def _look(self, hu: Field, spacing_mm: Spacing) -> tuple[_Scan, Found, tuple[str, ...]]:
        """Find the structures of a patient of adult size, or else of a small one, whose every length is stretched."""
        scan = self._scan(hu, spacing_mm)
        found, notes = self._find(scan)
        size = _size(found.body, scan.grid.spacing_mm)
        if (
            size >= _SMALL
            or not _holds_air(scan.hu, found.body)
            or (found.lung_count == 2 and found.airway and found.airway.carina_z is not None)
        ):
            return scan, found, notes
        z, y, x = (mm / size for mm in spacing_mm)
        stretched = self._scan(hu, (z, y, x), max(SMALLEST_ML, _SMALLEST_CHILD_ML / size**3))
        child = self._find_within(stretched, in_open_air(stretched.hu))
        if child.lung_count < 2 or child.lung_count < found.lung_count or child.airway is None:
            return scan, found, notes
        return stretched, child, _notes(child)

    def _scan(self, hu: Field, spacing_mm: Spacing, least_ml: float = SMALLEST_ML) -> _Scan:
        grids = [
            CoarseGrid(hu.shape, spacing_mm, self.card.preprocessing[key]) for key in ("grid_mm", "airway_grid_mm")
        ]
        shrunk = [grid.shrink(hu, _LOW_HU, _HIGH_HU) for grid in grids]
        return _Scan(hu, grids[0], shrunk[0], grids[1], shrunk[1], least_ml)

    def _find(self, scan: _Scan) -> tuple[Found, tuple[str, ...]]:
        """Find all structures; if a lung is missing, look again as if the body went on beyond the image's edge."""
        found = self._find_within(scan, in_open_air(scan.hu))
        if _shows_spine_in_front(found, scan.grid.spacing_mm):
            return found.without_chest(), (_BACK_NOTE,)
        if found.lung_count == 2 and found.airway is not None and found.airway.carina_z is not None:
            return found, _notes(found)
        if reason := self._upside_down(scan, found):
            return found.without_chest(), (reason,)
        if found.lung_count == 2:
            return found, _notes(found)
        edge = image_edge(scan.fine_hu, scan.hu, found.body, scan.grid)
        spine_x = _spine_x(found.bone)
        sides_known = spine_x is not None and _shows_both_halves(spine_x, found.body, scan.grid.spacing_mm[2])
        whole = self._find_within(scan, edge.framed(close_lung=False), edge.valid, spine_x)
        if whole.lung_count > found.lung_count and sides_known:
            found = whole
        if found.lung_count == 2 or not edge.cuts_lung:
            return found, _notes(found)
        closed = self._find_within(scan, edge.framed(close_lung=True), edge.valid, spine_x)
        return _with_cut_lungs(found, closed, edge, sides_known=sides_known)

    def _upside_down(self, scan: _Scan, found: Found) -> str:
        """Say that a scan shows its patient upside down; empty if it may be upright."""
        if found.airway is not None and found.airway.carina_z is not None:
            return ""
        other = self._find_within(scan.reversed(), in_open_air(scan.hu[::-1]))
        forks = other.airway is not None and other.airway.carina_z is not None
        return _UPSIDE_DOWN_NOTE if forks and other.lung_count == 2 else ""

    def _find_within(
        self, scan: _Scan, framed: Framed, valid: Mask | None = None, spine_x: float | None = None
    ) -> Found:
        hu = scan.hu
        coded = self._map(framed)
        if valid is not None:
            coded = np.where(valid, coded, OUTSIDE)
        body = _big_parts(coded != OUTSIDE)
        contrast = find_contrast(hu, (coded == BONE) & body, body, scan.grid.spacing_mm)
        bone = (coded == BONE) & ~contrast.mask
        air = np.isin(coded, (LUNG, AIR)) & (hu < AIR_HU) & body
        lung_z = _extent(air & (coded == LUNG))
        middle_x = _middle_x(body, bone, lung_z) if spine_x is None else spine_x
        airway = self._airway(scan, body, middle_x, lung_z)
        tree = np.zeros(hu.shape, bool) if airway is None else resize(airway.tree, hu.shape)
        reach = hu.shape[0] - 1 if airway is None else _lowest(tree, airway, scan)
        lungs = find_lungs(hu, air, tree, bone, middle_x, reach, scan.grid.spacing_mm, scan.least_ml)
        found = Found(body, without_vessels(bone & body, lungs), lungs, airway, contrast)
        return found if found.lung_count else found.without_chest()

    def _map(self, framed: Framed) -> Labels:
        with memory_errors(self.card.graphs[0].file, self.provider):
            (coded,) = self._session.run(["labels"], {"hu": framed.hu[None, None]})
        return np.asarray(framed.inner(coded[0, 0]))

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


def _size(body: Mask, spacing_mm: Spacing) -> float:
    """Compare the width of a body, as far as the image shows it, with an adult's."""
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    return float(max(_SMALLEST_SIZE, len(columns) * spacing_mm[2] / _ADULT_MM)) if columns.size else 1.0


def _holds_air(hu: Field, body: Mask) -> bool:
    """Check whether enough air for two lungs lies between the sides of a body; a head or a leg holds less."""
    between = _between(body, 2)
    return bool((between & (hu < AIR_HU)).sum() > _AIR_SHARE * between.sum())


def _middle_x(body: Mask, bone: Mask, lung_z: tuple[int, int]) -> float:
    """Return the x index of the spine, or of the middle of the body where no spine is seen beside it."""
    if not body.any():
        return 0.0
    middle = float(np.median(np.nonzero(body[lung_z[0] : lung_z[1] + 1])[2]))
    spine = _spine_x(bone)
    return middle if spine is None else spine


def _shows_spine_in_front(found: Found, spacing_mm: Spacing) -> bool:
    """Check whether most bone in the columns of the spine lies in front of the middle of the body."""
    spine = _spine_x(found.bone)
    if spine is None or not found.lung_count:
        return False
    half = _SPINE_VOXELS // 2
    rows = found.bone[:, :, max(0, round(spine) - half) : round(spine) + half + 1].sum(axis=(0, 2))
    y = np.nonzero(found.body.any(axis=(0, 2)))[0]
    return bool((np.average(np.arange(len(rows)), weights=rows) - (y[0] + y[-1]) / 2) * spacing_mm[1] < -_HALF_MM / 4)


def _spine_x(bone: Mask) -> float | None:
    """Return the x index of the spine: the columns with most bone. It tells the sides where the body is cut."""
    columns = ndimage.uniform_filter1d(bone.sum(axis=(0, 1)).astype(float), _SPINE_VOXELS, mode="constant")
    return float(columns.argmax()) if bone.any() else None


def _shows_both_halves(middle_x: float, body: Mask, mm: float) -> bool:
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    return bool(columns.size and min(middle_x - columns[0], columns[-1] - middle_x) * mm >= _HALF_MM)


def _lowest(tree: Mask, airway: Airway, scan: _Scan) -> int:
    """Return the slice that a lung reaches at least: the carina, or the lowest visible part of the tree."""
    ratio = scan.grid.shape[0] / scan.airway_grid.shape[0]
    return int(np.argwhere(tree.any(axis=(1, 2)))[0, 0]) if airway.carina_z is None else int(airway.carina_z * ratio)


def _with_cut_lungs(
    found: Found, closed: Found, edge: ImageEdge, *, sides_known: bool
) -> tuple[Found, tuple[str, ...]]:
    """Withhold the lungs that the edge cuts, and keep the other one.

    `found` are the structures with a cut lung open to the outside, `closed` those with that lung closed by a wall.
    """
    lungs = {side: lung for side, lung in closed.lungs.sides.items() if lung.any() and has_vessels(edge.hu, lung)}
    if lungs and not sides_known:
        body = found.body | np.logical_or.reduce(list(lungs.values()))
        return replace(found.without_chest(), body=body), (_SIDES_NOTE,)
    beyond = {side: edge.share_beyond(lung) for side, lung in lungs.items()}
    kept = [side for side, share in beyond.items() if share <= _SHARE_BEYOND]
    cut = [side for side in lungs if side not in kept]
    if len(kept) > found.lung_count:
        body = closed.body
        found = replace(closed, lungs=closed.lungs.only(*kept))
    else:
        body = found.body | np.logical_or.reduce([np.zeros_like(found.body), *(lungs[side] for side in cut)])
    if not found.lung_count and cut:
        return replace(found.without_chest(), body=body), (_CUT_NOTE,)
    notes = [f"the {side} lung is cut by the edge of the image: not segmented" for side in cut]
    notes += [f"the {side} lung touches the edge of the image and may be incomplete" for side in kept if beyond[side]]
    return replace(found, body=body), (*notes, *_notes(found))


def _with_open_lungs(notes: tuple[str, ...], scan: _Scan, found: Found) -> tuple[str, ...]:
    """Add what is open to the air around the body; it is the reason where no lung was found."""
    around = (scan.hu < AIR_HU) & ~found.body
    is_lost = found.lung_count < 2 and _is_open_lung(scan, around & _between(found.body, 1) & _between(found.body, 2))
    if is_lost and _NO_LUNG in notes:
        reason = f"the lungs seem to be open to the air around the body ({_OPENINGS}): no lungs, no airways"
        return tuple(reason if note == _NO_LUNG else note for note in notes)
    lost = f"a lung seems to be open to the air around the body ({_OPENINGS}): not segmented"
    return (*notes, *_open_notes(scan, found, around), *([lost] if is_lost else ()))


def _open_notes(scan: _Scan, found: Found, around: Mask) -> Iterator[str]:
    """Tell of a lung that goes on as air around the body in the next slice."""
    pixel_mm2 = scan.grid.spacing_mm[1] * scan.grid.spacing_mm[2]
    for side, lung in found.lungs.sides.items():
        opens = (lung[1:] & around[:-1]).sum() + (lung[:-1] & around[1:]).sum()
        if opens * pixel_mm2 >= _OPEN_MM2:
            yield f"the {side} lung is open to the air around the body ({_OPENINGS}): incomplete"


def _is_open_lung(scan: _Scan, air: Mask) -> bool:
    """Check whether air holds a part as large, dense and uneven as a lung."""
    labels, count = ndimage.label(ndimage.binary_erosion(air & (scan.hu > _LUNG_ABOVE_HU), iterations=2))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * float(np.prod(scan.grid.spacing_mm)) / 1000.0
    parts = (labels == number for number in 1 + np.flatnonzero(sizes >= scan.least_ml))
    return any(has_vessels(scan.hu, part) for part in parts)


def _between(body: Mask, axis: int) -> Mask:
    """Find what has body on both sides along an axis."""
    there, back = (np.flip(np.logical_or.accumulate(np.flip(body, flips), axis), flips) for flips in ((), axis))
    return np.asarray(there & back)


def _notes(found: Found) -> tuple[str, ...]:
    contrast = (
        (f"contrast medium of about {found.contrast.hu:.0f} HU is not part of bone",) if found.contrast.hu else ()
    )
    if not found.lung_count:
        return (_NO_LUNG, *contrast)
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
    gas = (f"gas below the {side} lung (stomach, bowel) is not part of it" for side in found.lungs.above_gas)
    return (*(note for applies, note in checks if applies), *gas, *contrast)
