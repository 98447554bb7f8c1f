"""Resample by splines between grids of the same extent, with the results of the original frameworks and less work.

Both nnU-Nets call scikit-image's `resize` (edge values continued, no anti-aliasing, clipped to the range of the input),
which is scipy's `zoom` on half-pixel centres. `zoom` is linear and separable. So zooming unit vectors gives the weights
of an axis. The weights fade within a few voxels, which leaves small dense matrices along the diagonal; BLAS applies
them slab by slab. Sums are float64. This module also has TotalSegmentator's own resampling, which keeps corner centres.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.correlation import CarryingPool
from orthanc_plugin.inference.grid import Field

Labels = NDArray[np.integer[Any]]
Shape = tuple[int, int, int]

ANISOTROPY = 3.0
"""Largest over smallest spacing above which the coarse axis is resampled on its own. Source: `ANISO_THRESHOLD`."""

_NEGLIGIBLE = 1e-13
_STEP = 16
_THREADS = min(4, len(os.sched_getaffinity(0)))
# Products of matrix sizes up to this run on the calling thread. Source: OpenBLAS, interface/gemm.c.
_ONE_THREAD = 4 * 65536


@dataclass(frozen=True, slots=True, eq=False)
class _Band:
    """Some rows of an axis' weights: output `rows` are `weights` @ input `columns`."""

    rows: slice
    columns: slice
    weights: NDArray[np.float64]


def resampled_shape(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float]) -> Shape:
    """Compute the shape of an array at another spacing, rounded with halves to even; all in the same axes."""
    z, y, x = (round(old / new * n) for old, new, n in zip(spacing_mm, target_mm, shape, strict=True))
    return z, y, x


def separate_axis(source_mm: Sequence[float], target_mm: Sequence[float], force: bool | None = None) -> int | None:
    """Choose the axis that is resampled on its own, or None.

    Parameters
    ----------
    source_mm, target_mm : sequence of float
        Spacing before and after, same axes.
    force : bool, optional
        True for the coarsest axis of the source, False for none. None for the coarsest axis of the source if its
        spacing is more than three times the finest, else that of the target by the same rule. If two axes are
        coarsest, none is chosen.
    """
    if force is False:
        return None
    wanted = [source_mm] if force else [mm for mm in (source_mm, target_mm) if max(mm) / min(mm) > ANISOTROPY]
    if not wanted:
        return None
    coarsest = [axis for axis, mm in enumerate(wanted[0]) if max(wanted[0]) / mm == 1]
    return coarsest[0] if len(coarsest) == 1 else None


def resample_image(
    image: NDArray[Any], shape: Sequence[int], *, order: int, order_z: int = 0, separate: int | None = None
) -> Field:
    """Resample an image to another grid of the same extent.

    Parameters
    ----------
    image : ndarray, shape (z, y, x)
        Any real type; views are fine.
    shape : sequence of int
        (z, y, x) of the result; the image's own shape leaves the image unchanged.
    order : int
        Spline order, 0 to 3; with `separate`, the order within its planes.
    order_z : int
        Spline order along `separate`.
    separate : int, optional
        Axis resampled on its own, after its planes (see `separate_axis`).

    Returns
    -------
    ndarray, shape `shape`, float32
        Clipped to the range of the image (with `separate`: each plane to its own range, before the last axis).

    Source
    ------
    nnU-Net v1 `resample_data_or_seg` and v2 `resample_data_or_seg_to_shape`; they differ only in rounding to float32.
    """
    if image.shape == tuple(shape):
        return np.asarray(image, np.float32)
    if separate is None:
        return _resize(image, shape, order)
    planes, out = np.moveaxis(image, separate, 0), np.empty(shape, np.float32)
    turned = np.moveaxis(out, separate, 0)
    with _pool() as pool:
        if order_z == 0:
            for source, targets in _nearest_planes(len(planes), len(turned)):
                turned[targets] = _clipped_planes(planes[source][None], turned.shape[1:], order, pool)
        else:
            stack = _clipped_planes(planes, turned.shape[1:], order, pool)
            for band in _bands_across(len(planes), len(turned), order_z):
                turned[band.rows] = np.tensordot(band.weights, stack[band.columns], axes=1)
    return out


def resample_labels(labels: Labels, shape: Sequence[int], *, order: int, separate: int | None = None) -> Labels:
    """Resample labels to another grid: each label's mask is resampled, and the highest wins.

    Parameters
    ----------
    labels : ndarray, shape (z, y, x), integer
        The labels.
    shape : sequence of int
        (z, y, x) of the result; the labels' own shape leaves them unchanged.
    order : int
        Spline order; 0 takes the nearest voxel.
    separate : int, optional
        Axis along which the nearest plane is taken, after its planes are resampled.

    Source
    ------
    batchgenerators 0.25.5 `resize_segmentation`: between equal labels the nearest voxel's wins, or the lowest if that
    is not among them.
    """
    if labels.shape == tuple(shape):
        return labels
    if separate is None:
        return _vote(labels, shape, order)
    planes, out = np.moveaxis(labels, separate, 0), np.empty(shape, labels.dtype)
    turned = np.moveaxis(out, separate, 0)
    for source, targets in _nearest_planes(len(planes), len(turned)):
        turned[targets] = _vote(planes[source][None], (1, *turned.shape[1:]), order)[0]
    return out


