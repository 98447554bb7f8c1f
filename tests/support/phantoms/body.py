"""A procedural body from the thighs to the top of the head, another with every seed, with levels of known height.

Between the lumbar spine and the shoulders it is the chest of `anatomy`; what lies below and above is drawn here:
thighs, pelvis, abdomen, neck and head. Shapes are coarse, but each height looks like no other: that is what body part
regression learns from. Coordinates are those of `anatomy`, LPS millimetres of the reference body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.phantoms import anatomy
from orthanc_plugin.phantoms.anatomy import Section
from orthanc_plugin.phantoms.phantom import Phantom, Triple, affine, inside, textured
from orthanc_plugin.phantoms.sections import Ellipse, Plane

_VERTEBRA_MM, _NECK_VERTEBRA_MM, _TH1_MM = 26.5, 18.0, 116.5
_C7_MM = _TH1_MM + _VERTEBRA_MM
LEVELS_MM: Mapping[str, float] = MappingProxyType(
    {
        "pelvis_start": -500.0,
        "femur_end": -400.0,
        "pelvis_end": -281.0,
        "kidney": -205.0,
        "lung_start": anatomy.LUNG_BASE_MM,
        "liver_end": -46.0,
        "lung_end": 118.8,
        **{f"L{n}": _TH1_MM - _VERTEBRA_MM * (n + 11) for n in range(1, 6)},
        **{f"Th{n}": _TH1_MM - _VERTEBRA_MM * (n - 1) for n in range(1, 13)},
        **{f"C{n}": _C7_MM + _NECK_VERTEBRA_MM * (7 - n) for n in range(1, 8)},
        "teeth": 235.0,
        "nose": 275.0,
        "eyes_end": 320.0,
        "head_end": 400.0,
    }
)
"""Height of each landmark of body part regression in the reference body; vertebrae by their middle, counted from Th1,
the one at the top of the lungs."""

WHOLE_MM = (-560.0, 410.0)
_WIDTH_MM = 448.0

_AIR, _FAT, _SOFT, _ORGAN, _WATER, _BONE, _SKULL, _TEETH = -1000.0, -100.0, 40.0, 55.0, 8.0, 500.0, 900.0, 1600.0
_LUNG, _BLOOD, _TABLE, _BRAIN = -860.0, 45.0, -250.0, 35.0
_OUTLINE = (
    # z, half width, half depth
    (-500.0, 165.0, 105.0),
    (-430.0, 176.0, 115.0),
    (-340.0, 166.0, 112.0),
    (-250.0, 148.0, 108.0),
    (-175.0, 154.0, 114.0),
    (-108.0, 160.0, 118.0),
    (140.0, 160.0, 118.0),
    (158.0, 125.0, 95.0),
    (178.0, 66.0, 66.0),
    (215.0, 60.0, 62.0),
)

Painted = tuple[Section, float]
"""What is painted with one HU; what comes later covers what came before."""


@dataclass(frozen=True, slots=True)
class BodyPhantom:
    """A body, or a part of it, whose levels are known.

    phantom: labels are 1 within the body; no volumes.
    levels_mm: LPS z of the landmarks, also of those outside the scan.
    """

    phantom: Phantom
    levels_mm: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Person:
    """What differs between seeds.

    stretch: (z, y, x) against the reference body. wave: mm, phase and mm per radian by which proportions differ.
    shift: (x, y) mm of the body on the table. gas: x, y, z and radii (x, y, z) of gas in the bowel, mm.
    """

    stretch: Triple
    wave: Triple
    shift: tuple[float, float]
    arms_down: bool
    table: bool
    fat_mm: float
    soft_hu: float
    lung_hu: float
    bone_hu: float
    blood_hu: float
    noise_hu: float
    gas: NDArray[np.float64]

    def reference(self, z_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Heights in the reference body; rises with `z_mm`."""
        mm, phase, length = self.wave
        return np.asarray(z_mm / self.stretch[0] + mm * np.sin(z_mm / length + phase))


