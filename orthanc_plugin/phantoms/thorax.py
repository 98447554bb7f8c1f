"""Make a thorax phantom with organs, different for every seed; the trained stand-in learns from it.

It is the chest of `anatomy` with a heart of its own, the aorta with its arch over the left main bronchus, the trachea,
and the esophagus behind it. Each seed is another patient: size, sway of the body's axis, heart, vessel calibre,
contrast medium and noise differ. The truth is the label map. Where organs meet, one wins, so volumes are counted and
not computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.phantoms import anatomy
from orthanc_plugin.phantoms.phantom import (
    AIR_HU,
    FAT_HU,
    Phantom,
    Progress,
    Triple,
    affine,
    centres,
    fitting_spacing,
    inside,
    textured,
    trunk,
)
from orthanc_plugin.phantoms.sections import Ellipse, Mask, Plane

ORGANS = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4, "lung_left": 5, "lung_right": 6}
"""Organ to label value: the four of SegTHOR in their order, then the lungs."""

_MUSCLE, _LIVER, _WALL, _BONE = 45.0, 60.0, 35.0, 500.0
_TRACHEA_BELOW_CARINA_MM = 20.0
_LUMEN_MM, _BUBBLE_MM = 3.0, 28.0

Waypoint = tuple[float, float, float, float]
"""x, y, z (LPS mm of the reference chest) and radius in mm."""

_AORTA: tuple[Waypoint, ...] = (
    (4, -20, -4, 14),
    (0, -26, 35, 14),
    (12, -20, 62, 13),
    (23, -6, 70, 12.5),
    (27, 8, 70, 12),
    (26, 24, 62, 12),
    (23, 36, 45, 11.5),
    (20, 38, -20, 11.5),
    (13, 38, -90, 10.5),
    (4, 36, -190, 9),
)
_ESOPHAGUS: tuple[Waypoint, ...] = (
    (3, 7, 190, 7.5),
    (2, 16, 85, 7.5),
    (2, 21, 43, 7),
    (3, 22, 0, 7.5),
    (8, 21, -50, 7.5),
    (13, 19, -90, 7.5),
    (22, 12, -114, 8),
)


@dataclass(frozen=True, slots=True)
class _Patient:
    """What differs between seeds.

    stretch: (z, y, x), against the reference chest.
    waves: (2, n, 5): for x and for y amplitude (mm), phase and wave vector (1/mm; x, y, z) of the sway.
    heart: x, y, z (mm) and size against the reference heart.
    calibre: of the aorta, against the reference.
    """

    stretch: Triple
    waves: NDArray[np.float64]
    heart: Waypoint
    calibre: float
    lung_hu: float
    blood_hu: float
    muscle_hu: float
    bubbles_at: float
    noise_hu: float


def make_thorax_phantom(
    shape: tuple[int, int, int] = (112, 192, 192),
    spacing_mm: Triple | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Phantom:
    """Build the thorax phantom.

    Parameters
    ----------
    shape : (z, y, x)
        Voxels.
    spacing_mm : (z, y, x), optional
        By default an adult chest fills the field of view. Another spacing shows more or less of the same patient.
    seed : int
        Of the patient, noise and texture.
    progress : callable, optional
        Called with (slices done, total slices).

    Returns
    -------
    Phantom
        `labels` has the values of `ORGANS`, 0 elsewhere; `volumes_ml` are counted from it.
    """
    spacing = spacing_mm or fitting_spacing(shape)
    rng = np.random.default_rng(seed)
    patient = _draw(rng)
    zs, ys, xs = (centres(n, step / s) for n, step, s in zip(shape, spacing, patient.stretch, strict=True))
    x, y = (np.asarray(plane, np.float32) for plane in np.meshgrid(xs, ys))
    labels, bone, hu = np.zeros(shape, np.uint8), np.zeros(shape, bool), np.empty(shape, np.float32)
    for index, z in enumerate(zs):
        at = (float(z), *_swayed(patient, float(z), x, y))
        labels[index], bone[index], hu[index] = _slice(patient, *at)
        if progress is not None:
            progress(index + 1, len(zs))
    lung = (labels == ORGANS["lung_left"]) | (labels == ORGANS["lung_right"])
    voxels = textured(hu, lung, bone, spacing, rng, patient.noise_hu)
    volume = Volume(voxels, spacing, affine(shape, spacing))
    volumes = {organ: float(np.count_nonzero(labels == number) * volume.voxel_ml) for organ, number in ORGANS.items()}
    return Phantom(volume, labels, volumes, seed, "thorax")


def _draw(rng: np.random.Generator) -> _Patient:
    z, y, x = (float(value) for value in rng.uniform(0.88, 1.06, 3))
    waves = np.empty((2, 4, 5))
    waves[..., 0] = rng.uniform(0.0, 3.0, (2, 4))
    waves[..., 1] = rng.uniform(0.0, 2 * np.pi, (2, 4))
    waves[..., 2:] = rng.uniform(-0.03, 0.03, (2, 4, 3))
    dx, dy, dz = (float(value) for value in rng.uniform(-6, 6, 3))
    contrast = rng.random() < 0.5
    return _Patient(
        stretch=(z, y, x),
        waves=waves,
        heart=(dx, dy, dz, float(rng.uniform(0.85, 1.1))),
        calibre=float(rng.uniform(0.88, 1.2)),
        lung_hu=float(rng.uniform(-900, -780)),
        blood_hu=float(rng.uniform(120, 300) if contrast else rng.uniform(35, 55)),
        muscle_hu=float(rng.uniform(40, 60) + (40 if contrast else 0)),
        bubbles_at=float(rng.uniform(0, _BUBBLE_MM)),
        noise_hu=float(rng.uniform(8, 30)),
    )


def _swayed(patient: _Patient, z: float, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Map the points of a slice to the reference chest."""
    moved = []
    for plane, waves in zip((x, y), patient.waves, strict=True):
        sway = sum(mm * np.sin(phase + kx * x + ky * y + kz * z) for mm, phase, kx, ky, kz in waves)
        moved.append(np.asarray(plane + sway, np.float32))
    return moved[0], moved[1]


