"""Random organs for comparisons with pyradiomics."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask


def organ(shape: tuple[int, int, int], threshold: float, seed: int) -> Mask:
    """A random smooth organ: lobes, holes and islands, cut off by the border of its grid."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.4)
    return np.asarray(noise > threshold * noise.std())
