"""The picture of a middle slice in the soft tissue window, with the outline of the body that the checks see."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.quality.outline import body_mask

WINDOW_HU = (-160.0, 240.0)
OUTLINE_RGB = (255, 64, 64)


def middle_slice_png(volume: Volume) -> bytes:
    """Give the middle slice as stored, without any text, as PNG with square pixels."""
    plane = volume.voxels_hu[len(volume.voxels_hu) // 2]
    low, high = WINDOW_HU
    grey = np.clip((plane - low) / (high - low) * 255.0, 0, 255).astype(np.uint8)
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    body = body_mask(plane, volume.spacing_mm[1:])
    picture[body & ~ndimage.binary_erosion(body)] = OUTLINE_RGB
    rows, columns = plane.shape
    stretched = round(rows * volume.spacing_mm[1] / volume.spacing_mm[2])
    image = Image.fromarray(picture)
    if stretched != rows:
        image = image.resize((columns, max(1, stretched)))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
