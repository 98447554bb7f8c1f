"""Make a curve along the body of the scores of slices: on the common scale, smoothed, without tails outside it.

`peer_curve` repeats bpreg 1.1.0 exactly. `body_curve` corrects it: it smooths over millimetres, not slice numbers, does
not flatten the curve at its ends, and treats a falling curve as a rising one seen from the other side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.catalog.bpr import BprModel

Values = NDArray[np.float64]

_SCALE = 100.0
_NEAR = 10.0  # an end of the scale is in the scan if a score comes this close
_REACH = 4.0  # standard deviations of smoothing


@dataclass(frozen=True, slots=True)
class Curve:
    """Scores along the body; NaN for slices without a score.

    along_mm: position of each slice, rising.
    raw: scores on the common scale. cleaned: smoothed, without tails.
    slope_per_mm: slope of the line through `cleaned`. ratio: its size divided by the model's mean slope.
    expected_spacing_mm: spacing at which the slope would be the mean; negative if scores fall.
    """

    along_mm: Values
    raw: Values
    cleaned: Values
    slope_per_mm: float
    ratio: float
    expected_spacing_mm: float
    ratio_tolerance: float

    @property
    def valid_spacing(self) -> bool:
        """Whether the scores rise or fall about as fast as in people."""
        return abs(1.0 - self.ratio) <= self.ratio_tolerance

    @property
    def reversed(self) -> bool:
        """Whether scores fall along the body."""
        return self.slope_per_mm < 0

    @property
    def valid(self) -> NDArray[np.intp]:
        """Indices of slices with a cleaned score."""
        return np.flatnonzero(np.isfinite(self.cleaned))


def transformed(scores: Values, model: BprModel) -> Values:
    """Bring raw scores to the common scale: 0 at the start landmark, 100 at the end landmark."""
    return (scores - model.start_raw) * _SCALE / (model.end_raw - model.start_raw)


def peer_curve(scores: Values, spacing_mm: float, model: BprModel) -> Curve:
    """Make the curve like bpreg.

    Parameters
    ----------
    scores : (n,) float64
        Raw scores of all slices.
    spacing_mm : float
        Slice spacing.
    model : BprModel

    Source
    ------
    bpreg 1.1.0, bpreg/score_processing/scores.py.
    """
    along = np.arange(len(scores), dtype=np.float64) * spacing_mm
    raw = transformed(scores, model)
    kept = ~np.isin(np.round(scores, 2), model.background_scores)
    smooth = np.full(len(raw), np.nan)
    smooth[kept] = ndimage.gaussian_filter1d(raw[kept], model.smoothing_mm / spacing_mm, truncate=_REACH)
    rising = line_slope(along, raw) > 0
    return _curve(along, raw, _without_tails(smooth, along, rising, model), spacing_mm, model)


def body_curve(scores: Values, along_mm: Values, model: BprModel) -> Curve:
    """Make the curve over real positions.

    Parameters
    ----------
    scores : (n,) float64
        Raw scores; not finite for slices without a score.
    along_mm : (n,) float64
        Position of each slice along the body, rising.
    model : BprModel
    """
    raw = transformed(scores, model)
    at = np.flatnonzero(np.isfinite(raw))
    smooth = _smoothed(raw[at], along_mm[at], model.smoothing_mm)
    if line_slope(along_mm[at], raw[at]) < 0:
        kept = _without_tails(smooth[::-1], -along_mm[at][::-1], True, model)[::-1]
    else:
        kept = _without_tails(smooth, along_mm[at], True, model)
    cleaned = np.full(len(raw), np.nan)
    cleaned[at] = kept
    spacing_mm = float(np.median(np.diff(along_mm))) if len(along_mm) > 1 else np.nan
    return _curve(along_mm, raw, cleaned, spacing_mm, model)


def _curve(along_mm: Values, raw: Values, cleaned: Values, spacing_mm: float, model: BprModel) -> Curve:
    valid = np.isfinite(cleaned)
    slope = line_slope(along_mm[valid], cleaned[valid])
    ratio = abs(slope) / model.slope_mean
    expected = slope * spacing_mm / model.slope_mean
    return Curve(along_mm, raw, cleaned, slope, ratio, expected, model.ratio_tolerance)


def line_slope(x: Values, y: Values) -> float:
    """Fit the slope of the least squares line; NaN for fewer than two points."""
    if len(x) < 2:
        return np.nan
    from_mean = x - np.mean(x)
    return float(from_mean @ y / (from_mean @ from_mean))


def _smoothed(values: Values, along_mm: Values, sigma_mm: float) -> Values:
    """Fit a Gaussian-weighted line around each position: unbiased at ends and beside gaps."""
    smooth = np.empty_like(values)
    for index, here in enumerate(along_mm):
        around = np.abs(along_mm - here) <= _REACH * sigma_mm
        offset, near = along_mm[around] - here, values[around]
        weight = np.exp(-0.5 * (offset / sigma_mm) ** 2)
        zero, one, two = weight.sum(), weight @ offset, weight @ offset**2
        spread = zero * two - one**2
        line = (two * (weight @ near) - one * ((weight * offset) @ near)) / spread if spread > 0 else near.mean()
        smooth[index] = line
    return smooth


def _without_tails(scores: Values, along_mm: Values, rising: bool, model: BprModel) -> Values:
    """Cut the tails beyond a steep or falling step outside the scale: their scores become NaN."""
    cleaned = scores.copy()
    if len(scores) < 2:
        return cleaned
    steps = np.diff(scores) / np.diff(along_mm)
    slopes = np.append(steps, steps[-1])
    outliers = np.flatnonzero((slopes < model.tangential_min) | (slopes > model.tangential_max))
    low, high = _nearest(scores, 0.0), _nearest(scores, _SCALE)
    if low > high:
        low = np.nan
    first, last = (low, high) if rising else (high, low)
    left, right = outliers[outliers < first], outliers[outliers > last]
    if left.size:
        cleaned[: left[-1]] = np.nan
    if right.size:
        cleaned[right[0] :] = np.nan
    return cleaned


def _nearest(scores: Values, target: float) -> float:
    """Find the index of the score nearest to a target; NaN if none is near."""
    distance = np.abs(scores - target)
    if not np.isfinite(distance).any() or np.nanmin(distance) >= _NEAR:
        return np.nan
    return float(np.nanargmin(distance))
