"""Where slices lie, and whether they form one regular orthogonal grid.

Small noise is averaged away; whatever is more is refused with a reason, because readers downstream either fail on it
with a misleading message or, worse, build a volume with a wrong spacing (docs/geometry.md has the table). Slices are
ordered by position only: instance numbers, slice locations and thicknesses are not trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from orthanc_plugin.domain.instances import few_enough
from orthanc_plugin.domain.volume import Affine
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.series.limits import check_plane

Vector = NDArray[np.float64]

POSITION_TOLERANCE_MM = 0.1
POSITION_TOLERANCE_OF_SPACING = 0.05
ORIENTATION_TOLERANCE = 1e-3
DRIFT_TOLERANCE_MM = 0.1
"""Proposed, not derived from measurements: accepted real series deviate by 0.001 mm at most, faults are millimetres."""

SAME_POSITION_MM = 0.01
PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""Over 512 pixels 0.05 mm: half of what a position may deviate."""

SAG_DEGREES = 0.15
LARGEST_SAG_MM = 1.0
"""A loaded table sags along the scan. Slices may drift by this angle, and lie this far from where they are placed."""

ROUNDED_TO_MM = 0.1
ROUNDING_TOLERANCE = 0.6
"""Positions that all are whole tenths of a millimetre were rounded: each may be off by half a step, and the fit a
little more."""