def resample_to_frame(image: NDArray[Any], spacing_mm: Sequence[float], frame_mm: float, order: int) -> Field:
    """Resample an image like TotalSegmentator: to `frame_mm` in all axes, cut (not rounded) to whole HU.

    Unlike nnU-Net's grids, these share the centres of their corner voxels. An image that has the spacing is unchanged.

    Parameters
    ----------
    image : ndarray, shape (z, y, x)
        The CT in HU.
    spacing_mm : sequence of float
        (z, y, x).
    frame_mm : float
        The isotropic spacing.
    order : int
        Spline order.

    Returns
    -------
    ndarray, float32
        Its spacing counts as `frame_mm`, although rounding the shape changes it.

    Source
    ------
    TotalSegmentator `change_spacing` with int32. Its arrays are (x, y, z). Cutting to whole numbers shows the last
    bit of a sum, so this function multiplies and adds in the same order.
    """
    # NIfTI headers store spacing as float32, and the shape follows from it.
    nifti_mm = np.asarray(spacing_mm, np.float32).astype(np.float64)
    if np.array_equal(nifti_mm, np.full(3, frame_mm)):
        return np.asarray(image, np.float32)
    factors = nifti_mm / frame_mm
    if order != 1:
        zoomed = ndimage.zoom(image.T.astype(np.float64), factors[::-1], order=order, mode="nearest")
        return np.ascontiguousarray(zoomed.astype(np.int32).T, np.float32)
    z, y, x = (_taps(n, factor) for n, factor in zip(image.shape, factors, strict=True))
    out = np.empty([len(axis.weights[0]) for axis in (z, y, x)], np.float32)

    def resample(index: int) -> None:
        planes = np.stack([image[source].astype(np.float64) for source in z.sources[:, index]])
        total = np.zeros(out.shape[1:])
        for columns, weight_x in zip(x.sources, x.weights, strict=True):
            weighted = planes.take(columns, axis=2) * weight_x
            for rows, weight_y in zip(y.sources, y.weights, strict=True):
                for plane, weight_z in zip(weighted, z.weights[:, index], strict=True):
                    total += plane[rows] * weight_y[:, None] * weight_z
        out[index] = total.astype(np.int32)

    with _pool() as pool:
        deque(pool.map(resample, range(len(out))), maxlen=0)
    return out


def labels_from_frame(labels: Labels, shape: Sequence[int]) -> Labels:
    """Bring labels of TotalSegmentator's frame back to the image's own grid (z, y, x), by the nearest voxel."""
    if labels.shape == tuple(shape):
        return labels
    for axis in (2, 1, 0):
        line = np.arange(labels.shape[axis], dtype=np.float64)
        labels = labels.take(_zoomed(line, shape[axis], 0, grid_mode=False).astype(np.intp), axis)
    return labels


@dataclass(frozen=True, slots=True, eq=False)
class _Taps:
    """Linear interpolation along an axis: two `sources` (2, n) for each output voxel, and their `weights`."""

    sources: NDArray[np.intp]
    weights: NDArray[np.float64]


def _taps(size: int, factor: float) -> _Taps:
    """Find the taps of `zoom` without grid mode, exact to the last bit."""
    weights = np.stack([ndimage.zoom(unit, factor, order=1, mode="nearest") for unit in np.eye(size)], axis=1)
    low, high = (weights != 0).argmax(axis=1), size - 1 - (weights[:, ::-1] != 0).argmax(axis=1)
    rows = np.arange(len(weights))
    return _Taps(np.stack([low, high]), np.stack([weights[rows, low], np.where(high > low, weights[rows, high], 0.0)]))


def _zoomed(line: NDArray[np.float64], size: int, order: int, *, grid_mode: bool = True) -> NDArray[np.float64]:
    zoomed = ndimage.zoom(line, size / len(line), order=order, mode="nearest", grid_mode=grid_mode)
    return np.asarray(zoomed, np.float64)


@lru_cache(maxsize=64)
def _bands(size_in: int, size_out: int, order: int) -> tuple[_Band, ...]:
    """Find the weights of `zoom` along one axis, including its prefilter."""
    return _split(axis_weights(size_in, size_out, order), _STEP)


def axis_weights(size_in: int, size_out: int, order: int) -> NDArray[np.float64]:
    """Compute the weights (size_out, size_in) of `zoom` along one axis, its prefilter included."""
    return np.stack([_zoomed(unit, size_out, order) for unit in np.eye(size_in)], axis=1)


@lru_cache(maxsize=8)
def _bands_across(size_in: int, size_out: int, order: int) -> tuple[_Band, ...]:
    """Find the weights of `map_coordinates` along the separate axis."""
    return _split(across_weights(size_in, size_out, order), _STEP)


