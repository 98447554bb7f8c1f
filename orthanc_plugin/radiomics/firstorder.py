"""First-order statistics of the HU values of a structure, by pyradiomics' definitions.

A CT holds a few thousand distinct values, so one sorted pass counts them and every statistic is a short weighted sum. A
body of 40 million voxels takes seconds; pyradiomics loops over the voxels in Python and keeps several float64 copies.
tests/parity/test_firstorder.py compares every value with pyradiomics within 1e-9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Histogram:
    """Distinct values, ascending, and how often each occurs."""

    values: Floats
    counts: NDArray[np.int64]

    @property
    def size(self) -> int:
        return int(self.counts.sum())

    def mean(self, of: Floats) -> float:
        """Average a quantity of each distinct value over the voxels; exact if it is the same for all."""
        return float(of[0] + (of - of[0]) @ self.counts / self.size)

    def percentile(self, percent: float) -> float:
        """Interpolate linearly between the two enclosing ranks, as numpy does by default."""
        rank = (self.size - 1) * percent / 100
        below, above = self.values[np.searchsorted(self.counts.cumsum(), [np.floor(rank), np.ceil(rank)], "right")]
        return float(below + (above - below) * (rank % 1))

    def between(self, low: float, high: float) -> _Histogram:
        """Keep the values within the closed range."""
        inside = (self.values >= low) & (self.values <= high)
        return _Histogram(self.values[inside], self.counts[inside])

    def absolute_deviation(self) -> float:
        """Return the mean distance from the mean; NaN without values."""
        return self.mean(np.abs(self.values - self.mean(self.values))) if self.size else float("nan")


def first_order_features(
    values_hu: NDArray[np.floating], voxel_mm3: float, levels: NDArray[np.integer]
) -> dict[str, float]:
    """Measure the features of pyradiomics' class `firstorder`, by its names, without a shift of the values.

    Parameters
    ----------
    values_hu : ndarray, shape (n,)
        HU, or values of a filtered image, of the voxels inside; n > 0.
    voxel_mm3 : float
        Volume of one voxel.
    levels : ndarray, shape (n,)
        Grey level of each voxel, at least 0. Entropy and Uniformity depend on it.

    Returns
    -------
    dict
        Feature name to value. Kurtosis is pyradiomics' (3 for a normal distribution, 0 if all values are equal).
        RobustMeanAbsoluteDeviation is NaN if no value lies between the percentiles (two different voxels).

    Source
    ------
    pyradiomics 3.0.1, `firstorder.py`, with voxelArrayShift 0.
    """
    values, counts = np.unique(values_hu, return_counts=True)
    histogram = _Histogram(values.astype(np.float64), counts)
    mean = histogram.mean(histogram.values)
    variance, third, fourth = (histogram.mean((histogram.values - mean) ** power) for power in (2, 3, 4))
    spread = variance or 1.0  # a flat region has no skewness and no kurtosis
    mean_square = histogram.mean(histogram.values**2)
    p10, p25, median, p75, p90 = (histogram.percentile(percent) for percent in (10, 25, 50, 75, 90))
    per_level = np.bincount(levels)
    share = per_level[per_level > 0] / len(levels)
    return {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": mean_square * histogram.size,
        "Entropy": float(-share @ np.log2(share + np.spacing(1))),
        "InterquartileRange": p75 - p25,
        "Kurtosis": fourth / spread**2,
        "Maximum": float(values[-1]),
        "MeanAbsoluteDeviation": histogram.absolute_deviation(),
        "Mean": mean,
        "Median": median,
        "Minimum": float(values[0]),
        "Range": float(values[-1]) - float(values[0]),
        "RobustMeanAbsoluteDeviation": histogram.between(p10, p90).absolute_deviation(),
        "RootMeanSquared": float(np.sqrt(mean_square)),
        "Skewness": third / spread**1.5,
        "TotalEnergy": mean_square * histogram.size * voxel_mm3,
        "Uniformity": float(share @ share),
        "Variance": variance,
    }
