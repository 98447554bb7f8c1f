"""Features of grey level co-occurrence.

Each feature is computed for each direction and averaged over the directions that have a pair. Sums run in pyradiomics'
order: Imc2 and MCC are roots of differences that may be zero, where rounding decides between 0 and undefined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.radiomics.matrices import Floats

_EPS = np.spacing(1)


def co_occurrence_features(counts: Floats, level: NDArray[np.int64]) -> dict[str, float]:
    """Compute the 24 features of pyradiomics' class `glcm`, by its names.

    Parameters
    ----------
    counts : ndarray, shape (levels, levels, directions)
        Symmetrical co-occurrences.
    level : ndarray, shape (levels,)
        The grey levels; the highest counts as their number.

    Returns
    -------
    dict
        Feature name to value; NaN if no voxel has a neighbour.

    Source
    ------
    IBSI reference manual, grey level co-occurrence matrix; pyradiomics 3.0.1, `glcm.py`.
    """
    total = counts.sum((0, 1))
    p = counts[..., total > 0] / total[total > 0]
    if not p.size:
        return dict.fromkeys(_NAMES, float("nan"))
    values = _moments(p, level) | _differences(p, level) | _information(p)
    return {name: float(np.nanmean(values[name])) if name != "MCC" else _mcc(p) for name in _NAMES}


def _moments(p: Floats, level: NDArray[np.int64]) -> dict[str, Floats]:
    i, j = level[:, None, None].astype(float), level[None, :, None].astype(float)
    mean = (i * p).sum((0, 1))
    spread = (p * (i - mean) ** 2).sum((0, 1))
    covariance = (p * (i - mean) * (j - mean)).sum((0, 1))
    centred = i + j - 2 * mean
    return {
        "Autocorrelation": (p * (i * j)).sum((0, 1)),
        "JointAverage": mean,
        "ClusterProminence": (p * centred**4).sum((0, 1)),
        "ClusterShade": (p * centred**3).sum((0, 1)),
        "ClusterTendency": (p * centred**2).sum((0, 1)),
        "Contrast": (p * (i - j) ** 2).sum((0, 1)),
        "Correlation": np.where(spread == 0, 1, covariance / (spread + _EPS)),
        "SumSquares": spread,
        "JointEnergy": (p**2).sum((0, 1)),
        "MaximumProbability": p.max((0, 1)),
    }


def _differences(p: Floats, level: NDArray[np.int64]) -> dict[str, Floats]:
    """Compute the features that depend only on the difference or the sum of two levels."""
    highest = int(level[-1])
    sums = _shares(p, level[:, None] + level)
    difference = _shares(p, abs(level[:, None] - level))
    k = np.arange(len(difference), dtype=float)[:, None]
    mean = (k * difference).sum(0)
    return {
        "DifferenceAverage": mean,
        "DifferenceEntropy": _entropy(difference, 0),
        "DifferenceVariance": (difference * (k - mean) ** 2).sum(0),
        "Idm": (difference / (1 + k**2)).sum(0),
        "Idmn": (difference / (1 + k**2 / highest**2)).sum(0),
        "Id": (difference / (1 + k)).sum(0),
        "Idn": (difference / (1 + k / highest)).sum(0),
        "InverseVariance": (difference[1:] / k[1:] ** 2).sum(0),
        "SumAverage": (np.arange(len(sums))[:, None] * sums).sum(0),
        "SumEntropy": _entropy(sums, 0),
    }


def _shares(p: Floats, key: NDArray[np.int64]) -> Floats:
    """Return the share of the pairs with each key, (keys, directions)."""
    return np.stack([np.bincount(key.ravel(), one.ravel()) for one in np.moveaxis(p, 2, 0)], axis=1)


def _information(p: Floats) -> dict[str, Floats]:
    px, py = p.sum(1, keepdims=True), p.sum(0, keepdims=True)
    joint = _entropy(p, (0, 1))
    single = np.fmax(_entropy(px, (0, 1)), _entropy(py, (0, 1)))
    crossed = -(p * np.log2(px * py + _EPS)).sum((0, 1))
    product = _entropy(px * py, (0, 1))
    with np.errstate(invalid="ignore"):
        second = np.where(product == joint, 0, np.sqrt(1 - np.exp(-2 * (product - joint))))
    return {
        "JointEntropy": joint,
        "Imc1": np.where(single == 0, 0, (joint - crossed) / np.where(single == 0, 1, single)),
        "Imc2": second,
    }


def _entropy(p: Floats, axes: int | tuple[int, ...]) -> Floats:
    return np.asarray(-(p * np.log2(p + _EPS)).sum(axes))


def _mcc(p: Floats) -> float:
    """Compute the maximal correlation coefficient: root of the second largest eigenvalue; 1 if there is one level."""
    px, py = p.sum(1), p.sum(0)
    q = np.zeros_like(p)
    for k in range(len(p)):
        q += p[:, None, k] * p[None, :, k] / (px[:, None] * py[k] + _EPS)
    if len(p) < 2:
        return 1.0
    eigenvalues = np.sort(np.linalg.eigvals(np.moveaxis(q, 2, 0)))
    with np.errstate(invalid="ignore"):
        return float(np.nanmean(np.sqrt(eigenvalues[:, -2])).real)


_NAMES = (
    "Autocorrelation",
    "JointAverage",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "JointEnergy",
    "JointEntropy",
    "Imc1",
    "Imc2",
    "Idm",
    "MCC",
    "Idmn",
    "Id",
    "Idn",
    "InverseVariance",
    "MaximumProbability",
    "SumAverage",
    "SumEntropy",
    "SumSquares",
)