def make_body_phantom(
    seed: int = 0, heights_mm: tuple[float, float] = WHOLE_MM, spacing_mm: Triple = (6.0, 4.0, 4.0)
) -> BodyPhantom:
    """Build a body phantom.

    Parameters
    ----------
    seed : int
        Of the person, of noise and texture. Another scan of the same seed shows the same person.
    heights_mm : tuple of float
        Lowest and highest slice, LPS z: 0 is the middle of the chest.
    spacing_mm : (z, y, x)
        The field of view is 448 mm wide.

    Returns
    -------
    BodyPhantom
    """
    rng = np.random.default_rng(seed)
    person = _draw(rng)
    low, high = heights_mm
    rows, columns = (round(_WIDTH_MM / mm) for mm in spacing_mm[1:])
    shape = (int((high - low) / spacing_mm[0]) + 1, rows, columns)
    placed = affine(shape, spacing_mm)
    placed[2, 3] = low
    z_mm = low + spacing_mm[0] * np.arange(shape[0])
    x = ((np.arange(columns) * spacing_mm[2] + placed[0, 3] - person.shift[0]) / person.stretch[2]).astype(np.float32)
    y = ((np.arange(rows) * spacing_mm[1] + placed[1, 3] - person.shift[1]) / person.stretch[1]).astype(np.float32)
    hu = np.stack([_slice(person, float(z), x[None, :], y[:, None]) for z in person.reference(z_mm)])
    body = hu > _TABLE
    voxels = textured(hu, hu == np.float32(person.lung_hu), hu >= _BONE * 0.8, spacing_mm, rng, person.noise_hu)
    kind = f"body {low:g} {high:g}"
    phantom = Phantom(Volume(voxels, spacing_mm, placed), body.astype(np.uint8), {}, seed, kind)
    return BodyPhantom(phantom, _levels(person))


def _levels(person: _Person) -> dict[str, float]:
    z_mm = np.arange(-800.0, 800.0)
    return {key: float(np.interp(mm, person.reference(z_mm), z_mm)) for key, mm in LEVELS_MM.items()}


def _draw(rng: np.random.Generator) -> _Person:
    z, y, x = (float(value) for value in rng.uniform((0.9, 0.88, 0.88), (1.1, 1.08, 1.08)))
    length = float(rng.uniform(80, 200))
    pockets = rng.integers(6, 16)
    low, high = (-90, -70, -430, 6, 6, 8), (90, 30, -190, 22, 18, 30)
    return _Person(
        stretch=(z, y, x),
        wave=(float(rng.uniform(0, 0.1)) * length, float(rng.uniform(0, 2 * np.pi)), length),
        shift=(float(rng.uniform(-18, 18)), float(rng.uniform(-18, 18))),
        arms_down=bool(rng.random() < 0.3),
        table=bool(rng.random() < 0.8),
        fat_mm=float(rng.uniform(6, 20)),
        soft_hu=float(rng.uniform(30, 60)),
        lung_hu=float(rng.uniform(-900, -780)),
        bone_hu=float(rng.uniform(400, 650)),
        blood_hu=float(rng.uniform(35, 220)),
        noise_hu=float(rng.uniform(8, 30)),
        gas=rng.uniform(low, high, (int(pockets), 6)),
    )


def _slice(person: _Person, z: float, x: Plane, y: Plane) -> Plane:
    """HU of one slice; what comes later wins."""
    hu = np.full(np.broadcast_shapes(x.shape, y.shape), _AIR, np.float32)
    if person.table:
        shell, hollow = anatomy.table(z)
        hu[inside(Section((shell,), (hollow,)), x, y)] = _TABLE
    for section, value in _painted(person, z):
        hu[inside(section, x, y)] = value
    return hu


def _painted(person: _Person, z: float) -> Iterator[Painted]:
    if z <= _OUTLINE[0][0]:
        yield from _thighs(person, z)
    elif z < _OUTLINE[-1][0]:
        yield from _trunk(person, z)
    if z > 160.0:
        yield from _neck(person, z)
    if z > 222.0:
        yield from _head(person, z)


def _pair(x: float, y: float, a: float, b: float, angle: float = 0.0) -> Section:
    """The same on both sides."""
    return Section((Ellipse(x, y, a, b, angle), Ellipse(-x, y, a, b, -angle)))


def _one(x: float, y: float, a: float, b: float) -> Section:
    return Section((Ellipse(x, y, a, b),))