def _slice(patient: _Patient, z: float, x: Plane, y: Plane) -> tuple[NDArray[np.uint8], Mask, Plane]:
    """Make labels, bone and HU of one slice; what is painted later wins."""
    organs = _organs(patient, z, x, y)
    bone = inside(anatomy.bone(z), x, y)
    airway = inside(anatomy.airway(z), x, y)
    hu = _surroundings(patient, z, x, y)
    hu[bone] = _BONE
    labels = np.zeros(x.shape, np.uint8)
    for organ, mask in organs.items():
        labels[mask] = ORGANS[organ]
    paint = {"lung_left": patient.lung_hu, "lung_right": patient.lung_hu, "heart": patient.muscle_hu}
    paint |= {"aorta": patient.blood_hu, "esophagus": _WALL}
    for organ, value in paint.items():
        hu[organs[organ]] = value
    hu[_heart(patient, z, x, y, 0.8) & (labels == ORGANS["heart"])] = patient.blood_hu
    lumen = (_tube(_ESOPHAGUS, z, x, y, radius=_LUMEN_MM)) & ((z + patient.bubbles_at) % _BUBBLE_MM < _BUBBLE_MM / 2)
    hu[lumen | airway] = AIR_HU
    labels[airway] = ORGANS["trachea"] if z > anatomy.CARINA_MM - _TRACHEA_BELOW_CARINA_MM else 0
    return labels, bone & (labels == 0), hu


def _organs(patient: _Patient, z: float, x: Plane, y: Plane) -> dict[str, Mask]:
    return {
        "lung_left": inside(anatomy.lung(z, 1), x, y),
        "lung_right": inside(anatomy.lung(z, -1), x, y),
        "heart": _heart(patient, z, x, y),
        "aorta": _tube(_AORTA, z, x, y, scale=patient.calibre),
        "esophagus": _tube(_ESOPHAGUS, z, x, y),
    }


def _heart(patient: _Patient, z: float, x: Plane, y: Plane, share: float = 1.0) -> Mask:
    dx, dy, dz, size = patient.heart
    mask = np.zeros(x.shape, bool)
    for ellipse in anatomy.heart((z - dz + 48.0) / (size * share) - 48.0):
        moved = Ellipse(
            ellipse.x + dx, ellipse.y + dy, ellipse.a * size * share, ellipse.b * size * share, ellipse.angle
        )
        mask |= moved.contains(x, y)
    return mask


def _surroundings(patient: _Patient, z: float, x: Plane, y: Plane) -> Plane:
    """Paint table, trunk, liver and spleen, and the superior vena cava."""
    hu = trunk(z, x, y, _MUSCLE, FAT_HU / 2 if z > anatomy.LUNG_BASE_MM else _LIVER)
    if 0.0 < z < 75.0:
        hu[Ellipse(-22.0, -14.0, 8.0, 9.0).contains(x, y)] = patient.blood_hu
    return hu


def _tube(
    path: tuple[Waypoint, ...], z: float, x: Plane, y: Plane, *, scale: float = 1.0, radius: float | None = None
) -> Mask:
    """Cut the tube along a path; its radius changes evenly between waypoints."""
    mask = np.zeros(x.shape, bool)
    for start, end in pairwise(path):
        reach = scale * max(start[3], end[3])
        if not min(start[2], end[2]) - reach < z < max(start[2], end[2]) + reach:
            continue
        dx, dy, dz = (b - a for a, b in zip(start[:3], end[:3], strict=True))
        px, py, pz = x - start[0], y - start[1], z - start[2]
        along = np.clip((px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz), 0.0, 1.0)
        distance2 = (px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2
        mask |= distance2 < (radius or scale * (start[3] + along * (end[3] - start[3]))) ** 2
    return mask
