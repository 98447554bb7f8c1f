"""First-order statistics of the HU values of a structure, by pyradiomics' definitions.

A CT holds a few thousand distinct values, so one sorted pass counts them and every statistic is a short weighted sum. A
body of 40 million voxels takes seconds; pyradiomics loops over the voxels in Python and keeps several float64 copies.
tests/parity/test_firstorder.py compares every value with pyradiomics within 1e-9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.radiomics.whole_numbers import whole_offsets

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

    def moments(self) -> tuple[float, float, float]:
        """Return variance, skewness and kurtosis; 0 for the last two if all values are equal."""
        mean = self.mean(self.values)
        variance, third, fourth = (self.mean((self.values - mean) ** power) for power in (2, 3, 4))
        spread = variance or 1.0  # a flat region has no skewness and no kurtosis
        return variance, third / spread**1.5, fourth / spread**2

    def dispersion(self) -> dict[str, float]:
        """Return the three measures of spread that only IBSI has; NaN or infinite where their divisor is 0."""
        mean, median = self.mean(self.values), self.percentile(50)
        p25, p75 = np.float64(self.percentile(25)), self.percentile(75)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "MedianAbsoluteDeviation": self.mean(np.abs(self.values - median)),
                "CoefficientOfVariation": float(np.sqrt(np.float64(self.moments()[0])) / mean),
                "QuartileCoefficientOfDispersion": float((p75 - p25) / (p75 + p25)),
            }


def _histogram(values: NDArray[np.floating] | NDArray[np.integer]) -> _Histogram:
    if (offsets := whole_offsets(values)) is not None:
        every = np.bincount(offsets)
        (there,) = np.nonzero(every)
        return _Histogram(there.astype(np.float64) + float(values.min()), every[there])
    distinct, counts = np.unique(values, return_counts=True)
    return _Histogram(distinct.astype(np.float64), counts)


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
    histogram = _histogram(values_hu)
    values, mean = histogram.values, histogram.mean(histogram.values)
    variance, skewness, kurtosis = histogram.moments()
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
        "Kurtosis": kurtosis,
        "Maximum": float(values[-1]),
        "MeanAbsoluteDeviation": histogram.absolute_deviation(),
        "Mean": mean,
        "Median": median,
        "Minimum": float(values[0]),
        "Range": float(values[-1]) - float(values[0]),
        "RobustMeanAbsoluteDeviation": histogram.between(p10, p90).absolute_deviation(),
        "RootMeanSquared": float(np.sqrt(mean_square)),
        "Skewness": skewness,
        "TotalEnergy": mean_square * histogram.size * voxel_mm3,
        "Uniformity": float(share @ share),
        "Variance": variance,
    }


def dispersion_features(values_hu: NDArray[np.floating]) -> dict[str, float]:
    """Measure the class `statistics`: what IBSI's intensity statistics have beyond pyradiomics' first order.

    Parameters
    ----------
    values_hu : ndarray, shape (n,)
        Intensities of the voxels that count; n > 0.

    Returns
    -------
    dict
        MedianAbsoluteDeviation (mean distance from the median), CoefficientOfVariation and
        QuartileCoefficientOfDispersion. The last two are NaN or infinite where their divisor is 0.

    Source
    ------
    IBSI reference manual, intensity-based statistical features.
    """
    return _histogram(values_hu).dispersion()


def histogram_features(levels: NDArray[np.integer]) -> dict[str, float]:
    """Measure the class `histogram`: statistics of grey levels, except Entropy and Uniformity (see `firstorder`).

    Parameters
    ----------
    levels : ndarray, shape (n,)
        Grey levels of the voxels that count, from 1; n > 0.

    Returns
    -------
    dict
        Feature name to value. Kurtosis is excess kurtosis (0 if all levels are equal). Gradients are NaN for one
        level.

    Source
    ------
    IBSI reference manual, intensity histogram based features.
    """
    histogram = _histogram(levels)
    mean = histogram.mean(histogram.values)
    variance, skewness, kurtosis = histogram.moments()
    p10, p25, median, p75, p90 = (histogram.percentile(percent) for percent in (10, 25, 50, 75, 90))
    return {
        "Mean": mean,
        "Variance": variance,
        "Skewness": skewness,
        "Kurtosis": kurtosis - 3 if variance else 0.0,
        "Median": median,
        "Minimum": float(histogram.values[0]),
        "10Percentile": p10,
        "90Percentile": p90,
        "Maximum": float(histogram.values[-1]),
        "Mode": _mode(histogram, mean),
        "InterquartileRange": p75 - p25,
        "Range": float(histogram.values[-1] - histogram.values[0]),
        "MeanAbsoluteDeviation": histogram.absolute_deviation(),
        "RobustMeanAbsoluteDeviation": histogram.between(p10, p90).absolute_deviation(),
        **histogram.dispersion(),
        **_gradients(levels),
    }


def _mode(histogram: _Histogram, mean: float) -> float:
    """Return the most frequent level; of equals the one nearest to the mean, then the lower."""
    most = histogram.values[histogram.counts == histogram.counts.max()]
    return float(most[np.abs(most - mean).argmin()])


def _gradients(levels: NDArray[np.integer]) -> dict[str, float]:
    counts = np.bincount(levels)[1:]
    gradient = np.gradient(counts.astype(np.float64)) if len(counts) > 1 else np.array([np.nan])
    return {
        "MaximumGradient": float(gradient.max()),
        "MaximumGradientLevel": float(gradient.argmax() + 1),
        "MinimumGradient": float(gradient.min()),
        "MinimumGradientLevel": float(gradient.argmin() + 1),
    }
