"""Intensity peaks: the mean of a sphere of 1 cm3 around a voxel of the structure, whatever lies around it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics.resample import Box, Spacing

RADIUS_MM = 10 * (3 / (4 * math.pi)) ** (1 / 3)
"""Radius of a sphere of 1 cm3."""


def reach(spacing_mm: Spacing) -> tuple[int, int, int]:
    """Return how many voxels around the structure the spheres read, (z, y, x)."""
    z, y, x = (math.floor(RADIUS_MM / mm) for mm in spacing_mm)
    return z, y, x


def local_intensity_features(voxels: Voxels, box: Box, mask: Mask, spacing_mm: Spacing) -> dict[str, float]:
    """Measure the class `localintensity`.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x), float32
        The structure and its surroundings. Beyond the image a sphere has no voxels.
    box : three slices
        Place of the structure in `voxels`.
    mask : ndarray, bool
        The voxels whose intensities count, of the size of the box; not empty.
    spacing_mm : (z, y, x)

    Returns
    -------
    dict
        LocalPeak, around the voxel of the highest intensity (the best of equals), and GlobalPeak, around any voxel.

    Source
    ------
    IBSI reference manual, local intensity features.
    """
    from scipy.signal import oaconvolve  # importing it takes longer than most organs

    margins = reach(spacing_mm)
    outer = tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, margin, size in zip(box, margins, voxels.shape, strict=True)
    )
    inner = tuple(
        slice(part.start - around.start, part.stop - around.start) for part, around in zip(box, outer, strict=True)
    )
    around = voxels[outer].astype(np.float64)
    origin = around.mean()  # a sum of small numbers keeps more digits
    sphere = _sphere(margins, spacing_mm)
    sums, counts = (oaconvolve(one, sphere, mode="same")[inner] for one in (around - origin, np.ones_like(around)))
    peaks = (sums / np.rint(counts))[mask] + origin
    inside = voxels[box][mask]
    return {"LocalPeak": float(peaks[inside == inside.max()].max()), "GlobalPeak": float(peaks.max())}


def _sphere(margins: tuple[int, int, int], spacing_mm: Spacing) -> NDArray[np.float64]:
    z, y, x = (np.arange(-margin, margin + 1) * mm for margin, mm in zip(margins, spacing_mm, strict=True))
    squared = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    return np.asarray(squared <= RADIUS_MM**2, np.float64)
