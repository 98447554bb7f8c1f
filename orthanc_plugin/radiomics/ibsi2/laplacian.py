"""The Laplacian of Gaussian of IBSI 2, and its Riesz transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from orthanc_plugin.domain.image_filters import LogFilter, Reach
from orthanc_plugin.radiomics.ibsi2.boundaries import PADDING, SCIPY_MODES
from orthanc_plugin.radiomics.ibsi2.riesz import riesz_transform
from orthanc_plugin.radiomics.ibsi2.steering import steered_transform
from orthanc_plugin.radiomics.resample import Box, Spacing

LOG_CUTOFF_SIGMA = 4.0
"""Where IBSI's kernel of the Laplacian of Gaussian ends."""


def laplacian_response(
    voxels: NDArray[np.float64], spacing_mm: Spacing, chosen: LogFilter, within: Box
) -> NDArray[np.float64]:
    """Filter an image, or transform the response of its surroundings, which is then periodic.

    Source
    ------
    IBSI 2 reference manual, Laplacian-of-Gaussian filter and Riesz transform.
    """
    axes = (1, 2) if chosen.reach is Reach.SLICE else (0, 1, 2)
    if not chosen.orders:
        mode = SCIPY_MODES[chosen.boundary]
        return laplacian_of_gaussian(voxels, spacing_mm, chosen.sigma, axes=axes, boundary=mode)[within]
    edges = [laplacian_reach(chosen.sigma, mm) if axis in axes else 0 for axis, mm in enumerate(spacing_mm)]
    around = np.pad(voxels, [(edge, edge) for edge in edges], mode=PADDING[chosen.boundary])  # type: ignore[call-overload]
    filtered = laplacian_of_gaussian(around, spacing_mm, chosen.sigma, axes=axes, boundary="wrap")
    z, y, x = (slice(part.start + edge, part.stop + edge) for part, edge in zip(within, edges, strict=True))
    orders = chosen.orders[::-1]
    if chosen.steer:
        sigmas = [chosen.steer / spacing_mm[axis] for axis in axes]
        return steered_transform(fft.fftn(filtered, axes=axes), axes, orders, sigmas, (z, y, x))
    return riesz_transform(filtered, axes, orders)[z, y, x]


def laplacian_reach(sigma_mm: float, step_mm: float) -> int:
    """Return how many voxels the kernel reaches along an axis."""
    return int(LOG_CUTOFF_SIGMA * sigma_mm / step_mm + 0.5)


def laplacian_of_gaussian(
    voxels: NDArray[np.floating],
    spacing_mm: Spacing,
    sigma_mm: float,
    *,
    axes: Sequence[int] = (0, 1, 2),
    boundary: str = "reflect",
) -> NDArray[np.float64]:
    """Filter a whole image by IBSI's Laplacian of Gaussian.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x)
    spacing_mm : (z, y, x)
    sigma_mm : float
        Standard deviation of the Gaussian.
    axes : sequence of int
        Axes along which to filter: all, or those within slices.
    boundary : str
        Mode of `scipy.ndimage`: "reflect" (IBSI's mirror), "constant" (zero), "nearest", "wrap" (periodic).

    Returns
    -------
    ndarray, shape (z, y, x), float64
        Second derivatives are taken per voxel, as IBSI's kernel is sampled at voxels and not scaled by sigma. IBSI
        defines it for equal steps only; steps that differ are weighed so that the filter stays the same in all
        directions of the patient, per square of their geometric mean.

    Source
    ------
    IBSI 2 reference manual, Laplacian-of-Gaussian filter; kernel cut off at four standard deviations.
    """
    steps_mm = {axis: spacing_mm[axis] for axis in axes}
    mean_mm2 = math.prod(steps_mm.values()) ** (2 / len(steps_mm))
    smooth, total = np.asarray(voxels, np.float64), np.zeros(())

    def along(image: NDArray[np.float64], axis: int, order: int) -> NDArray[np.float64]:
        sigma = sigma_mm / steps_mm[axis]
        return np.asarray(
            ndimage.gaussian_filter1d(image, sigma, axis, order, mode=boundary, truncate=LOG_CUTOFF_SIGMA)
        )

    for axis, step_mm in steps_mm.items():
        derived = along(smooth, axis, 2) * (mean_mm2 / step_mm**2)
        total = derived + along(total, axis, 0) if total.ndim else derived
        smooth = along(smooth, axis, 0)
    return total
