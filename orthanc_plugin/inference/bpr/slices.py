"""Prepare axial slices as in training: blur, shrink to 3.5 mm, and pad with air or crop to a square.

Blur and shrinking are linear and separable. So one sparse matrix for each axis does both and cuts to size, and a slice
takes two products. Slices are made in batches: memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.domain.volume import Voxels

Batch = NDArray[np.float32]

_SIGMA, _AT_FACTOR, _TRUNCATE = 0.8, 0.25, 3.0


def slice_batches(
    voxels_hu: Voxels, pixel_mm: tuple[float, float], indices: Sequence[int], model: BprModel, batch: int
) -> Iterator[Batch]:
    """Prepare slices for the network.

    Parameters
    ----------
    voxels_hu : (z, y, x) float32
        Hounsfield units, in any memory order.
    pixel_mm : tuple of float
        (y, x).
    indices : sequence of int
        The slices to prepare.
    model : BprModel
        Pixel size, side of the square and HU window.
    batch : int
        Slices in a batch.

    Yields
    ------
    (N, 1, size, size) float32
        In [-1, 1], axes (x, y): the transpose of a picture's rows and columns.

    Source
    ------
    bpreg 1.1.0, bpreg/preprocessing/nifti2npy.py: blur of 0.8 pixels at a factor of 1/4, then bilinear.
    """
    rows = _shrinking(voxels_hu.shape[1], pixel_mm[0], model)
    columns = _shrinking(voxels_hu.shape[2], pixel_mm[1], model)
    above_air = np.empty(
        voxels_hu.shape[1:], np.float32
    )  # relative to air, so that empty rows of the matrices pad with air
    for start in range(0, len(indices), batch):
        chosen = indices[start : start + batch]
        pictures = np.empty((len(chosen), 1, model.size, model.size), np.float32)
        for picture, index in zip(pictures, chosen, strict=True):
            np.clip(voxels_hu[index], model.low_hu, model.high_hu, out=above_air)
            above_air -= np.float32(model.low_hu)
            picture[0] = columns @ (rows @ above_air).T
        pictures *= 2.0 / (model.high_hu - model.low_hu)
        pictures -= 1.0
        yield pictures


def _shrinking(size: int, pixel_mm: float, model: BprModel) -> Any:
    """Make a sparse (model.size, size) matrix: blur, bilinear resize, centred pad or crop of one axis."""
    resized = max(1, int(size * pixel_mm / model.pixel_mm + 0.5))
    blur = ndimage.gaussian_filter1d(
        np.eye(size), _SIGMA * _AT_FACTOR * size / resized, axis=0, mode="reflect", truncate=_TRUNCATE
    )
    both = _bilinear(size, resized) @ blur
    before = max(0, (model.size - resized) // 2)
    skipped = max(0, (resized - model.size) // 2)
    matrix = np.zeros((model.size, size), np.float32)
    kept = both[skipped : skipped + model.size]
    matrix[before : before + len(kept)] = kept
    return sparse.csr_matrix(matrix)


def _bilinear(size: int, resized: int) -> NDArray[np.float64]:
    """Make a (resized, size) matrix that interpolates at half-pixel centres and repeats the edges."""
    centres = np.clip((np.arange(resized) + 0.5) * size / resized - 0.5, 0, size - 1)
    return np.clip(1.0 - np.abs(centres[:, None] - np.arange(size)), 0.0, None)
