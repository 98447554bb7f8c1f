"""Features of grey level co-occurrence.

Each feature is computed for each direction and averaged over the directions that have a pair. Sums run in pyradiomics'
order: Imc2 and MCC are roots of differences that may be zero, where rounding decides between 0 and undefined. Only MCC
of many levels is computed in another way, at a cost that grows with the pairs of levels that occur.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from orthanc_plugin.radiomics.matrices import Floats

_EPS = np.spacing(1)
_DENSE_LEVELS = 128
"""Grey levels up to which MCC is computed as pyradiomics does, whose cost grows with their third power."""
_PRECISION = 1e-10


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
    if len(p) < 2:
        return 1.0
    if len(p) <= _DENSE_LEVELS:
        second = _second_eigenvalues(p)
    else:
        second = np.array([_second_of_many_levels(one) for one in np.moveaxis(p, 2, 0)])
    with np.errstate(invalid="ignore"):
        return float(np.nanmean(np.sqrt(second)).real)


def _second_eigenvalues(p: Floats) -> Floats:
    """Compute the second largest eigenvalue for each direction, as pyradiomics does."""
    px, py = p.sum(1), p.sum(0)
    q = np.zeros_like(p)
    for k in range(len(p)):
        q += p[:, None, k] * p[None, :, k] / (px[:, None] * py[k] + _EPS)
    return np.asarray(np.sort(np.linalg.eigvals(np.moveaxis(q, 2, 0)))[:, -2])


def _second_of_many_levels(p: Floats) -> float:
    """Compute the second largest eigenvalue for one direction, from the pairs of levels that occur.

    With levels scaled by their shares, the matrix is the square of a symmetric one, whose first eigenvector is known:
    the roots of the shares. There is a second eigenvalue of 1 if the pairs fall into parts without a common level.
    NaN if the search does not end.
    """
    there = np.flatnonzero(p.sum(1))
    if len(there) < 3:  # too few for the search; a level without a pair has the eigenvalue 0
        return float(_second_eigenvalues(np.pad(p[np.ix_(there, there)], (0, 1))[..., None]).real.item())
    pairs = sparse.csr_array(p[np.ix_(there, there)])
    if sparse.csgraph.connected_components(sparse.block_array([[None, pairs], [pairs.T, None]]))[0] > 1:
        return 1.0
    first: Floats = np.sqrt(p.sum(1)[there])
    scaled = sparse.diags_array(1 / first) @ pairs @ sparse.diags_array(1 / first)

    def without_first(vector: Floats) -> Floats:
        return np.asarray(scaled @ (scaled @ vector)) - first * (first @ vector)

    squared = linalg.LinearOperator(pairs.shape, without_first, dtype=float)
    start = np.random.default_rng(0).normal(size=len(there))  # ARPACK's own would differ from run to run
    try:
        return float(linalg.eigsh(squared, 1, which="LA", v0=start, tol=_PRECISION, return_eigenvectors=False)[0])
    except linalg.ArpackNoConvergence:
        return float("nan")


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
