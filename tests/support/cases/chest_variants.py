"""Chests with one change each, made of any chest whose structures are known: what a scan may hold beside healthy lungs.

Axes are canonical (z to the head, y to the back, x to the left), as in the phantom, in cip_ct64 and in a chest that
`canonical` turned. A variant tells which of the known labels it keeps, so a test can compare voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from orthanc_plugin.domain.masks import Labels, Mask
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.inference.grid import canonical_turn

BODY, LEFT, RIGHT, AIRWAY, BONE = range(1, 6)


@dataclass(frozen=True)
class Chest:
    """A chest and its labels. added: what the change drew, which is no lung, airway or bone."""

    volume: Volume
    labels: Labels
    added: Mask

    @property
    def hu(self) -> Voxels:
        return self.volume.voxels_hu

    @property
    def mm(self) -> tuple[float, float, float]:
        return self.volume.spacing_mm


def chest(volume: Volume, labels: Labels) -> Chest:
    """Turn a chest to canonical axes."""
    turn = canonical_turn(volume)
    z, y, x = (volume.spacing_mm[axis] for axis in turn.axes)
    hu, turned = (np.ascontiguousarray(turn.forward(array)) for array in (volume.voxels_hu, labels))
    return Chest(Volume(hu, (z, y, x), np.diag([x, y, z, 1.0])), turned, np.zeros(hu.shape, bool))


def changed(made: Chest, hu: Voxels | None = None, labels: Labels | None = None, added: Mask | None = None) -> Chest:
    voxels = np.ascontiguousarray(made.hu if hu is None else hu, np.float32)
    added = made.added if added is None else added
    return Chest(replace(made.volume, voxels_hu=voxels), made.labels if labels is None else labels, added)


def _noise(shape: tuple[int, ...], sd: float, smooth: float = 0.0) -> Voxels:
    values = np.random.default_rng(7).standard_normal(shape, np.float32)
    if smooth:
        values = ndimage.gaussian_filter(values, smooth)
        values /= values.std()
    return np.asarray(np.float32(sd) * values)


def painted(made: Chest, region: Mask, hu: float, texture_hu: float = 10.0, grain_mm: float = 0.0) -> Chest:
    """Paint a region; what it covers is body from now on, and counts as added."""
    if not region.any():
        raise ValueError("nothing to paint")
    (box,) = ndimage.find_objects(region.astype(np.uint8))
    value = hu + _noise(region[box].shape, texture_hu, grain_mm / min(made.mm))
    voxels, labels = made.hu.copy(), made.labels.copy()
    inside = region[box]
    voxels[box] = np.where(inside, np.clip(value, -1024, 3071), voxels[box])
    labels[box] = np.where(inside, BODY, labels[box])
    return changed(made, voxels, labels, made.added | region)


def ball(made: Chest, centre: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> Mask:
    """An ellipsoid; centre in voxels."""
    axes = np.ogrid[tuple(map(slice, made.hu.shape))]
    parts = zip(axes, centre, made.mm, radii_mm, strict=True)
    return np.asarray(sum(((axis - at) * mm / r) ** 2 for axis, at, mm, r in parts) <= 1.0)


def longer(made: Chest, mm: float = 180.0) -> Chest:
    """Continue the lowest slice downward as an abdomen without lungs and bone shadows of the ribs."""
    count = round(mm / made.mm[0])
    lowest, labels = made.hu[0].copy(), made.labels[0].copy()
    air = np.isin(labels, (LEFT, RIGHT, AIRWAY)) | ((labels == BODY) & (lowest < -200))
    lowest[air] = 30.0
    labels[air] = BODY
    # Bone is uneven along the body, too: a column of one value would be a vessel full of contrast.
    noise = _noise((count, *lowest.shape), 12.0) * np.where(labels == BONE, np.float32(10), np.float32(1))
    voxels = np.concatenate([np.where(labels > 0, lowest + noise, lowest), made.hu])
    labels = np.concatenate([np.repeat(labels[None], count, axis=0), made.labels])
    added = np.zeros(voxels.shape, bool)
    return Chest(replace(made.volume, voxels_hu=np.ascontiguousarray(voxels, np.float32)), labels, added)


def below_lung(made: Chest, number: int, ml: float, gap_mm: float, forward_mm: float = 0.0) -> Mask:
    """An ellipsoid in the soft tissue below the dome of a lung, at least `gap_mm` of tissue between."""
    lung = made.labels == number
    side = np.nonzero(lung)[2].mean()
    x = np.arange(lung.shape[2])
    columns = (lung.sum(axis=0) * made.mm[0] > 80.0) & ((x >= side) if number == LEFT else (x <= side))
    lowest = np.where(columns, lung.argmax(axis=0), -1)
    top = int(np.percentile(lowest[columns], 90))
    y, x = (float(np.mean(axis)) for axis in np.nonzero(columns & (np.abs(lowest - top) * made.mm[0] <= 12.0)))
    r = (ml * 1000.0 / (4.0 / 3.0 * np.pi)) ** (1 / 3)
    centre = (top - (gap_mm + 0.8 * r) / made.mm[0], y - forward_mm / made.mm[1], x)
    shape = ball(made, centre, (0.8 * r, 1.2 * r, r / 0.96))
    (box,) = ndimage.find_objects(ball(made, centre, (2 * r, 2 * r, 2 * r)).astype(np.uint8))
    lungs = np.isin(made.labels[box], (LEFT, RIGHT, AIRWAY))
    far = ndimage.distance_transform_edt(~lungs, made.mm) >= gap_mm + max(made.mm)
    allowed = far & (made.labels[box] == BODY) & ~ndimage.binary_dilation(made.labels[box] == 0, iterations=2)
    region = np.zeros(made.hu.shape, bool)
    region[box] = shape[box] & allowed
    return region


def bowel(made: Chest, side: int, radius_mm: float = 22.0, length_mm: float = 200.0, top_mm: float = 0.0) -> Mask:
    """A tube in a flank, from `top_mm` below the highest slice of the abdomen that `longer` drew."""
    body = made.labels[0] > 0
    rows, columns = np.nonzero(body)
    y = rows.mean()
    middle = columns.mean()
    x = middle + side * 0.62 * (columns.max() - middle)
    z, yy, xx = np.ogrid[tuple(map(slice, made.hu.shape))]
    wave = 1 + 0.25 * np.sin(z * made.mm[0] / 9.0)
    tube = np.hypot((yy - y) * made.mm[1], (xx - x) * made.mm[2]) <= radius_mm * wave
    top = round((180.0 - top_mm) / made.mm[0])
    bottom = max(2, top - round(length_mm / made.mm[0]))
    tube = tube & (z >= bottom) & (z < top)
    return np.asarray(tube & (made.labels == BODY))


def only(made: Chest, first: int, last: int | None = None) -> Chest:
    """Keep some slices."""
    part = slice(first, last)
    volume = replace(made.volume, voxels_hu=np.ascontiguousarray(made.hu[part]))
    return Chest(volume, np.ascontiguousarray(made.labels[part]), np.ascontiguousarray(made.added[part]))


def blood(made: Chest) -> Mask:
    """Soft tissue between the lungs below the fork of the airway: heart and great vessels, near enough."""
    lungs = np.isin(made.labels, (LEFT, RIGHT))
    between = np.logical_or.accumulate(made.labels == RIGHT, axis=2)
    between &= np.logical_or.accumulate((made.labels == LEFT)[:, :, ::-1], axis=2)[:, :, ::-1]
    front = np.logical_or.accumulate(lungs, axis=1)
    tissue = between & front & (made.labels == BODY)
    soft = ndimage.uniform_filter(np.where(tissue, made.hu, -200.0), 5)
    region = tissue & (soft > -20) & (soft < 110)
    region = ndimage.binary_opening(region, iterations=max(1, round(4.0 / made.mm[1])))
    labels, _ = ndimage.label(region)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def aorta(made: Chest, radius_mm: float = 12.0) -> Mask:
    """A tube that touches the spine at its left and front, in all slices."""
    region = np.zeros(made.hu.shape, bool)
    y, x = np.indices(made.hu.shape[1:])
    columns = ndimage.uniform_filter1d((made.labels == BONE).sum(axis=(0, 1)).astype(float), 11)
    spine_x = float(columns.argmax())
    span = round(20.0 / made.mm[2])
    near = (made.labels == BONE)[:, :, int(spine_x) - span : int(spine_x) + span]
    rows = np.nonzero(near.sum(axis=(0, 2)))[0]
    weights = near.sum(axis=(0, 2))[rows]
    spine_y = float(np.average(rows, weights=weights))
    at = spine_y - 26.0 / made.mm[1], spine_x + 18.0 / made.mm[2]
    disc = np.hypot((y - at[0]) * made.mm[1], (x - at[1]) * made.mm[2]) <= radius_mm
    region[:] = disc
    return np.asarray(region & (made.labels == BODY))


def kidneys(made: Chest) -> Mask:
    """Two ellipsoids beside the spine in the abdomen that `longer` drew."""
    rows, columns = np.nonzero(made.labels[0] > 0)
    region = np.zeros(made.hu.shape, bool)
    for side in (-1, 1):
        x = columns.mean() + side * 55.0 / made.mm[2]
        y = rows.mean() + 35.0 / made.mm[1]
        region |= ball(made, (90.0 / made.mm[0], y, x), (55.0, 28.0, 25.0))
    return np.asarray(region & (made.labels == BODY))


def enhanced(made: Chest, region: Mask, hu: float, sd: float = 12.0) -> Chest:
    """Fill a region with contrast, with smooth borders and the noise of the scan."""
    (box,) = ndimage.find_objects(region.astype(np.uint8))
    soft = ndimage.gaussian_filter(region[box].astype(np.float32), 0.7)
    voxels = made.hu.copy()
    # What was fat or lung in the region is blood now: contrast added to it would be more uneven than any vessel.
    voxels[box] += soft * (hu + _noise(region[box].shape, sd) - voxels[box])
    labels = made.labels.copy()
    labels[region] = BODY
    return changed(made, np.clip(voxels, -1024, 3071), labels, made.added | region)


def emptied(made: Chest, number: int, hu: float = 20.0) -> Chest:
    """Fill one lung: fluid, or air as after its removal or in a pneumothorax."""
    region = ndimage.binary_closing(made.labels == number, iterations=2) & np.isin(made.labels, (BODY, number))
    return painted(made, region, hu)


def pneumothorax(made: Chest, number: int) -> Chest:
    """Fill the front half of a lung with air, as in a patient who lies on the back; the rest collapses to -600 HU."""
    lung = made.labels == number
    rows = np.nonzero(lung.any(axis=(0, 2)))[0]
    front = np.arange(made.hu.shape[1])[None, :, None] < rows[0] + 0.45 * (rows[-1] - rows[0])
    voxels = np.where(lung & front, np.float32(-1000) + _noise(lung.shape, 8.0), made.hu)
    voxels = np.where(lung & ~front, np.maximum(voxels, voxels * 0.75), voxels)
    labels = np.where(lung & front, BODY, made.labels).astype(np.uint8)
    return changed(made, voxels, labels, made.added | (lung & front))


def prone(made: Chest) -> Chest:
    """Remove the couch and draw one in front of the chest."""
    outside = made.labels == 0
    voxels = np.where(outside, np.float32(-1000) + _noise(made.hu.shape, 10.0), made.hu)
    front = int(np.nonzero((made.labels > 0).any(axis=(0, 2)))[0][0])
    depth, at = max(1, round(4.0 / made.mm[1])), max(0, front - round(6.0 / made.mm[1]))
    shell = np.zeros(made.hu.shape, bool)
    shell[:, max(0, at - depth) : at, made.hu.shape[2] // 6 : -made.hu.shape[2] // 6] = True
    return changed(made, np.where(shell & outside, np.float32(-200), voxels))


def shifted(made: Chest, mm: float) -> Chest:
    """Move the patient to the left (or right, if negative) edge of the image; what leaves it is lost."""
    by = round(mm / made.mm[2])

    def move(array: Voxels | Labels | Mask, fill: float) -> Voxels:
        moved = np.full_like(array, fill)
        if by >= 0:
            moved[:, :, by:] = array[:, :, : array.shape[2] - by]
        else:
            moved[:, :, :by] = array[:, :, -by:]
        return moved

    return Chest(
        replace(made.volume, voxels_hu=np.ascontiguousarray(move(made.hu, -1000.0))),
        move(made.labels, 0),
        move(made.added, 0),
    )


def in_circle(made: Chest, radius_mm: float, x_mm: float = 0.0, padding_hu: float = -2000.0) -> Chest:
    """Keep a reconstruction circle around the middle of the image, moved along x, and pad the rest."""
    y, x = np.indices(made.hu.shape[1:])
    centre = [size / 2 for size in made.hu.shape[1:]]
    away = np.hypot((y - centre[0]) * made.mm[1], (x - centre[1]) * made.mm[2] - x_mm)
    inside = away <= radius_mm
    voxels = np.where(inside, made.hu, np.float32(padding_hu))
    return changed(made, voxels, np.where(inside, made.labels, 0).astype(np.uint8), made.added & inside)


def upside_down(made: Chest) -> Chest:
    """Store the slices from head to feet, although the header says feet to head."""
    return Chest(
        replace(made.volume, voxels_hu=np.ascontiguousarray(made.hu[::-1])), made.labels[::-1], made.added[::-1]
    )


def back_to_front(made: Chest) -> Chest:
    """Turn the patient on the front, although the header still says that the patient lies on the back."""
    turned = (np.ascontiguousarray(array[:, ::-1, ::-1]) for array in (made.hu, made.labels, made.added))
    voxels, labels, added = turned
    return Chest(replace(made.volume, voxels_hu=voxels), labels, added)


def smaller(made: Chest, factor: float) -> Chest:
    """The same patient, smaller along each axis."""
    z, y, x = (mm * factor for mm in made.mm)
    volume = replace(made.volume, spacing_mm=(z, y, x), affine=np.diag([x, y, z, 1.0]))
    return replace(made, volume=volume)


def with_couch_air(made: Chest) -> Chest:
    """A couch of foam, closed by a shell, right below the patient."""
    outside = made.labels == 0
    back = int(np.nonzero((made.labels > 0).any(axis=(0, 2)))[0][-1])
    deep, shell = round(45.0 / made.mm[1]), max(1, round(4.0 / made.mm[1]))
    rows = np.arange(made.hu.shape[1])[None, :, None]
    columns = np.arange(made.hu.shape[2])[None, None, :]
    side = made.hu.shape[2] // 8
    box = (rows >= back - 2) & (rows < back + deep) & (columns >= side) & (columns < made.hu.shape[2] - side)
    inner = (rows >= back - 2 + shell) & (rows < back + deep - shell)
    inner = inner & (columns >= side + shell) & (columns < made.hu.shape[2] - side - shell)
    voxels = np.where(box & outside, np.float32(-60), made.hu)
    return changed(made, np.where(inner & outside, np.float32(-955) + _noise(made.hu.shape, 12.0), voxels))


def opened(made: Chest, number: int, mm: float = 60.0) -> Chest:
    """Cut a gap of air from a lung through the skin beside it, as streaks of metal do, in its middle slices."""
    lung = made.labels == number
    zs = np.flatnonzero(lung.any(axis=(1, 2)))
    first = int(zs.mean() - mm / made.mm[0] / 2)
    half = max(1, round(4.0 / made.mm[1]))
    gap = np.zeros(made.hu.shape, bool)
    for z in range(first, first + round(mm / made.mm[0])):
        rows, columns = np.nonzero(lung[z])
        y, x = int(np.median(rows)), int(np.median(columns))
        beside = slice(x, None) if number == LEFT else slice(None, x)
        gap[z, y - half : y + half, beside] = True
    cut = changed(made, np.where(gap & ~lung, -1000.0, made.hu), np.where(gap & ~lung, 0, made.labels))
    return replace(cut, labels=cut.labels.astype(made.labels.dtype))


def quality_cylinder(noise_hu: float = 12.0) -> Volume:
    """A cylinder of water with rods: lung-like -850 HU, air, and one of 900 HU; 60 slices of 3 mm."""
    shape = (60, 120, 120)
    y, x = np.indices(shape[1:]) - 59.5
    plane = np.full(shape[1:], -1000.0, np.float32)
    plane[np.hypot(y, x) * 2.5 <= 120] = 0.0
    for at, radius, hu in (((0, 24), 12, -850.0), ((0, -24), 12, 900.0), ((24, 0), 5, -1000.0)):
        plane[np.hypot(y - at[0], x - at[1]) <= radius] = hu
    voxels = plane + _noise(shape, noise_hu)
    return Volume(np.ascontiguousarray(voxels, np.float32), (3.0, 2.5, 2.5), np.diag([2.5, 2.5, 3.0, 1.0]))


def _gas(number: int, ml: float, gap_mm: float, hu: float, texture: float, grain: float) -> Callable[[Chest], Chest]:
    def make(made: Chest) -> Chest:
        long = longer(made)
        return painted(long, below_lung(long, number, ml, gap_mm), hu, texture, grain)

    return make


def _colon(hu: float, texture: float, grain: float, *, abdomen: bool = False) -> Callable[[Chest], Chest]:
    def make(made: Chest) -> Chest:
        long = longer(made)
        tubes = bowel(long, 1) | bowel(long, -1)
        long = painted(long, tubes, hu, texture, grain)
        return only(long, 0, round(170.0 / made.mm[0])) if abdomen else long

    return make


def _contrast(hu: float) -> Callable[[Chest], Chest]:
    def make(made: Chest) -> Chest:
        long = longer(made)
        made = enhanced(long, blood(long) | aorta(long), hu)
        return enhanced(made, kidneys(made), hu * 0.8)

    return make


VARIANTS: Mapping[str, Callable[[Chest], Chest]] = {
    "stomach, 250 mL of gas at -985 HU, 6 mm below the left lung": _gas(LEFT, 250, 6.0, -985, 8, 0),
    "stomach, 250 mL at -940 HU, 4 mm below the left lung": _gas(LEFT, 250, 4.0, -940, 15, 0),
    "gas of a stomach, 440 mL at -990 HU, behind one voxel of wall": _gas(LEFT, 440, 0.0, -990, 10, 0),
    "stomach with food, 250 mL at -700 +- 180 HU": _gas(LEFT, 250, 5.0, -700, 180, 4.0),
    "colon above the liver, 120 mL at -930 HU, 5 mm below the right lung": _gas(RIGHT, 120, 5.0, -930, 25, 3.0),
    "colon in both flanks, gas at -950 HU": _colon(-950, 20, 0),
    "colon in both flanks, stool at -550 +- 200 HU": _colon(-550, 200, 3.0),
    "abdomen alone, colon with gas at -950 HU": _colon(-950, 20, 0, abdomen=True),
    "abdomen alone, colon with stool at -600 +- 200 HU": _colon(-600, 200, 3.0, abdomen=True),
    "contrast at 250 HU in heart, aorta and kidneys": _contrast(250.0),
    "contrast at 350 HU in heart, aorta and kidneys": _contrast(350.0),
    "contrast at 450 HU in heart, aorta and kidneys": _contrast(450.0),
    "right lung filled with fluid": lambda made: emptied(made, RIGHT),
    "left lung removed, air in its place": lambda made: emptied(made, LEFT, -1000.0),
    "right lung filled, body at the edge": lambda made: shifted(emptied(made, RIGHT), -40.0),
    "pneumothorax right": lambda made: pneumothorax(made, RIGHT),
    "pneumothorax left": lambda made: pneumothorax(made, LEFT),
    "prone": prone,
    "shifted by 30 mm to the left": lambda made: shifted(made, 30.0),
    "shifted by 70 mm to the right": lambda made: shifted(made, -70.0),
    "reconstruction circle of 165 mm": lambda made: in_circle(made, 165.0),
    "reconstruction circle of 150 mm, 40 mm to the left": lambda made: in_circle(made, 150.0, 40.0),
    "reconstruction circle of 130 mm, 60 mm to the right": lambda made: in_circle(made, 130.0, -60.0),
    "couch of foam under the back": with_couch_air,
    "a gap in the skin beside the left lung": lambda made: opened(made, LEFT),
    "patient of 45 % of the size": lambda made: smaller(made, 0.45),
    "patient of 60 % of the size": lambda made: smaller(made, 0.6),
    "slices upside down": upside_down,
    "prone, header says supine": back_to_front,
}