def across_weights(size_in: int, size_out: int, order: int) -> NDArray[np.float64]:
    """Compute the weights (size_out, size_in) along an axis that is resampled on its own."""
    centres = size_in / size_out * (np.arange(size_out) + 0.5) - 0.5
    columns = [ndimage.map_coordinates(unit, centres[None], order=order, mode="nearest") for unit in np.eye(size_in)]
    return np.stack(columns, axis=1)


def _split(weights: NDArray[np.float64], step: int) -> tuple[_Band, ...]:
    bands = []
    for start in range(0, len(weights), step):
        rows = weights[start : start + step]
        used = np.flatnonzero((np.abs(rows) > _NEGLIGIBLE).any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        bands.append(_Band(slice(start, start + len(rows)), columns, np.ascontiguousarray(rows[:, columns])))
    return tuple(bands)


def _resize(image: NDArray[Any], shape: Sequence[int], order: int) -> Field:
    """Resample by splines and clip; hold only the planes that a slab of the output needs."""
    low, high = float(image.min()), float(image.max())
    out = np.empty(shape, np.float32)
    window, first = np.empty((0, *shape[1:])), 0
    with _pool() as pool:
        for band in _bands(len(image), shape[0], order):
            known = max(first + len(window), band.columns.start)
            fresh = _in_planes(image[known : band.columns.stop], shape[1:], order, pool)
            window = np.concatenate((window[band.columns.start - first :], fresh))
            first = band.columns.start
            slab = np.empty((len(band.weights), *shape[1:]))
            _multiply(band.weights, window.reshape(len(window), -1), slab.reshape(len(slab), -1), pool)
            np.clip(slab, low, high, out=out[band.rows], casting="same_kind")
    return out


def _in_planes(planes: NDArray[Any], shape: Sequence[int], order: int, pool: Executor) -> NDArray[np.float64]:
    """Resample within planes (n, y, x), without clipping."""
    down, across = _bands(planes.shape[1], shape[0], order), _bands(planes.shape[2], shape[1], order)
    out = np.empty((len(planes), *shape))

    def resample(index: int) -> None:
        plane = planes[index].astype(np.float64)
        rows = np.empty((shape[0], plane.shape[1]))
        for band in down:
            _multiply(band.weights, plane[band.columns], rows[band.rows])
        for band in across:
            _multiply(band.weights, rows[:, band.columns].T, out[index][:, band.rows].T)

    list(pool.map(resample, range(len(planes))))
    return out


def _clipped_planes(planes: NDArray[Any], shape: Sequence[int], order: int, pool: Executor) -> NDArray[np.float64]:
    """Resample within planes and clip each to its own range."""
    out = _in_planes(planes, shape, order, pool)
    low, high = (extreme(axis=(1, 2), keepdims=True) for extreme in (planes.min, planes.max))
    return np.clip(out, low, high, out=out)


def _multiply(
    weights: NDArray[np.float64], block: NDArray[np.float64], out: NDArray[np.float64], pool: Executor | None = None
) -> None:
    """Multiply `weights` @ `block` into `out`, in pieces so small that BLAS starts no threads."""
    width = max(1, _ONE_THREAD // weights.size)

    def piece(start: int) -> None:
        np.matmul(weights, block[:, start : start + width], out=out[:, start : start + width])

    deque((pool.map if pool else map)(piece, range(0, block.shape[1], width)), maxlen=0)


def _pool() -> CarryingPool:
    return CarryingPool(_THREADS, thread_name_prefix="resample")


def _nearest_planes(size_in: int, size_out: int) -> list[tuple[int, NDArray[np.intp]]]:
    """List each plane that is used, with the output planes that it goes to."""
    centres = size_in / size_out * (np.arange(size_out) + 0.5) - 0.5
    index = ndimage.map_coordinates(np.arange(size_in, dtype=np.float64), centres[None], order=0, mode="nearest")
    sources = index.astype(int)
    return [(int(source), np.flatnonzero(sources == source)) for source in np.unique(sources)]


def _vote(labels: Labels, shape: Sequence[int], order: int) -> Labels:
    """Choose the label whose resampled mask is highest."""
    nearest = labels[np.ix_(*(_nearest(n, size) for n, size in zip(labels.shape, shape, strict=True)))]
    if order == 0:
        return nearest
    winner = np.full(shape, labels.min(), labels.dtype)
    best, best_of_nearest = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for label in np.unique(labels):
        score = _resize(labels == label, shape, order)
        np.copyto(best_of_nearest, score, where=nearest == label)
        np.copyto(winner, label, where=score > best)
        np.maximum(best, score, out=best)
    return np.where(best_of_nearest == best, nearest, winner)


def _nearest(size_in: int, size_out: int) -> NDArray[np.intp]:
    return _zoomed(np.arange(size_in, dtype=np.float64), size_out, 0).astype(np.intp)
