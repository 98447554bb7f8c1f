"""Cut planes of a volume and its labels as radiologists look at them.

Axial planes are seen from the feet, coronal ones from the front, sagittal ones from the left. The patient's left is on
the right of the picture. The top shows the front of the patient in axial planes and the head in the others, however the
patient lay in the scanner. Planes follow the stored grid; in an oblique series they are the nearest ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Labels, Segment, Segmentation
from orthanc_plugin.domain.volume import Affine, Volume, Voxels

AXES = ("axial", "coronal", "sagittal")
"""Planes, by the axis of an upright volume that they cut."""
EDGES = (("R", "L", "A", "P"), ("R", "L", "H", "F"), ("A", "P", "H", "F"))
"""Left, right, upper and lower edge of these planes in the patient."""
_AXIAL = 6
_SAMPLES = 128


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One plane of a volume.

    name: `axial`, `coronal` or `sagittal`. index, count: which of how many, from the feet, the front, the right.
    voxels_hu, labels: (rows, columns). spacing_mm: between rows, between columns.
    edges: where the left, right, upper and lower edge lie in the patient: R, L, A, P, H, F.
    axis, at: axis of the volume that the plane cuts (0 for a source slice), and its index along that axis.
    """

    name: str
    index: int
    count: int
    voxels_hu: Voxels
    labels: Labels
    spacing_mm: tuple[float, float]
    edges: tuple[str, str, str, str]
    axis: int
    at: int


def planes(volume: Volume, segmentation: Segmentation) -> Iterator[Plane]:
    """Choose at most six axial planes spread over the structures, and the coronal and sagittal plane that show most.

    Structures that cover others count only if there are no others; otherwise the body would spread the planes over air.
    """
    order, flips = upright(volume.affine)
    voxels, labels = (turned(array, order, flips) for array in (volume.voxels_hu, segmentation.labels))
    spacing = [volume.spacing_mm[axis] for axis in order]
    numbers = [s.number for s in segmentation.segments if not surrounds(s)]
    shares = [_shares(labels, axis, numbers or [s.number for s in segmentation.segments]) for axis in range(3)]
    for axis in range(3):
        for index in _spread(shares[axis]) if axis == 0 else [int(np.argmax(shares[axis]))]:
            at = labels.shape[axis] - 1 - index if flips[axis] else index
            yield _plane(voxels, labels, spacing, axis, index, (order[axis], at))


def surrounds(segment: Segment) -> bool:
    """Tell whether a structure, as found or as stored, has others inside it, as the body has."""
    return len(segment.covers) > 1 or segment.key.endswith("_remainder")


def _plane(
    voxels: Voxels, labels: Labels, spacing: list[float], axis: int, index: int, place: tuple[int, int]
) -> Plane:
    between_rows, between_columns = (mm for other, mm in enumerate(spacing) if other != axis)
    return Plane(
        AXES[axis],
        index,
        labels.shape[axis],
        cut(voxels, axis, index),
        cut(labels, axis, index),
        (between_rows, between_columns),
        EDGES[axis],
        *place,
    )


def cut(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Cut a plane out of an upright array, its first row at the top of the picture."""
    at = tuple(index if other == axis else slice(None) for other in range(3))
    top_first = slice(None, None, -1 if axis else 1)  # the first axis rises to the head, pictures begin at the top
    return array[at][top_first]


def upright(affine: Affine) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Find the array axes that run to the head, to the back and to the left, and which of them are reversed."""
    towards = affine[:3, 2::-1].T[:, ::-1]  # array axis (z, y, x) x patient axis (head, back, left)
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    order = max(permutations(range(3)), key=lambda axes: float(sum(abs(towards[a, p]) for p, a in enumerate(axes))))
    return order, tuple(bool(towards[axis, patient] < 0) for patient, axis in enumerate(order))


def turned(array: NDArray[Any], order: tuple[int, ...], flips: tuple[bool, ...]) -> NDArray[Any]:
    """Turn an array so that its axes run to the head, to the back and to the left (see `upright`)."""
    return array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _shares(labels: Labels, axis: int, numbers: list[int]) -> NDArray[np.float64]:
    """Sum for each plane across an axis the areas of all structures, each as a share of its largest area."""
    step = tuple(
        slice(None, None, 1 if other == axis else max(1, size // _SAMPLES)) for other, size in enumerate(labels.shape)
    )
    sampled = np.ascontiguousarray(np.moveaxis(labels[step], axis, 0))
    areas = np.array([np.bincount(plane.ravel(), minlength=256) for plane in sampled])[:, numbers]
    return np.asarray((areas / np.maximum(areas.max(axis=0), 1)).sum(axis=1))


def _spread(shares: NDArray[np.float64]) -> list[int]:
    found = np.flatnonzero(shares)
    first, last = (int(found[0]), int(found[-1])) if found.size else (0, len(shares) - 1)
    middles = (np.arange(_AXIAL) + 0.5) / _AXIAL * (last + 1 - first) + first
    return sorted({int(middle) for middle in middles}, reverse=True)
