"""Features of the neighbourhood grey tone difference: how far voxels differ from the mean of their neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.radiomics.matrices import Floats


def neighbourhood_features(
    counts: NDArray[np.int64], differences: Floats, level: NDArray[np.int64]
) -> dict[str, float]:
    """Compute the five features of pyradiomics' class `ngtdm`, by its names.

    Parameters
    ----------
    counts, differences : ndarray, shape (levels,)
        Number of voxels of each level, and the sum of their differences.
    level : ndarray, shape (levels,)
        The grey levels that have voxels.

    Returns
    -------
    dict
        Feature name to value. If all levels are equal, Coarseness is 1e6 and the others are 0. NaN if no voxel counts.

    Source
    ------
    IBSI reference manual, neighbourhood grey tone difference matrix; pyradiomics 3.0.1, `ngtdm.py`.
    """
    if not len(level):
        return dict.fromkeys(("Coarseness", "Contrast", "Busyness", "Complexity", "Strength"), float("nan"))
    voxels, total = counts.sum(), differences.sum()
    p = counts / voxels
    weighted = p * differences
    coarse = weighted.sum()
    gap = level[:, None] - level[None, :].astype(float)
    pairs = p[:, None] + p
    products = level * p
    busy = abs(products[:, None] - products).sum()
    levels = len(level)
    return {
        "Coarseness": float(1 / coarse) if coarse else 1e6,
        "Contrast": float((p[:, None] * p * gap**2).sum() * total / voxels / max(levels * (levels - 1), 1)),
        "Busyness": float(coarse / busy) if busy else 0.0,
        "Complexity": float((abs(gap) * (weighted[:, None] + weighted) / pairs).sum() / voxels),
        "Strength": float((pairs * gap**2).sum() / total) if total else 0.0,
    }
