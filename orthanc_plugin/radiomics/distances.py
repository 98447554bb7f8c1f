"""How far a voxel is from the border of its structure, in steps from face to face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask


def border_distance(mask: Mask, flat: bool) -> NDArray[np.int32]:
    """Return each voxel's steps to the nearest voxel outside: 1 at the border, which the end of the image also is.

    Parameters
    ----------
    mask : ndarray, shape (z, y, x), bool
    flat : bool
        Whether steps stay within a slice.

    Source
    ------
    IBSI reference manual, grey level distance zone based features.
    """
    steps = ndimage.generate_binary_structure(3, 1)
    steps[[0, 2]] &= not flat
    padded = np.pad(mask, 1)
    return np.asarray(ndimage.distance_transform_cdt(padded, metric=steps)[1:-1, 1:-1, 1:-1])