_SMALLEST_PIXEL_MM = 0.01
_FARTHEST_MM = 1e5
_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class SlicePlane:
    """Where one slice lies; millimetres, LPS.

    position: (3,) centre of the first pixel.
    row, column: (3,) unit vectors along which the column and the row index grow.
    pixel_spacing_mm: between rows, between columns.
    size: rows, columns.
    """

    position: Vector
    row: Vector
    column: Vector
    pixel_spacing_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def normal(self) -> Vector:
        """(3,) unit vector across the plane; its largest component is positive."""
        return _upward(np.cross(self.row, self.column))


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """What the planes of one series have in common.

    row, column: (3,) unit vectors, averaged.
    normal: (3,) unit vector across; its largest component is positive.
    pixel_spacing_mm: between rows, between columns.
    """

    row: Vector
    column: Vector
    normal: Vector
    pixel_spacing_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The regular grid of a series.

    order: indices of the given planes, rising along the normal.
    spacing_mm: (z, y, x).
    affine: 4x4, voxel index (x, y, z, 1) to LPS millimetres.
    drift_mm: how far the slices drift sideways from the first to the last; they are placed within half of it.
    """

    order: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    affine: Affine
    drift_mm: float = 0.0


def slice_plane(ds: Dataset) -> SlicePlane:
    """Read the plane of one single-frame instance.

    Raises
    ------
    InputError
        MISSING_GEOMETRY: a value is absent, not a number, zero, absurd, or the orientation is not orthogonal.
        TOO_LARGE: the slice is larger than any scan field.

    Source
    ------
    DICOM PS3.3 C.7.6.2.1.1.
    """
    position = _numbers(ds, "ImagePositionPatient", 3)
    orientation = _numbers(ds, "ImageOrientationPatient", 6)
    rows_mm, columns_mm = (float(value) for value in _numbers(ds, "PixelSpacing", 2))
    rows, columns = (int(_numbers(ds, keyword, 1)[0]) for keyword in ("Rows", "Columns"))
    row, column = _orthonormal(orientation[:3], orientation[3:])
    if min(rows_mm, columns_mm) < _SMALLEST_PIXEL_MM or min(rows, columns) < 1:
        message = f"PixelSpacing is below {_SMALLEST_PIXEL_MM} mm, or Rows or Columns is zero; reconstruct again"
        raise InputError(Refusal.MISSING_GEOMETRY, message)
    check_plane((rows, columns), (rows_mm, columns_mm))
    if np.abs(position).max() > _FARTHEST_MM:
        raise InputError(
            Refusal.MISSING_GEOMETRY, "ImagePositionPatient is absurd: over 100 m; export the series again"
        )
    return SlicePlane(position, row, column, (rows_mm, columns_mm), (rows, columns))


def odd_planes(planes: Sequence[SlicePlane]) -> frozenset[int]:
    """Find the few planes that stand across the others (localizers), by index; empty where they are not few."""
    normals = np.array([plane.normal for plane in planes])
    middle = np.median(normals, axis=0)
    odd = np.flatnonzero(np.abs(normals @ middle) < np.sqrt(0.5))
    return frozenset(int(i) for i in odd) if few_enough(len(odd), len(planes)) else frozenset()


def stack_of(planes: Sequence[SlicePlane]) -> Stack:
    """Tell what all planes share.

    Raises
    ------
    InputError
        MIXED_SIZE, MIXED_SPACING (in the plane), MIXED_ORIENTATION.
    """
    pixels = _common_pixels(planes)
    row, column = _common_orientation(planes)
    return Stack(row, column, _upward(np.cross(row, column)), pixels)


def same_heights(stack: Stack, planes: Sequence[SlicePlane]) -> list[list[int]]:
    """Group the indices of planes that lie at one height along the normal, each in rising order of index."""
    along = np.array([plane.position for plane in planes]) @ stack.normal
    groups: list[list[int]] = []
    for index in np.argsort(along, kind="stable"):
        if groups and along[index] - along[groups[-1][0]] <= SAME_POSITION_MM:
            groups[-1].append(int(index))
        else:
            groups.append([int(index)])
    return [sorted(group) for group in groups]


def fit_grid(stack: Stack, planes: Sequence[SlicePlane]) -> Grid:
    """Fit one regular orthogonal grid to the planes of a stack, no two at one height.

    Raises
    ------
    InputError
        GANTRY_TILT, MIXED_ORIENTATION (shifted sideways), MISSING_SLICE, MIXED_SPACING (between planes).
    """
    positions = np.array([plane.position for plane in planes])
    along = positions @ stack.normal
    order = np.argsort(along, kind="stable")
    origin, drift_mm = _common_origin(positions[order], along[order], stack.normal)
    first, step = _fit_steps(along[order])
    rows_mm, columns_mm = stack.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([stack.row * columns_mm, stack.column * rows_mm, stack.normal * step])
    affine[:3, 3] = origin + stack.normal * first
    return Grid(tuple(int(i) for i in order), (step, rows_mm, columns_mm), affine, drift_mm)


def is_upright(grid: Grid) -> bool:
    """Tell whether the planes stand along a patient axis, so that no gantry can have been tilted."""
    normal = grid.affine[:3, 2] / grid.spacing_mm[0]
    return float(np.abs(normal).max()) > 1 - 1e-6


def _numbers(ds: Dataset, keyword: str, count: int) -> Vector:
    try:
        values = np.asarray(ds.get(keyword), dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, BytesLengthException):
        values = np.array([])
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(Refusal.MISSING_GEOMETRY, f"{keyword} is missing or not a number; export the series again")
    return values


def _upward(normal: Vector) -> Vector:
    return np.asarray(normal * np.sign(normal[np.abs(normal).argmax()]))


def _orthonormal(row: Vector, column: Vector) -> tuple[Vector, Vector]:
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if np.abs(np.array(lengths) - 1).max() > 0.01 or abs(row @ column) > ORIENTATION_TOLERANCE:
        raise InputError(Refusal.MISSING_GEOMETRY, "ImageOrientationPatient is not orthogonal; export the series again")
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _common_pixels(planes: Sequence[SlicePlane]) -> tuple[float, float]:
    if len({plane.size for plane in planes}) > 1:
        raise InputError(Refusal.MIXED_SIZE, "slices differ in Rows or Columns; split the series")
    spacings = np.array([plane.pixel_spacing_mm for plane in planes])
    if np.ptp(spacings, axis=0).max() > PIXEL_SPACING_TOLERANCE_MM:
        raise InputError(Refusal.MIXED_SPACING, "slices differ in PixelSpacing; split the series by reconstruction")
    rows_mm, columns_mm = (float(value) for value in np.median(spacings, axis=0))
    return rows_mm, columns_mm


def _common_orientation(planes: Sequence[SlicePlane]) -> tuple[Vector, Vector]:
    axes = np.array([[plane.row, plane.column] for plane in planes])
    mean = axes.mean(axis=0)
    if np.abs(axes - mean).max() > ORIENTATION_TOLERANCE:
        raise InputError(Refusal.MIXED_ORIENTATION, "slices differ in orientation; split the series")
    return _orthonormal(mean[0] / np.linalg.norm(mean[0]), mean[1] / np.linalg.norm(mean[1]))


def _common_origin(positions: NDArray[np.float64], along: Vector, normal: Vector) -> tuple[Vector, float]:
    """Give the place where the normal through all first pixels passes, and a drift worth a note; refuse shear."""
    across = positions - np.outer(along, normal)
    origin = np.median(across, axis=0)
    if np.abs(across - origin).max() <= DRIFT_TOLERANCE_MM:
        return np.asarray(across.mean(axis=0)), 0.0
    ends = (across.max(axis=0) + across.min(axis=0)) / 2
    sag = min(LARGEST_SAG_MM, np.tan(np.radians(SAG_DEGREES)) * (along[-1] - along[0]) / 2)
    if (farthest := float(np.linalg.norm(across - ends, axis=1).max())) <= max(sag, DRIFT_TOLERANCE_MM):
        return np.asarray(ends), 2 * farthest
    line = np.column_stack([np.ones_like(along), along])
    straight = line @ np.linalg.lstsq(line, across, rcond=None)[0]
    if np.abs(across - straight).max() <= DRIFT_TOLERANCE_MM:
        degrees = np.degrees(np.arctan(np.linalg.norm(straight[-1] - straight[0]) / (along[-1] - along[0])))
        message = f"slices are sheared by {degrees:.1f} degrees (gantry tilt); reconstruct without tilt"
        raise InputError(Refusal.GANTRY_TILT, message)
    raise InputError(Refusal.MIXED_ORIENTATION, "slices are shifted sideways against each other; split the series")


def _fit_steps(along: Vector) -> tuple[float, float]:
    """First position and step of the regular positions nearest to these (rising); refuses irregular ones."""
    step = float(np.median(np.diff(along)))
    number = np.arange(len(along))
    slope, first = (round(float(value), _DIGITS) for value in np.polyfit(number, along, 1))
    tolerance = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_OF_SPACING * step)
    tolerance = max(tolerance, _rounding_mm(along, slope))
    if np.abs(along - (first + slope * number)).max() <= tolerance:
        return first, slope
    gaps = np.diff(along)
    steps = np.rint(gaps / step)
    few_wide = 0 < np.count_nonzero(steps > 1) <= len(gaps) / 3
    if few_wide and np.abs(gaps / step - steps).max() <= POSITION_TOLERANCE_OF_SPACING:
        message = f"{steps.sum() - len(gaps):.0f} slice(s) missing at a spacing of {step:.3f} mm; send them all again"
        raise InputError(Refusal.MISSING_SLICE, message)
    message = f"distance between slices varies from {gaps.min():.3f} to {gaps.max():.3f} mm; split or reconstruct"
    raise InputError(Refusal.MIXED_SPACING, message)


def _rounding_mm(along: Vector, step: float) -> float:
    """How far positions lie from a regular grid because the sender rounded them to tenths; 0 where it did not."""
    tenths = along / ROUNDED_TO_MM
    rounded = np.abs(tenths - np.rint(tenths)).max() < 1e-3
    return ROUNDING_TOLERANCE * ROUNDED_TO_MM if rounded and step > 2 * ROUNDED_TO_MM else 0.0
