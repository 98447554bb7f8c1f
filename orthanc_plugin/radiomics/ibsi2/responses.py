"""Responses of the filters of IBSI 2 within the box of an organ, computed from what the box depends on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.image_filters import (
    Boundary,
    GaborFilter,
    ImageFilter,
    LawsFilter,
    LogFilter,
    MeanFilter,
    Reach,
    SimoncelliFilter,
)
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics.ibsi2.gabor import gabor_reach, gabor_response
from orthanc_plugin.radiomics.ibsi2.laplacian import laplacian_reach, laplacian_response
from orthanc_plugin.radiomics.ibsi2.separable import (
    laws_response,
    mean_response,
    separable_reach,
    wavelet_response,
)
from orthanc_plugin.radiomics.ibsi2.simoncelli import simoncelli_response
from orthanc_plugin.radiomics.resample import Box, Spacing

WHOLE_AXIS = 1_000_000
"""A reach beyond every image."""


def response(voxels: NDArray[np.floating], spacing_mm: Spacing, chosen: ImageFilter) -> NDArray[np.float64]:
    """Filter a whole image (z, y, x)."""
    z, y, x = (slice(0, size) for size in voxels.shape)
    return _response(voxels, spacing_mm, chosen, (z, y, x))


def _response(
    voxels: NDArray[np.floating], spacing_mm: Spacing, chosen: ImageFilter, within: Box
) -> NDArray[np.float64]:
    """Filter an image, and return a part of it. Steering is made for no more than the part."""
    given = np.asarray(voxels, np.float64)
    if isinstance(chosen, MeanFilter):
        return mean_response(given, chosen)[within]
    if isinstance(chosen, LogFilter):
        return laplacian_response(given, spacing_mm, chosen, within)
    if isinstance(chosen, LawsFilter):
        return laws_response(given, chosen)[within]
    if isinstance(chosen, GaborFilter):
        return gabor_response(given, spacing_mm, chosen)[within]
    if isinstance(chosen, SimoncelliFilter):
        return simoncelli_response(given, spacing_mm, chosen, within)
    return wavelet_response(given, chosen)[within]


def response_within(voxels: Voxels, spacing_mm: Spacing, box: Box, chosen: ImageFilter) -> Voxels:
    """Filter what a box depends on, and return the box.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x), float32
        The whole image.
    spacing_mm : (z, y, x)
    box : three slices
    chosen : ImageFilter

    Returns
    -------
    ndarray, float32
        Of the size of the box.
    """
    around: list[slice] = []
    inner: list[slice] = []
    for part, size, edge in zip(box, voxels.shape, reach(spacing_mm, chosen), strict=True):
        start, stop = part.start - edge, part.stop + edge
        if edge and is_periodic(chosen) and (start < 0 or stop > size):
            start, stop = 0, size
        around.append(slice(max(0, start), min(size, stop)))
        inner.append(slice(part.start - around[-1].start, part.stop - around[-1].start))
    z, y, x = inner
    return _response(voxels[tuple(around)], spacing_mm, chosen, (z, y, x)).astype(np.float32)


def reach(spacing_mm: Spacing, chosen: ImageFilter) -> tuple[int, int, int]:
    """Return how many voxels around a voxel its response depends on, (z, y, x)."""
    if isinstance(chosen, SimoncelliFilter) or (isinstance(chosen, LogFilter) and chosen.orders):
        return (0 if chosen.reach is Reach.SLICE else WHOLE_AXIS), WHOLE_AXIS, WHOLE_AXIS
    if isinstance(chosen, LogFilter):
        z, y, x = (laplacian_reach(chosen.sigma, mm) for mm in spacing_mm)
        return (0 if chosen.reach is Reach.SLICE else z), y, x
    if isinstance(chosen, GaborFilter):
        return gabor_reach(spacing_mm, chosen)
    edge = separable_reach(chosen)
    if isinstance(chosen, MeanFilter):
        return (0 if chosen.reach is Reach.SLICE else edge), edge, edge
    letters = len(chosen.kernels) // (2 if isinstance(chosen, LawsFilter) else 1)
    return (edge if letters == 3 else 0), edge, edge


def padding(spacing_mm: Spacing, chosen: ImageFilter) -> int:
    """Return how many voxels a filter that transforms the whole image adds at each of its ends."""
    if isinstance(chosen, LogFilter) and chosen.orders:
        return laplacian_reach(chosen.sigma, min(spacing_mm))
    return 0


def is_steered(chosen: ImageFilter) -> bool:
    """Say whether a filter follows the directions of the image."""
    return isinstance(chosen, LogFilter | SimoncelliFilter) and chosen.steer > 0


def is_periodic(chosen: ImageFilter) -> bool:
    """Say whether the image comes again beyond its end."""
    return isinstance(chosen, SimoncelliFilter) or chosen.boundary is Boundary.PERIODIC
