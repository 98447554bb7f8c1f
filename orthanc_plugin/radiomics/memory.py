"""How much memory the radiomics of one organ may take, estimated before they start."""

from __future__ import annotations

import math

from orthanc_plugin.domain.image_filters import parse_filter
from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.radiomics.ibsi2.laplacian import LOG_CUTOFF_SIGMA
from orthanc_plugin.radiomics.ibsi2.responses import is_steered, padding, reach
from orthanc_plugin.radiomics.resample import Box
from orthanc_plugin.radiomics.spatial import spatial_bytes

MOST_LEVELS = 4096
"""Co-occurrences of this many grey levels take 1.7 GB. A metal voxel or narrow bins could use up all memory."""
_FIRST_ORDER_BYTES, _TEXTURE_BYTES, _WAVELET_BYTES = 16, 36, 66
"""Bytes per voxel of an organ's box, measured on an ellipsoid in a box of 2.2 million voxels."""
_LOG_BYTES, _PYRADIOMICS_GRID_BYTES = 6, 18
"""Bytes per voxel of the image, in addition to those of the box."""
_CT_RANGE_HU, _LEVELS_BYTES = 4096, 312
"""HU range of an organ's grey levels; bytes of three float64 arrays of level by level by 13 directions."""
_LOG_SLABS_BYTES = 96 * 2**20
_WAVELET_MARGIN, _NEAR_AN_END = 6, 16
"""Voxels around an organ that the wavelet reads; within the second distance of an end it reads the whole axis."""

_FILTER_BYTES = 64
"""Bytes per voxel of what a filter of IBSI 2 reads."""
_STEERED_BYTES, _STEERED_BOX_BYTES = 120, 160
"""The same for a steered Riesz transform, and in addition bytes per voxel of the box."""
_LOG_BOX_BYTES = 40
"""Bytes per voxel of the box and what the kernel reaches, for IBSI's Laplacian of Gaussian."""


def needed_mib(volume: Volume, box: Box, settings: RadiomicsSettings) -> float:
    """Bound the memory of an organ, without volume and label map, from peaks measured class by class."""
    if not all(axis.stop for axis in box):
        return 0.0
    around = math.prod(
        _wavelet_length(axis, size) if settings.wavelet else axis.stop - axis.start
        for axis, size in zip(box, volume.voxels_hu.shape, strict=True)
    )
    growth = math.prod(old / (new or old) for new, old in zip(settings.spacing_mm, volume.spacing_mm, strict=False))
    resampling = any(settings.spacing_mm)
    of_box = _WAVELET_BYTES if settings.wavelet else _TEXTURE_BYTES
    if set(settings.classes) <= {FeatureClass.FIRSTORDER} and not settings.wavelet:
        of_box = _FIRST_ORDER_BYTES
    pyradiomics_mode = settings.mode is RadiomicsMode.PYRADIOMICS
    used = around * of_box * (1 + growth if resampling else 1)
    if resampling and pyradiomics_mode:
        used += volume.voxels_hu.size * _PYRADIOMICS_GRID_BYTES
    if settings.log_sigma_mm and pyradiomics_mode:
        used += volume.voxels_hu.size * _LOG_BYTES + _LOG_SLABS_BYTES
    elif settings.log_sigma_mm:
        reach_mm = 2 * LOG_CUTOFF_SIGMA * max(settings.log_sigma_mm)
        reached = math.prod(
            min(size, axis.stop - axis.start + reach_mm / step_mm)
            for axis, size, step_mm in zip(box, volume.voxels_hu.shape, volume.spacing_mm, strict=True)
        )
        used += reached * (growth if resampling else 1) * _LOG_BOX_BYTES
    for text in settings.filters:
        chosen = parse_filter(text)
        edges, added = reach(volume.spacing_mm, chosen), padding(volume.spacing_mm, chosen)
        reached = math.prod(
            min(size, axis.stop - axis.start + 2 * edge) + 2 * added
            for axis, size, edge in zip(box, volume.voxels_hu.shape, edges, strict=True)
        )
        filtering = reached * _FILTER_BYTES
        if is_steered(chosen):
            filtering = reached * _STEERED_BYTES + _STEERED_BOX_BYTES * math.prod(one.stop - one.start for one in box)
        used = max(used, filtering * (growth if resampling else 1))
    if FeatureClass.SPATIAL in settings.classes:
        used += spatial_bytes(tuple(max(1, round((axis.stop - axis.start) * growth ** (1 / 3))) for axis in box))
    if settings.textures:
        used += min(MOST_LEVELS, settings.bin_count or _CT_RANGE_HU / settings.bin_width_hu) ** 2 * _LEVELS_BYTES
    return float(used / 2**20)


def _wavelet_length(axis: slice, size: int) -> int:
    if axis.start < _NEAR_AN_END or axis.stop > size - _NEAR_AN_END:
        return size + 1
    return int(axis.stop - axis.start + 2 * _WAVELET_MARGIN)
