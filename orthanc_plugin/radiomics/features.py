"""Radiomics of the segments of one model: shape and first order where the caller asks for shape, else volume and first
order. Works on the mask it is given (as stored), without resampling, normalisation or a range of HU."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from orthanc_plugin.ct import Volume
from orthanc_plugin.masks import Mask, Segment, Segmentation
from orthanc_plugin.measures import FeatureValue, SegmentFeatures
from orthanc_plugin.radiomics.feature_codes import FEATURES
from orthanc_plugin.radiomics.firstorder import BIN_WIDTH_HU, first_order_features
from orthanc_plugin.radiomics.reference import VERSION
from orthanc_plugin.radiomics.shape import shape_features, voxel_volume

SETTINGS = (
    f"pyradiomics {VERSION}; 3D; resampling none; normalization none; resegmentation none; "
    f"binWidth {BIN_WIDTH_HU}; voxelArrayShift 0; kurtosis excess"
)
"""Every parameter that changes a value; enters the UID of the report and is written in it."""

Box = tuple[slice, slice, slice]

_TOO_SMALL = "no radiomics: the segment has fewer than two voxels"


def measure_segments(
    volume: Volume, segmentation: Segmentation, shape_keys: Collection[str]
) -> tuple[SegmentFeatures, ...]:
    """Features of every segment, in the order of the segmentation.

    Parameters
    ----------
    volume : Volume
    segmentation : Segmentation
        On the grid of the volume.
    shape_keys : collection of str
        Keys of the segments that also get shape features; all get VoxelVolume and first order.

    Returns
    -------
    tuple of SegmentFeatures
        A segment of fewer than two voxels has no features and a note; a feature without a finite value is left out
        and noted.

    Raises
    ------
    ConfigError
        If pyradiomics is not installed.
    """
    # In one pass: a mask of the whole volume for each of 117 structures takes minutes.
    boxes = ndimage.find_objects(segmentation.labels)
    return tuple(
        _measure(volume, segmentation, segment, _box_around(segment, boxes), segment.key in shape_keys)
        for segment in segmentation.segments
    )


def _measure(
    volume: Volume, segmentation: Segmentation, segment: Segment, box: Box, with_shape: bool
) -> SegmentFeatures:
    mask = replace(segmentation, labels=segmentation.labels[box]).mask(segment)
    if np.count_nonzero(mask) < 2:
        return SegmentFeatures(segment.number, (), (_TOO_SMALL,))
    values = _values(mask, volume.voxels_hu[box], volume.spacing_mm, with_shape)
    undefined = [name for name, value in values.items() if not math.isfinite(value)]
    return SegmentFeatures(
        segment.number,
        tuple(
            FeatureValue(coded.name, coded.concept, coded.unit, values[coded.name])
            for coded in FEATURES
            if coded.name in values and coded.name not in undefined
        ),
        (f"undefined in this segment: {', '.join(undefined)}",) if undefined else (),
    )


def _values(
    mask: Mask, voxels_hu: np.ndarray, spacing_mm: tuple[float, float, float], with_shape: bool
) -> dict[str, float]:
    """Feature values by full name; kurtosis made excess (0 where all values are equal, as IBSI defines it)."""
    shape = shape_features(mask, spacing_mm) if with_shape else {"VoxelVolume": voxel_volume(mask, spacing_mm)}
    first_order = first_order_features(voxels_hu[mask], float(np.prod(spacing_mm)))
    if first_order["Variance"] > 0:
        first_order["Kurtosis"] -= 3
    return {f"shape_{name}": value for name, value in shape.items()} | {
        f"firstorder_{name}": value for name, value in first_order.items()
    }


def _box_around(segment: Segment, boxes: Sequence[Box | None]) -> Box:
    """Smallest box that holds a structure and what it covers; an empty one where nothing of them is there."""
    there = [box for number, box in enumerate(boxes, start=1) if number in segment.covers and box is not None]
    z, y, x = (
        slice(min((box[axis].start for box in there), default=0), max((box[axis].stop for box in there), default=0))
        for axis in range(3)
    )
    return z, y, x
