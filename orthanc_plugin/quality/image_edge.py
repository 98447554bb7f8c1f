"""Find where the edge of the image plane, or of the circle that was reconstructed in it, meets an organ."""

from __future__ import annotations

import numpy as np

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.quality.profile import Box

_PADDING_HU = -1000.0


def edge_contact_mm2(volume: Volume, mask: Mask, box: Box, padding: Mask) -> float:
    """Measure the area over which a mask meets the edge of the image, or of the circle reconstructed in it.

    Parameters
    ----------
    volume : Volume
        The CT.
    mask : (z, y, x) bool
        The organ, inside `box`.
    box : tuple of slice
        Where the mask lies in the CT.
    padding : (y, x) bool
        Pixels of the CT that hold no image (see `padding`).
    """
    beyond = np.pad(padding, 1, constant_values=True)
    z_mm, y_mm, x_mm = volume.spacing_mm
    across = beyond[1:-1, :-2] | beyond[1:-1, 2:]
    along = beyond[:-2, 1:-1] | beyond[2:, 1:-1]
    voxels = mask.sum(axis=0) * ~padding[box[1:]]
    return float(((voxels * across[box[1:]]).sum() * y_mm + (voxels * along[box[1:]]).sum() * x_mm) * z_mm)


def padding(volume: Volume) -> Mask:
    """Find the pixels (y, x) that have one value, that of air or less, in all slices: nothing was reconstructed."""
    first = volume.voxels_hu[0]
    constant = np.asarray(first <= _PADDING_HU)
    for plane in volume.voxels_hu[1:]:
        if not constant.any():
            break
        constant &= plane == first
    return constant
