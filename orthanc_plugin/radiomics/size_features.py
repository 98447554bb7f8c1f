"""Features of a matrix of grey levels by size, shared by runs (GLRLM), zones (GLSZM) and dependences (GLDM).

One table of sums serves the three classes, which use different names for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orthanc_plugin.radiomics.matrices import Floats, SizeMatrix


def _names(size: str, small: str, large: str, kind: str, level: str) -> tuple[str, ...]:
    return (
        f"{small}Emphasis",
        f"{large}Emphasis",
        "GrayLevelNonUniformity",
        "GrayLevelNonUniformityNormalized",
        f"{size}NonUniformity",
        f"{size}NonUniformityNormalized",
        f"{kind}Percentage",
        "GrayLevelVariance",
        f"{kind}Variance",
        f"{kind}Entropy",
        f"LowGrayLevel{level}Emphasis",
        f"HighGrayLevel{level}Emphasis",
        f"{small}LowGrayLevelEmphasis",
        f"{small}HighGrayLevelEmphasis",
        f"{large}LowGrayLevelEmphasis",
        f"{large}HighGrayLevelEmphasis",
    )


RUN_NAMES = _names("RunLength", "ShortRun", "LongRun", "Run", "Run")
ZONE_NAMES = _names("SizeZone", "SmallArea", "LargeArea", "Zone", "Zone")
DEPENDENCE_NAMES = tuple(
    "" if name in ("GrayLevelNonUniformityNormalized", "DependencePercentage") else name
    for name in _names("Dependence", "SmallDependence", "LargeDependence", "Dependence", "")
)
DISTANCE_NAMES = tuple(
    {"ZoneVariance": "ZoneDistanceVariance", "ZoneEntropy": "ZoneDistanceEntropy"}.get(name, name)
    for name in _names("ZoneDistance", "SmallDistance", "LargeDistance", "Zone", "Zone")
)
"""pyradiomics' names, in the order of `size_features`. An empty name marks a feature that the class lacks.

Of dependences, the normalised non-uniformity of grey levels equals Uniformity of the histogram, and the percentage is
always 1. pyradiomics has no distance zones; they are named like its size zones.
"""

NORMALISED_GREY, PERCENTAGE = 3, 6
"""Places in the order of `size_features`."""


def size_features(matrices: Iterable[SizeMatrix]) -> Floats:
    """Compute the features of each matrix, and their mean over the matrices.

    Parameters
    ----------
    matrices : iterable of SizeMatrix
        One for each direction.

    Returns
    -------
    ndarray, shape (16,)
        In the order of the names above; NaN if there is no matrix.

    Source
    ------
    IBSI reference manual, grey level run length, size zone and neighbouring grey level dependence matrices; pyradiomics
    3.0.1, `glrlm.py`, `glszm.py`, `gldm.py`.
    """
    values = [_features(matrix) for matrix in matrices]
    return np.mean(values, axis=0) if values else np.full(16, np.nan)


def merged(matrices: Iterable[SizeMatrix]) -> SizeMatrix:
    """Add matrices up, such as those of all directions."""
    parts = list(matrices)
    level, size, count = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("level", "size", "count")
    )
    entries, place = np.unique(np.stack([level, size]), axis=1, return_inverse=True)
    return SizeMatrix(entries[0], entries[1], np.bincount(place.ravel(), count).astype(np.float64))


def energy(matrix: SizeMatrix) -> float:
    """Add up the squared shares of a matrix."""
    share = matrix.count / matrix.count.sum()
    return float(share @ share)


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
