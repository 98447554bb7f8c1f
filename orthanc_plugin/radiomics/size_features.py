"""Features of a matrix of grey levels by size: runs (GLRLM), zones (GLSZM) and dependences (GLDM) share them.

One table of sums serves the three classes, which call it by different names.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orthanc_plugin.radiomics.matrices import Floats, SizeMatrix

RUN_NAMES = (
    "ShortRunEmphasis",
    "LongRunEmphasis",
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "RunLengthNonUniformity",
    "RunLengthNonUniformityNormalized",
    "RunPercentage",
    "GrayLevelVariance",
    "RunVariance",
    "RunEntropy",
    "LowGrayLevelRunEmphasis",
    "HighGrayLevelRunEmphasis",
    "ShortRunLowGrayLevelEmphasis",
    "ShortRunHighGrayLevelEmphasis",
    "LongRunLowGrayLevelEmphasis",
    "LongRunHighGrayLevelEmphasis",
)
ZONE_NAMES = (
    "SmallAreaEmphasis",
    "LargeAreaEmphasis",
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "SizeZoneNonUniformity",
    "SizeZoneNonUniformityNormalized",
    "ZonePercentage",
    "GrayLevelVariance",
    "ZoneVariance",
    "ZoneEntropy",
    "LowGrayLevelZoneEmphasis",
    "HighGrayLevelZoneEmphasis",
    "SmallAreaLowGrayLevelEmphasis",
    "SmallAreaHighGrayLevelEmphasis",
    "LargeAreaLowGrayLevelEmphasis",
    "LargeAreaHighGrayLevelEmphasis",
)
DEPENDENCE_NAMES = (
    "SmallDependenceEmphasis",
    "LargeDependenceEmphasis",
    "GrayLevelNonUniformity",
    "",  # equals the uniformity of the histogram
    "DependenceNonUniformity",
    "DependenceNonUniformityNormalized",
    "",  # always 1
    "GrayLevelVariance",
    "DependenceVariance",
    "DependenceEntropy",
    "LowGrayLevelEmphasis",
    "HighGrayLevelEmphasis",
    "SmallDependenceLowGrayLevelEmphasis",
    "SmallDependenceHighGrayLevelEmphasis",
    "LargeDependenceLowGrayLevelEmphasis",
    "LargeDependenceHighGrayLevelEmphasis",
)
"""pyradiomics' names, in the order of `size_features`; an empty name is a feature that the class has not."""


def size_features(matrices: Iterable[SizeMatrix]) -> Floats:
    """The features of each matrix, and their mean over the matrices.

    Parameters
    ----------
    matrices : iterable of SizeMatrix
        One for each direction.

    Returns
    -------
    ndarray, shape (16,)
        In the order of the names above; NaN where there is no matrix.

    Source
    ------
    IBSI reference manual, grey level run length, size zone and neighbouring grey level dependence matrices; pyradiomics
    3.0.1, `glrlm.py`, `glszm.py`, `gldm.py`.
    """
    values = [_features(matrix) for matrix in matrices]
    return np.mean(values, axis=0) if values else np.full(16, np.nan)


def _features(matrix: SizeMatrix) -> Floats:
    count, grey, size = matrix.count, matrix.level**2, matrix.size**2
    total = count.sum()
    share = count / total
    by_level = np.bincount(matrix.level.astype(int), count)
    _, column = np.unique(matrix.size, return_inverse=True)
    by_size = np.bincount(column, count)
    return np.array(
        [
            (share / size).sum(),
            (share * size).sum(),
            (by_level**2).sum() / total,
            (by_level**2).sum() / total**2,
            (by_size**2).sum() / total,
            (by_size**2).sum() / total**2,
            total / (count * matrix.size).sum(),
            (share * (matrix.level - share @ matrix.level) ** 2).sum(),
            (share * (matrix.size - share @ matrix.size) ** 2).sum(),
            -(share * np.log2(share + np.spacing(1))).sum(),
            (share / grey).sum(),
            (share * grey).sum(),
            (share / grey / size).sum(),
            (share * grey / size).sum(),
            (share / grey * size).sum(),
            (share * grey * size).sum(),
        ]
    )
