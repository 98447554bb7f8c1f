"""Make a procedural chest CT with known truth: voxels, label map, and volumes that come from formulas.

The chest (`anatomy`) is scaled to the field of view, sampled at voxel centres for the label map, painted in Hounsfield
units, blurred a little and made noisy. The same seed gives the same phantom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.phantoms import anatomy
from orthanc_plugin.phantoms.anatomy import Section
from orthanc_plugin.phantoms.sections import Mask, Plane

LABELS = {"body": 1, "lung_left": 2, "lung_right": 3, "airway": 4, "bone": 5}
"""Structure key to label value: the numbers of the built-in model."""

Triple = tuple[float, float, float]
Progress = Callable[[int, int], None]

_SECTIONS: dict[str, Callable[[float], Section]] = {
    "lung_left": partial(anatomy.lung, side=1),
    "lung_right": partial(anatomy.lung, side=-1),
    "airway": anatomy.airway,
    "bone": anatomy.bone,
}
AIR_HU, FAT_HU, TABLE_HU = -1000.0, -100.0, -250.0
_LUNG, _SOFT, _ORGAN, _BLOOD, _BONE = -860.0, 40.0, 55.0, 45.0, 500.0
_NOISE_HU, _LUNG_TEXTURE_HU, _BONE_TEXTURE_HU, _BLUR_VOXELS = 20.0, 30.0, 70.0, 0.5
_BRANCH_DISTANCE_MM, _BRANCH_WIDTH = 7.0, 0.2


@dataclass(frozen=True, slots=True)
class Phantom:
    """A chest whose truth is known.

    volume: HU as integers (they survive DICOM unchanged), z toward the head.
    labels: (z, y, x) uint8, values of `LABELS`, disjoint; body is the rest of the trunk.
    volumes_ml: exact volume of each structure; `body` is the whole trunk with all that it contains.
    kind: tells phantoms of different anatomy apart; part of the UIDs.
    """

    volume: Volume
    labels: Labels
    volumes_ml: dict[str, float]
    seed: int
    kind: str = ""


def make_phantom(
    shape: tuple[int, int, int] = (112, 192, 192),
    spacing_mm: Triple | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Phantom:
    """Build the phantom.

    Parameters
    ----------
    shape : (z, y, x)
        Voxels. (56, 64, 64) is about the coarsest shape that a rule with "at least 20 slices, at most 6 mm" accepts.
    spacing_mm : (z, y, x), optional
        By default an adult chest fills the field of view, whatever the shape. If given, the anatomy is stretched to
        `shape * spacing_mm`, so another field of view gives a smaller or larger patient.
    seed : int
        Of noise and texture.
    progress : callable, optional
        Called with (slices done, total slices).

    Returns
    -------
    Phantom
        The volumes of the label map are within 2 % of `volumes_ml` at the default shape.
    """
    spacing = spacing_mm or fitting_spacing(shape)
    scale = _scale(shape, spacing)
    zs, ys, xs = (centres(n, step / s) for n, step, s in zip(shape, spacing, scale, strict=True))
    x, y = xs[None, :].astype(np.float32), ys[:, None].astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    hu = np.empty(shape, np.float32)
    for index, z in enumerate(zs):
        labels[index] = _label_slice(float(z), x, y)
        hu[index] = _paint_slice(float(z), x, y, labels[index])
        if progress is not None:
            progress(index + 1, len(zs))
    lung = (labels == LABELS["lung_left"]) | (labels == LABELS["lung_right"])
    voxels = textured(hu, lung, labels == LABELS["bone"], spacing, np.random.default_rng(seed))
    volume = Volume(voxels, spacing, affine(shape, spacing))
    return Phantom(volume, labels, _exact_volumes_ml(scale), seed)


def fitting_spacing(shape: tuple[int, int, int]) -> Triple:
    """Compute the spacing with which the reference chest fills the field of view."""
    z, y, x = (round(extent / n, 4) for extent, n in zip(anatomy.FIELD_OF_VIEW_MM, shape, strict=True))
    return z, y, x


def _scale(shape: tuple[int, int, int], spacing: Triple) -> Triple:
    z, y, x = (n * s / e for n, s, e in zip(shape, spacing, anatomy.FIELD_OF_VIEW_MM, strict=True))
    return z, y, x


def centres(count: int, step: float) -> NDArray[np.float64]:
    """Compute voxel centres in mm from the middle."""
    return np.asarray((np.arange(count) - (count - 1) / 2) * step, np.float64)


def affine(shape: tuple[int, int, int], spacing: Triple) -> NDArray[np.float64]:
    """Make the 4x4 affine from voxel index (x, y, z, 1) to LPS millimetres, with the middle at the origin."""
    matrix = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    matrix[:3, 3] = [round(-(n - 1) / 2 * s, 4) for n, s in zip(shape[::-1], spacing[::-1], strict=True)]
    return matrix


def inside(section: Section, x: Plane, y: Plane) -> Mask:
    """Mark the points inside a section."""
    mask = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for part in section.parts:
        mask |= part.contains(x, y)
    for hole in section.without:
        mask &= ~hole.contains(x, y)
    return mask


def _label_slice(z: float, x: Plane, y: Plane) -> NDArray[np.uint8]:
    labels = anatomy.BODY.contains(x, y).astype(np.uint8)
    for key, section in _SECTIONS.items():
        labels[inside(section(z), x, y)] = LABELS[key]
    return labels


def _paint_slice(z: float, x: Plane, y: Plane, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    hu = trunk(z, x, y, _SOFT, FAT_HU / 2)
    for ellipses, value in (
        (anatomy.liver_and_spleen(z), _ORGAN),
        (anatomy.heart(z), _BLOOD),
        (anatomy.vessels(z), _BLOOD),
    ):
        for ellipse in ellipses:
            hu[ellipse.contains(x, y)] = value
    for key, value in (("lung_left", _LUNG), ("lung_right", _LUNG), ("airway", AIR_HU), ("bone", _BONE)):
        hu[labels == LABELS[key]] = value
    return hu


def trunk(z: float, x: Plane, y: Plane, muscle_hu: float, inside_hu: float) -> NDArray[np.float32]:
    """Paint the table and the trunk of one slice: skin, fat, muscle, and one value inside the chest wall."""
    hu = np.full(np.broadcast_shapes(x.shape, y.shape), AIR_HU, np.float32)
    shell, hollow = anatomy.table(z)
    hu[shell.contains(x, y) & ~hollow.contains(x, y)] = TABLE_HU
    for ellipse, value in (
        (anatomy.BODY, muscle_hu),
        (anatomy.SKIN, FAT_HU),
        (anatomy.MUSCLE, muscle_hu),
        (anatomy.CHEST, inside_hu),
    ):
        hu[ellipse.contains(x, y)] = value
    return hu


def textured(
    hu: Voxels, lung: Mask, bone: Mask, spacing: Triple, rng: np.random.Generator, noise_hu: float = _NOISE_HU
) -> Voxels:
    """Add vessels and texture in the lungs, texture in bone, a little blur and noise; whole HU from -1024."""
    texture = _smooth_noise(rng, hu.shape, (1.5, 1.5, 1.5))
    hu += np.where(lung, np.float32(_LUNG_TEXTURE_HU), np.float32(0)) * texture
    hu += np.where(bone, np.float32(_BONE_TEXTURE_HU), np.float32(0)) * texture
    hu[lung & _branches(rng, hu.shape, spacing)] = _BLOOD
    blurred = ndimage.gaussian_filter(hu, _BLUR_VOXELS)
    blurred += np.float32(noise_hu) * rng.standard_normal(hu.shape, np.float32)
    return np.asarray(np.clip(np.rint(blurred), -1024, 3071), np.float32)


def _branches(rng: np.random.Generator, shape: tuple[int, ...], spacing: Triple) -> Mask:
    """Make a net of thin tubes where two smooth random fields are both near zero."""
    sigma = tuple(_BRANCH_DISTANCE_MM / step for step in spacing)
    near = [np.abs(_smooth_noise(rng, shape, sigma)) < _BRANCH_WIDTH for _ in range(2)]
    return np.asarray(near[0] & near[1])


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, ...]) -> Voxels:
    """Make smooth noise of unit variance and zero mean."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma, truncate=3.0)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _exact_volumes_ml(scale: Triple) -> dict[str, float]:
    stretch = float(np.prod(scale))
    return {key: stretch * volume for key, volume in _reference_volumes_ml().items()}


@cache
def _reference_volumes_ml() -> dict[str, float]:
    """Integrate the exact section areas over height; structures end on the borders of the 0.1 mm steps."""
    extent = anatomy.FIELD_OF_VIEW_MM[0]
    steps = round(extent / 0.1)
    zs, step = centres(steps, extent / steps), extent / steps / 1000.0
    volumes = {key: step * sum(section(float(z)).area() for z in zs) for key, section in _SECTIONS.items()}
    return {"body": anatomy.BODY.area() * extent / 1000.0, **volumes}
