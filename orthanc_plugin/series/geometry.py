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
from orthanc_plugin.domain.reading import MissingSlices
from orthanc_plugin.domain.volume import Affine, Placement
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.series.limits import check_plane
from orthanc_plugin.series.steps import fit_steps

Vector = NDArray[np.float64]

ORIENTATION_TOLERANCE = 1e-3
DRIFT_TOLERANCE_MM = 0.1
"""Proposed, not derived from measurements: accepted real series deviate by 0.001 mm at most, faults are millimetres."""

SAME_POSITION_MM = 0.01
PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""Over 512 pixels 0.05 mm: half of what a position may deviate."""

SAG_DEGREES = 0.5
LARGEST_SAG_MM = 1.0
"""A loaded table sags along the scan. Slices may drift by this angle, and lie this far from where they are placed."""

LARGEST_TILT_DEGREES = 35.0
ALONG_AXIS_DEGREES = 2.0
"""A gantry tilts by 30 degrees at most, and the table moves along an axis of the patient. Planes that are shifted
otherwise have a false position or orientation."""

_SMALLEST_PIXEL_MM = 0.01
_FARTHEST_MM = 1e5


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
    shape: (z, y, x).
    spacing_mm: (z, y, x).
    affine: 4x4, voxel index (x, y, z, 1) to LPS millimetres.
    drift_mm: how far the slices drift sideways from the first to the last; they are placed within half of it.
    placement: where the planes lie on the grid; None where they are its slices.
    marks: how the grid differs from the planes, for the results.
    filled: missing slices that lie between the planes.
    """

    order: tuple[int, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: Affine
    drift_mm: float = 0.0
    placement: Placement | None = None
    marks: tuple[str, ...] = ()
    filled: int = 0


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


def plane_place(ds: Dataset) -> tuple[Vector, Vector] | None:
    """Give position and normal of an image that is not a slice; None where it does not tell them."""
    try:
        position, orientation = _numbers(ds, "ImagePositionPatient", 3), _numbers(ds, "ImageOrientationPatient", 6)
        return position, np.cross(*_orthonormal(orientation[:3], orientation[3:]))
    except InputError:
        return None


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


def fit_grid(stack: Stack, planes: Sequence[SlicePlane], missing: MissingSlices = MissingSlices.REFUSE) -> Grid:
    """Fit one regular orthogonal grid to the planes of a stack, no two at one height.

    Planes of a tilted gantry are set upright on it by whole pixels; planes of several spacings, or with gaps that the
    rule allows, are placed between the slices of a regular one.

    Raises
    ------
    InputError
        GANTRY_TILT, MIXED_ORIENTATION (shifted sideways), MISSING_SLICE, MIXED_SPACING (between planes).
    """
    positions = np.array([plane.position for plane in planes])
    along = positions @ stack.normal
    order = np.argsort(along, kind="stable")
    shifts = _shifts(positions[order], along[order], stack)
    steps = fit_steps(along[order], missing)
    rows_mm, columns_mm = stack.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([stack.row * columns_mm, stack.column * rows_mm, stack.normal * steps.step])
    affine[:3, 3] = shifts.origin + stack.normal * steps.first
    size = planes[0].size
    rows, columns = (int(count + shift) for count, shift in zip(size, shifts.pixels.max(axis=0), strict=True))
    placement = None
    if steps.z is not None or shifts.pixels.any():
        z = np.arange(steps.count, dtype=np.float64) if steps.z is None else steps.z
        placement = Placement(z, shifts.pixels, size)
    return Grid(
        order=tuple(int(i) for i in order),
        shape=(steps.count, rows, columns),
        spacing_mm=(steps.step, rows_mm, columns_mm),
        affine=affine,
        drift_mm=shifts.drift_mm,
        placement=placement,
        marks=tuple(mark for mark in (shifts.mark, steps.mark) if mark),
        filled=steps.filled,
    )


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


@dataclass(frozen=True, slots=True, eq=False)
class _Shifts:
    """How the planes lie sideways.

    origin: (3,) mm, where the normal through the first pixel of the grid passes.
    pixels: (n, 2) rows and columns by which each plane is moved on the grid.
    """

    origin: Vector
    pixels: NDArray[np.intp]
    drift_mm: float = 0.0
    mark: str = ""


def _shifts(positions: NDArray[np.float64], along: Vector, stack: Stack) -> _Shifts:
    """Find the place of the planes across the normal: one for all, or sheared by a tilted gantry."""
    across = positions - np.outer(along, stack.normal)
    none = np.zeros((len(along), 2), np.intp)
    origin = np.median(across, axis=0)
    if np.abs(across - origin).max() <= DRIFT_TOLERANCE_MM:
        return _Shifts(np.asarray(across.mean(axis=0)), none)
    ends = (across.max(axis=0) + across.min(axis=0)) / 2
    sag = min(LARGEST_SAG_MM, np.tan(np.radians(SAG_DEGREES)) * (along[-1] - along[0]) / 2)
    if (farthest := float(np.linalg.norm(across - ends, axis=1).max())) <= max(sag, DRIFT_TOLERANCE_MM):
        return _Shifts(np.asarray(ends), none, 2 * farthest)
    line = np.column_stack([np.ones_like(along), along])
    straight = line @ np.linalg.lstsq(line, across, rcond=None)[0]
    if np.abs(across - straight).max() > DRIFT_TOLERANCE_MM:
        raise InputError(Refusal.MIXED_ORIENTATION, "slices are shifted sideways against each other; split the series")
    return _sheared(positions, across, straight, along, stack)


def _sheared(
    positions: NDArray[np.float64],
    across: NDArray[np.float64],
    straight: NDArray[np.float64],
    along: Vector,
    stack: Stack,
) -> _Shifts:
    """Set planes of a tilted gantry upright, each moved in its plane by whole pixels."""
    degrees = float(np.degrees(np.arctan(np.linalg.norm(straight[-1] - straight[0]) / (along[-1] - along[0]))))
    way = positions[-1] - positions[0]
    off = float(np.degrees(np.arccos(min(1.0, np.abs(way).max() / np.linalg.norm(way)))))
    is_sag = degrees <= SAG_DEGREES  # of a scan so long that its ends lie too far from a common place
    if degrees > LARGEST_TILT_DEGREES or (off > min(ALONG_AXIS_DEGREES, degrees / 2) and not is_sag):
        message = f"slices are sheared by {degrees:.1f} degrees, not as by a tilted gantry; reconstruct without tilt"
        raise InputError(Refusal.GANTRY_TILT, message)
    rows_mm, columns_mm = stack.pixel_spacing_mm
    down, right = across @ stack.column / rows_mm, across @ stack.row / columns_mm
    origin = stack.column * (down.min() * rows_mm) + stack.row * (right.min() * columns_mm)
    pixels = np.rint(np.column_stack([down - down.min(), right - right.min()])).astype(np.intp)
    mark = (
        f"{'table sag' if is_sag else 'gantry tilt'} of {degrees:.1f} degrees: slices are moved by whole pixels onto an"
        " orthogonal grid, on which organs are found and measured; masks are stored on the source slices"
    )
    return _Shifts(np.asarray(origin), pixels, mark=mark)
