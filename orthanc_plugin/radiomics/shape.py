"""Shape of a mask: pyradiomics' features at a cost that grows with the surface, not with its square.

pyradiomics compares every pair of mesh vertices for its diameters, which takes minutes for a lung. Here each feature
comes from a small exact sum. Area and volume of the mesh are sums over cubes and depend only on the eight corners of
each cube. So cubes are counted by state, and pyradiomics' own C code measures each of the 256 states once. The largest
distance in a set of vertices lies between ends of rows, and in space between vertices of their convex hull. The
covariance of the voxel centres needs only the three projections of the mask. Diameters equal pyradiomics' to the bit,
the rest within 1e-9 (tests/parity/test_shape.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.radiomics.reference import pyradiomics
from orthanc_plugin.radiomics.resample import Spacing

Floats = NDArray[np.float64]
Points = NDArray[np.int64]

_DIRECTIONS = 16
"""Directions in which a plane's width is taken."""
_ROUNDING = 1e-9
_FEW = 2000
"""Points of which all distances take less time than their convex hull."""


def shape_features(
    mask: Mask, spacing_mm: Spacing, *, sample: bool = False, deprecated: bool = False
) -> dict[str, float]:
    """Measure the features of pyradiomics' class `shape`, by its names.

    Parameters
    ----------
    mask : ndarray, shape (z, y, x), bool
        The structure, cropped to its bounding box; more than one voxel.
    spacing_mm : (z, y, x)
    sample : bool
        Whether to divide the covariance of the voxel centres by n - 1, as IBSI's published axis lengths do, instead of
        by n.
    deprecated : bool
        Whether to add Compactness1, Compactness2 and SphericalDisproportion, which repeat Sphericity.

    Returns
    -------
    dict
        Feature name to value; mm, mm2, mm3, 1/mm or ratio (see `feature_codes`).

    Source
    ------
    pyradiomics 3.0.1, `shape.py` and `cshape.c`; IBSI reference manual, morphological features.
    """
    padded = np.pad(mask, 1)
    area, volume = mesh(padded, spacing_mm)
    least, minor, major = map(float, axis_lengths(mask, spacing_mm, sample=sample))
    features = {
        "MeshVolume": volume,
        "VoxelVolume": voxel_volume(mask, spacing_mm),
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "Sphericity": float((36 * np.pi * volume**2) ** (1 / 3) / area),
        **_diameters(padded, spacing_mm),
        "MajorAxisLength": major,
        "MinorAxisLength": minor,
        "LeastAxisLength": least,
        "Elongation": minor / major,
        "Flatness": least / major,
    }
    return features | _repeating_sphericity(area, volume) if deprecated else features


def _repeating_sphericity(area: float, volume: float) -> dict[str, float]:
    return {
        "Compactness1": float(volume / (area**1.5 * np.sqrt(np.pi))),
        "Compactness2": float(36 * np.pi * volume**2 / area**3),
        "SphericalDisproportion": float(area / (36 * np.pi * volume**2) ** (1 / 3)),
    }


def voxel_volume(mask: Mask, spacing_mm: Spacing) -> float:
    """Multiply the number of voxels by the volume of one, in mm3."""
    return float(np.count_nonzero(mask) * np.prod(spacing_mm))


@dataclass(frozen=True, slots=True)
class _CubeTable:
    """Contribution of a marching cube to the mesh, by state (bit 4z + 2y + x is set if that corner is inside).

    area_mm2, volume_mm3: (256,), for a cube at the origin. step_mm3: (256, 3), the gain in volume for each step of the
    cube along an axis: the signed volume of an open surface is linear in its position.
    """

    area_mm2: Floats
    volume_mm3: Floats
    step_mm3: Floats


@lru_cache(maxsize=8)
def _cube_table(spacing_mm: Spacing) -> _CubeTable:
    cubes = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.uint8).reshape(256, 2, 2, 2)
    area, volume = _c_mesh(cubes, spacing_mm)
    steps = []
    for axis in (1, 2, 3):
        empty, first = np.zeros_like(cubes).take([0], axis), cubes.take([0], axis)
        _, before = _c_mesh(np.concatenate([empty, first], axis), spacing_mm)
        _, moved = _c_mesh(np.concatenate([empty, cubes], axis), spacing_mm)
        steps.append(moved - before - volume)
    return _CubeTable(area, volume, np.stack(steps, axis=1))


def _c_mesh(blocks: NDArray[np.uint8], spacing_mm: Spacing) -> tuple[Floats, Floats]:
    """Measure area and volume of small masks (n, z, y, x) with pyradiomics' C code."""
    measure = pyradiomics().cShape.calculate_coefficients
    values = np.array([measure(np.ascontiguousarray(block), np.array(spacing_mm))[:2] for block in blocks])
    return values[:, 0], values[:, 1]


