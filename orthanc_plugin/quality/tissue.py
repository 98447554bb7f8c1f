"""Find the body in the CT alone: everything denser than -300 HU, and what lies between it.

The rule is simple on purpose, and includes the couch and the arms. It needs no model, so it can show that a model is
wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Labels, Mask
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.quality.profile import Profile, profile_of

TISSUE_HU = -300.0
"""Threshold between lung (below -500 HU) and fat (about -100 HU); couch foam and clothes lie below."""


def tissue(volume: Volume) -> Profile:
    """Make the profile of all that is denser than `TISSUE_HU`."""
    shape = volume.voxels_hu.shape
    z, y, x = (slice(0, size) for size in shape)
    return profile_of((plane > TISSUE_HU for plane in volume.voxels_hu), (z, y, x), shape)


def enclosed_voxels(volume: Volume, labels: Labels, first: int, last: int) -> NDArray[np.intp]:
    """Count the voxels of each value 0..255 that tissue encloses, in slices first to last.

    A voxel is enclosed if tissue lies on all four sides, in its row and in its column.
    """
    counts = np.zeros(256, np.intp)
    for hu, plane in zip(volume.voxels_hu[first : last + 1], labels[first : last + 1], strict=True):
        counts += np.bincount(plane[_enclosed(hu)], minlength=256)
    return counts


def _enclosed(hu: Voxels) -> Mask:
    dense = np.asarray(hu > TISSUE_HU)
    columns, rows = _between(dense), _between(dense.T).T
    return np.asarray(columns & rows)


def _between(dense: Mask) -> Mask:
    """Mark pixels between the first and the last dense pixel of their row."""
    index = np.arange(dense.shape[1])
    first = dense.argmax(axis=1)
    last = index[-1] - dense[:, ::-1].argmax(axis=1)
    within = (index > first[:, None]) & (index < last[:, None])
    return np.asarray(within & np.any(dense, axis=1, keepdims=True))
