"""The intensity-volume histogram: which share of a structure has at least an intensity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.radiomics.discretise import MOST_BINS

Floats = NDArray[np.float64]

ARBITRARY_BINS = 1000
"""Bins of intensities without a unit, such as those of a filtered image (IBSI manual, arbitrary intensity units)."""


def intensity_volume_features(
    values: NDArray[np.floating], limits: tuple[float, ...] = (), width: float = 0.0, bins: int = 0
) -> dict[str, float]:
    """Measure the class `ivh`.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Intensities of the voxels that count; n > 0.
    limits : (lowest, highest), or ()
        Range of re-segmentation; empty: that of the values.
    width : float
        Width of bins, of which the centres count; 0: whole numbers, such as HU, as they are.
    bins : int
        Number of bins, which count by their number; 0: `width` decides.

    Returns
    -------
    dict
        V10, V90 (share of the volume), I10, I90 (intensity, or number of a bin), and their differences. NaN for one
        value in the whole range. Empty if there are more than `MOST_BINS` bins.

    Source
    ------
    IBSI reference manual, intensity-volume histogram based features.
    """
    low, high = limits or (float(values.min()), float(values.max()))
    given: Floats = values.astype(np.float64)
    axis: Floats
    if not bins and (high - low) / (width or 1) > MOST_BINS:
        return {}
    if bins:
        low, high = float(given.min()), float(given.max())
        steps = np.floor((given - low) * bins / ((high - low) or 1.0)).clip(max=bins - 1)
        axis = np.arange(1, bins + 1, dtype=np.float64)
    elif width:
        steps = np.floor((given - low) / width)
        count = max(1, round((high - low) / width)) if limits else int(steps.max()) + 1
        steps = steps.clip(max=count - 1)
        axis = np.asarray(low + (np.arange(count) + 0.5) * width)
    else:
        steps = np.floor(given - low)
        axis = np.asarray(low + np.arange(int(np.floor(high - low)) + 1))
    return _features(np.bincount(steps.astype(np.int64), minlength=len(axis)), axis)


def _features(counts: NDArray[np.int64], axis: Floats) -> dict[str, float]:
    if len(axis) < 2:
        return dict.fromkeys(("V10", "V90", "V10MinusV90", "I10", "I90", "I10MinusI90"), float("nan"))
    total = counts.sum()
    at_least = (total - (counts.cumsum() - counts))[: len(axis)] / total
    share = np.arange(len(axis)) / (len(axis) - 1)
    v10, v90 = (float(at_least[np.searchsorted(share, x)]) for x in (0.1, 0.9))
    i10, i90 = (float(_intensity(axis, at_least, x)) for x in (0.1, 0.9))
    return {"V10": v10, "V90": v90, "V10MinusV90": v10 - v90, "I10": i10, "I90": i90, "I10MinusI90": i10 - i90}


def _intensity(axis: Floats, at_least: Floats, share: float) -> float:
    """Return the lowest intensity that at most this share has; one step above the range if all of it has more."""
    few = np.flatnonzero(at_least <= share)
    return float(axis[few[0]] if len(few) else axis[-1] + (axis[1] - axis[0]))