def _bulge(z: float, low: float, high: float) -> float:
    """Of a rounded body from `low` to `high`: its section's part of the largest one, 0 outside."""
    height = (2 * z - low - high) / (high - low)
    return sqrt(1.0 - height * height) if -1.0 < height < 1.0 else 0.0


def _thighs(person: _Person, z: float) -> Iterator[Painted]:
    size = 82.0 + 0.1 * (z + 500.0)
    yield _pair(size + 2.0, 0.0, size, 1.15 * size), person.soft_hu
    yield _pair(size + 2.0, 0.0, size - 2.0, 1.15 * size - 2.0), _FAT
    yield _pair(size + 2.0, 0.0, size - person.fat_mm, 1.15 * size - person.fat_mm), person.soft_hu
    yield _pair(92.0, -8.0, 16.0, 16.0), 2 * person.bone_hu
    yield _pair(92.0, -8.0, 8.0, 8.0), _FAT


def _trunk(person: _Person, z: float) -> Iterator[Painted]:
    heights, *axes = zip(*_OUTLINE, strict=True)
    a, b = (float(np.interp(z, heights, axis)) for axis in axes)
    for inset, value in ((0.0, _SOFT), (2.0, _FAT), (person.fat_mm, person.soft_hu)):
        yield _one(0.0, 0.0, a - inset, b - inset), value
    if z > 165.0:
        return
    if z < 150.0:
        yield _one(0.0, 0.0, a - 34.0, b - 32.0), _FAT / 2
    if z < -108.0:
        yield from _belly(person, z)
    yield from _chest(person, z)
    if z < -250.0:
        yield from _pelvis(person, z)
    if person.arms_down and z > 20.0:
        yield from _shoulders(person, z)


def _chest(person: _Person, z: float) -> Iterator[Painted]:
    """As in `phantom`; the spine goes on below."""
    if z > -150.0:
        yield Section(anatomy.liver_and_spleen(z)), _ORGAN
        yield Section(anatomy.heart(z)), person.blood_hu
    if z > -300.0:
        yield Section(anatomy.vessels(z)), person.blood_hu
    for side in (1, -1):
        yield anatomy.lung(z, side), person.lung_hu
    yield anatomy.airway(z), _AIR
    if -330.0 < z < 156.0:
        yield anatomy.bone(z), person.bone_hu


def _shoulders(person: _Person, z: float) -> Iterator[Painted]:
    arm = 44.0 if z < 100.0 else 44.0 * _bulge(z, 45.0, 158.0) + 6.0
    yield _pair(176.0, 10.0, arm, arm), person.soft_hu
    if z < 152.0:
        yield _pair(170.0, 8.0, *(25.0, 25.0) if z > 105.0 else (12.0, 12.0)), person.bone_hu
    if 122.0 < z < 140.0:
        yield _pair(80.0, -70.0, 62.0, 7.0, 0.35), person.bone_hu


def _belly(person: _Person, z: float) -> Iterator[Painted]:
    """Liver, spleen, kidneys, stomach, muscles beside the spine, bowel with gas."""
    if z > -281.0:
        yield _pair(48.0, 70.0, 24.0, 24.0), person.soft_hu
    if liver := _bulge(z, -250.0, 30.0):
        yield _one(-62.0, -8.0, 62.0 * liver, 72.0 * liver), _ORGAN + 5.0
    if spleen := _bulge(z, -190.0, -20.0):
        yield _one(84.0, 28.0, 32.0 * spleen, 40.0 * spleen), _ORGAN
    if stomach := _bulge(z, -180.0, -60.0):
        yield _one(50.0, -34.0, 44.0 * stomach, 36.0 * stomach), _WATER
        yield _one(50.0, -52.0, 30.0 * stomach, 14.0 * stomach), _AIR
    if kidney := _bulge(z, -262.0, -148.0):
        yield _pair(62.0, 42.0, 28.0 * kidney, 23.0 * kidney), 0.5 * (person.blood_hu + _SOFT)
    for gx, gy, gz, a, b, c in person.gas:
        if pocket := _bulge(z, gz - c, gz + c):
            yield _one(gx, gy, (a + 5.0) * pocket, (b + 5.0) * pocket), _SOFT
            yield _one(gx, gy, a * pocket, b * pocket), _AIR + 100.0