def mesh(padded: Mask, spacing_mm: Spacing) -> tuple[float, float]:
    """Measure area (mm2) and enclosed volume (mm3) of the marching cubes mesh."""
    table = _cube_table(spacing_mm)
    depth, height, width = padded.shape
    state = np.zeros((depth - 1, height - 1, width - 1), np.uint8)
    for bit, (z, y, x) in enumerate(product((0, 1), repeat=3)):
        corner = padded[z : z + depth - 1, y : y + height - 1, x : x + width - 1]
        state |= corner.view(np.uint8) << np.uint8(bit)
    position = np.nonzero((state != 0) & (state != 255))
    state_there = state[position]
    counts = np.bincount(state_there, minlength=256)
    volume = counts @ table.volume_mm3
    for axis in range(3):
        volume += np.bincount(state_there, position[axis], 256) @ table.step_mm3[:, axis]
    return float(counts @ table.area_mm2), float(volume)


def _diameters(padded: Mask, spacing_mm: Spacing) -> dict[str, float]:
    """Measure the largest distances between mesh vertices: in space and within the planes of the grid."""
    z_mm, y_mm, x_mm = spacing_mm
    zyx = mesh_vertices(padded, spacing_mm)
    outer = _far_out(zyx)
    zxy = _row_ends(np.ascontiguousarray(padded.swapaxes(1, 2))) * (np.array([z_mm, x_mm, y_mm]) / 2)
    return {
        "Maximum3DDiameter": _widest(outer if len(outer) <= _FEW else zyx[ConvexHull(zyx).vertices]),
        "Maximum2DDiameterSlice": _widest_in_plane(zyx, axis=0),
        "Maximum2DDiameterColumn": _widest_in_plane(zyx, axis=1),
        "Maximum2DDiameterRow": _widest_in_plane(zxy, axis=1),
    }


def mesh_vertices(padded: Mask, spacing_mm: Spacing) -> Floats:
    """Return the vertices that can be ends of the largest distance or corners of the convex hull, (n, 3) in mm."""
    return np.asarray(_row_ends(padded) * (np.array(spacing_mm) / 2))


def _row_ends(padded: Mask) -> Points:
    """Return the first and last mesh vertex of each row along the last axis, (n, 3) in half voxels.

    A vertex lies halfway between two neighbours of which one is inside. A point between two others of its row is never
    an end of the largest distance.
    """
    ends = []
    for axis in range(3):
        crossing = np.diff(padded, axis=axis)  # of booleans: true where they differ
        rows = np.argwhere(crossing.any(axis=2))
        row = crossing[rows[:, 0], rows[:, 1]]
        last = row.shape[1] - 1 - row[:, ::-1].argmax(axis=1)
        for x in (row.argmax(axis=1), last):
            points = 2 * np.column_stack([rows, x])
            points[:, axis] += 1
            ends.append(points)
    return np.concatenate(ends)


def _widest(points: Floats) -> float:
    """Return the largest distance between two of the points (n, d)."""
    return max(float(cdist(points[start : start + 512], points).max()) for start in range(0, len(points), 512))


def _far_out(points: Floats) -> Floats:
    """Leave out the points (n, 3) that are too near to the middle to be an end of the largest distance.

    The largest distance is at least an edge of the bounding box. A distance is at most the sum of its ends' distances
    from the middle.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    radius = np.linalg.norm(points - (low + high) / 2, axis=1)
    return np.asarray(points[radius + radius.max() >= (high - low).max() * (1 - _ROUNDING)])


def _widest_in_plane(points: Floats, axis: int) -> float:
    """Return the largest distance between two points that share their coordinate along `axis`.

    The width of a plane in a direction is never more than its largest distance, and in the best of many directions not
    much less. So planes are tried from the widest down, until no other plane can be better.
    """
    points = points[points[:, axis].argsort(kind="stable")]
    starts = np.flatnonzero(np.diff(points[:, axis], prepend=-np.inf))
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    first, second = np.delete(points, axis, axis=1).T[..., None]
    along = first * np.cos(angles) + second * np.sin(angles)  # a matrix product would start threads
    widths = (np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)).max(axis=1)
    bounds = widths / np.cos(np.pi / 2 / _DIRECTIONS) * (1 + _ROUNDING)
    planes = np.split(points, starts[1:])
    best = 0.0
    for plane in bounds.argsort(kind="stable")[::-1]:
        if bounds[plane] <= best:
            break
        best = max(best, _widest(planes[plane]))
    return best


def axis_lengths(mask: Mask, spacing_mm: Spacing, *, sample: bool = False) -> Floats:
    """Measure least, minor and major axis (mm): four standard deviations along the principal axes of voxel centres."""
    count = np.count_nonzero(mask) - sample
    if not count:  # one voxel has no variance of a sample
        return np.full(3, np.nan)
    covariance = np.empty((3, 3))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        projection = np.count_nonzero(mask, axis=3 - first - second)
        a = _centred(projection.sum(axis=1), spacing_mm[first])
        b = _centred(projection.sum(axis=0), spacing_mm[second])
        covariance[first, second] = covariance[second, first] = a @ projection @ b / count
        covariance[first, first] = a**2 @ projection.sum(axis=1) / count
        covariance[second, second] = b**2 @ projection.sum(axis=0) / count
    eigenvalues = np.linalg.eigvalsh(covariance)
    return np.asarray(4 * np.sqrt(eigenvalues.clip(min=0)))


def _centred(counts: NDArray[np.int64], spacing_mm: float) -> Floats:
    """Return positions (mm) along an axis relative to the mean of the counted voxels."""
    position = np.arange(len(counts)) * spacing_mm
    return np.asarray(position - counts @ position / counts.sum())