def _pelvis(person: _Person, z: float) -> Iterator[Painted]:
    """Iliac wings and sacrum above, hip joints in the middle, ischium below; bladder and rectum."""
    yield _pair(70.0, 70.0, 62.0, 30.0), person.soft_hu
    if bladder := _bulge(z, -470.0, -385.0):
        yield _one(0.0, -30.0, 44.0 * bladder, 34.0 * bladder), _WATER
    if z < -340.0:
        yield _one(0.0, 45.0, 16.0, 14.0), _SOFT
    if sacrum := _bulge(z, -440.0, -315.0):
        yield _one(0.0, 66.0, 46.0 * sacrum, 20.0 * sacrum), 0.7 * person.bone_hu
    if -400.0 < z < -281.0:
        up = (z + 400.0) / 119.0
        yield _pair(78.0 + 34.0 * up, 28.0 - 20.0 * up, 52.0 - 14.0 * up, 7.0, -0.6 - 0.5 * up), person.bone_hu
    if z < -385.0 and (joint := _bulge(z, -455.0, -375.0)):
        yield _pair(86.0, 2.0, 38.0 * joint, 36.0 * joint), 0.8 * person.bone_hu
    if z < -400.0:
        yield _pair(102.0, 2.0, 25.0, 25.0), 1.2 * person.bone_hu
    if z < -440.0:
        yield _pair(48.0, 22.0, 16.0, 22.0), person.bone_hu
        yield _pair(24.0, -48.0, 22.0, 8.0, 0.3), person.bone_hu


def _neck(person: _Person, z: float) -> Iterator[Painted]:
    if z > 178.0 and z < 262.0:
        yield _one(0.0, 8.0, 58.0, 58.0), _SOFT
        yield _one(0.0, 8.0, 56.0, 56.0), _FAT
        yield _one(0.0, 8.0, 50.0, 50.0), person.soft_hu
    if z < 262.0:
        yield Section((Ellipse(0.0, 28.0, 14.0, 11.0), Ellipse(0.0, 45.0, 15.0, 10.0))), person.bone_hu
        yield _one(0.0, 45.0, 10.0, 7.0), _WATER
        yield _pair(34.0, 2.0, 6.0, 6.0), person.blood_hu
    if z < 200.0:
        yield _one(0.0, -22.0, 9.5, 10.0), _AIR
    elif z < 255.0:
        yield _one(0.0, -12.0, 17.0, 6.0), _AIR


def _head(person: _Person, z: float) -> Iterator[Painted]:
    """Jaw and teeth, nose with its sinuses, eyes, and the vault of the skull."""
    round_top = _bulge(z, 200.0, 400.0) if z > 300.0 else 1.0
    if not round_top:
        return
    a, b, middle = 76.0 * round_top, 96.0 * round_top, -8.0
    if z > 258.0:
        yield _one(0.0, middle, a, b), _SOFT
        yield _one(0.0, middle, a - 5.0, b - 5.0), _SKULL
        yield _one(0.0, middle, max(2.0, a - 12.0), max(2.0, b - 12.0)), _BRAIN if z > 290.0 else person.soft_hu
    else:
        yield _one(0.0, -26.0, 62.0, 74.0), person.soft_hu
        yield Section((Ellipse(0.0, -52.0, 48.0, 42.0),), (Ellipse(0.0, -44.0, 38.0, 38.0),)), _SKULL
    if 227.0 < z < 246.0:
        yield Section((Ellipse(0.0, -62.0, 33.0, 26.0),), (Ellipse(0.0, -56.0, 25.0, 22.0),)), _TEETH
    if nose := _bulge(z, 246.0, 304.0):
        yield _one(0.0, -70.0, 11.0 * nose, 30.0 * nose), _AIR
        yield _pair(32.0, -58.0, 15.0 * nose, 17.0 * nose), _AIR
    if 258.0 < z < 292.0:
        yield _pair(38.0, 14.0, 34.0, 13.0, 0.5), _SKULL
    if eye := _bulge(z, 288.0, 320.0):
        yield _pair(33.0, -74.0, 21.0, 26.0), _FAT
        yield _pair(33.0, -80.0, 13.0 * eye, 13.0 * eye), _WATER
    if ventricle := _bulge(z, 320.0, 375.0):
        yield _pair(11.0, -4.0, 7.0 * ventricle, 30.0 * ventricle), _WATER
