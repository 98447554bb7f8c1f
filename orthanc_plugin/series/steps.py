"""The steps between slices along their normal: regular, regular with gaps, or regular in parts.

Regular steps are the rule. Slices that are missing refuse the series unless its rule allows to interpolate them. Parts
of different spacing (a skull base in thin slices, the rest in thick ones) become one regular grid at the smallest step.
What is neither is refused: nobody could say where such slices lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.reading import MissingSlices
from orthanc_plugin.errors import InputError, Refusal

Vector = NDArray[np.float64]

POSITION_TOLERANCE_MM = 0.1
POSITION_TOLERANCE_OF_SPACING = 0.05
"""Proposed, not derived from measurements: accepted real series deviate by 0.001 mm at most, faults are millimetres."""

ROUNDED_TO_MM = (1.0, 0.5, 0.1)
ROUNDING_TOLERANCE = 0.6
"""Positions that all are whole multiples of one of these were rounded to it: each may be off by half of it, and the fit
a little more. That is told from missing slices where the spacing is over twice as much."""

NOTED_ROUNDING_MM = 0.5
_MOSTLY_ROUNDED = 0.15
"""Where more of the gaps differ from the usual one, that is rounding: missing slices are few."""

MOST_MISSING_SHARE = 0.1
WIDEST_INTERPOLATED_MM = 10.0
"""Slices are interpolated only where they are few and their neighbours near: over 10 mm an organ may begin and end."""

SHORTEST_RUN = 3
"""Equal steps that make a part of a series with a spacing of its own."""

THINNEST_OF_MEDIAN = 0.1

_WIDER = 1.75
_NAMED_GAPS = 3

_DIGITS = 6
_TINY = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A regular grid along the normal.

    first, step: mm.
    count: slices of the grid.
    z: (n,) place of each given slice in steps; None where every slice of the grid is given.
    mark: what was done, for the results.
    filled: missing slices.
    """

    first: float
    step: float
    count: int
    z: Vector | None = None
    mark: str = ""
    filled: int = 0


def fit_steps(along: Vector, missing: MissingSlices = MissingSlices.REFUSE) -> Steps:
    """Fit a regular grid to rising positions along the normal; (n,) mm.

    Raises
    ------
    InputError
        MISSING_SLICE: gaps of whole slices, and the rule refuses them or they are too many or too wide. MIXED_SPACING:
        the steps vary in no way that can be told.
    """
    step = float(np.median(np.diff(along)))
    number = np.arange(len(along))
    first, slope, off = _fit(along, number)
    if off <= _tolerance(along, slope, step) and not _alternates(along, off):
        return Steps(first, slope, len(along), mark=_rounding_in_words(along, off))
    if _is_in_parts(along):
        return _in_parts(along)
    _check_rounding(along, slope, off)
    if (whole := _whole_steps(along, step)) is not None:
        return _with_gaps(along, whole, step, missing)
    gaps = np.diff(along)
    message = f"distance between slices varies from {gaps.min():.3f} to {gaps.max():.3f} mm; split or reconstruct"
    raise InputError(Refusal.MIXED_SPACING, message)


def _fit(along: Vector, number: NDArray[np.intp]) -> tuple[float, float, float]:
    """Fit a first position and a step, and give the largest distance of a position from the grid."""
    slope, first = (round(float(value), _DIGITS) for value in np.polyfit(number, along, 1))
    return first, slope, float(np.abs(along - (first + slope * number)).max())


def _tolerance(along: Vector, slope: float, step: float) -> float:
    return max(min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_OF_SPACING * step), _rounding_mm(along, slope))


def _whole_steps(along: Vector, step: float) -> NDArray[np.intp] | None:
    """Give each position its number if only a few gaps are wider, by whole steps; else None.

    The gaps themselves tell it, or the places that they add up to: rounding changes every gap, but no place by much.
    """
    gaps = np.diff(along)
    usual = float(gaps[gaps < _WIDER * step].mean())
    steps = np.rint(gaps / usual)
    if not 0 < np.count_nonzero(steps > 1) <= len(gaps) / 3 or steps.min() < 1:
        return None
    number = np.concatenate([[0], np.cumsum(steps)]).astype(np.intp)
    _, slope, off = _fit(along, number)
    are_whole = np.abs(gaps / step - steps).max() <= POSITION_TOLERANCE_OF_SPACING
    return number if are_whole or off <= _tolerance(along, slope, step) else None


def _with_gaps(along: Vector, number: NDArray[np.intp], step: float, missing: MissingSlices) -> Steps:
    count = int(number[-1]) + 1
    absent = count - len(along)
    first, slope, off = _fit(along, number)
    told = f"{absent} slice(s) missing at a spacing of {slope:.3f} mm: {_gaps_in_words(along, number)}"
    if missing is MissingSlices.REFUSE:
        raise InputError(Refusal.MISSING_SLICE, f"{told}; send them all again")
    widest = float(np.diff(along).max())
    if absent > MOST_MISSING_SHARE * count or widest > WIDEST_INTERPOLATED_MM * (1 + POSITION_TOLERANCE_OF_SPACING):
        limits = f"at most {MOST_MISSING_SHARE:.0%} and gaps up to {WIDEST_INTERPOLATED_MM:g} mm are interpolated"
        raise InputError(Refusal.MISSING_SLICE, f"{told}, the widest gap is {widest:.1f} mm; {limits}; send them again")
    if off > _tolerance(along, slope, step):
        raise InputError(Refusal.MISSING_SLICE, f"{told}, and the others lie unevenly; send them all again")
    mark = f"{absent} of {count} slices were missing and are interpolated (the rule allows it); masks there repeat the"
    return Steps(first, slope, count, number.astype(np.float64), f"{mark} nearest slice", absent)


def _gaps_in_words(along: Vector, number: NDArray[np.intp]) -> str:
    """Tell where slices are missing: between which of those that are there, and where these lie along the normal."""
    before = np.flatnonzero(np.diff(number) > 1)
    named = [
        f"{number[i + 1] - number[i] - 1} between slices {i + 1} and {i + 2} ({along[i]:.2f} and {along[i + 1]:.2f} mm)"
        for i in before[:_NAMED_GAPS]
    ]
    more = f" and at {len(before) - _NAMED_GAPS} more places" if len(before) > _NAMED_GAPS else ""
    return f"{', '.join(named)}{more}"


def _is_in_parts(along: Vector) -> bool:
    """Tell whether the steps are runs of equal ones, with at most one step, no wider than theirs, between two runs."""
    runs = _runs(np.diff(along))
    long = [len(run) >= SHORTEST_RUN for run in runs]
    if sum(long) < 2 or not (long[0] and long[-1]) or any(not one and not other for one, other in pairwise(long)):
        return False
    between = [index for index, is_long in enumerate(long) if not is_long]
    fits = (len(runs[i]) == 1 and runs[i][0] <= max(runs[i - 1][0], runs[i + 1][0]) for i in between)
    return all(fits) and min(map(min, runs)) >= THINNEST_OF_MEDIAN * float(np.median(np.diff(along)))


def _runs(gaps: Vector) -> list[list[float]]:
    runs: list[list[float]] = []
    for gap in gaps.tolist():
        if runs and abs(gap - runs[-1][0]) <= min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_OF_SPACING * gap):
            runs[-1].append(gap)
        else:
            runs.append([gap])
    return runs


def _in_parts(along: Vector) -> Steps:
    gaps = np.diff(along)
    step = round(float(gaps.min()), _DIGITS)
    z = (along - along[0]) / step
    count = int(np.ceil(z[-1] - POSITION_TOLERANCE_OF_SPACING)) + 1
    mark = (
        f"the distance between slices varies from {gaps.min():.2f} to {gaps.max():.2f} mm; the volume is interpolated"
        f" to {count} slices at {step:.3f} mm"
    )
    return Steps(round(float(along[0]), _DIGITS), step, count, z, mark)


def _rounded_to(along: Vector) -> float:
    """Give the coarsest unit of which all positions are whole multiples, in mm; 0 where they were not rounded."""
    units = (unit for unit in ROUNDED_TO_MM if np.abs(along / unit - np.rint(along / unit)).max() < _TINY)
    return next(units, 0.0)


def _rounding_mm(along: Vector, step: float) -> float:
    """Tell how far positions may lie from a regular grid because the sender rounded them; 0 where it did not."""
    unit = _rounded_to(along)
    return ROUNDING_TOLERANCE * unit if step > 2 * unit else 0.0


def _alternates(along: Vector, off: float) -> bool:
    """Tell whether steps differ by more than rounding a regular grid makes: one unit."""
    unit = _rounded_to(along)
    is_coarse = unit >= NOTED_ROUNDING_MM and off > POSITION_TOLERANCE_MM
    return is_coarse and bool(np.ptp(np.diff(along)) > unit * (1 + _TINY))


def _rounding_in_words(along: Vector, off: float) -> str:
    unit = _rounded_to(along)
    if unit < NOTED_ROUNDING_MM or off <= POSITION_TOLERANCE_MM:
        return ""
    return f"positions were rounded to {unit:g} mm: slices are placed on a regular grid, within {off:.2f} mm"


def _check_rounding(along: Vector, slope: float, off: float) -> None:
    """Refuse positions that were rounded too coarsely to tell whether slices are missing; raises MIXED_SPACING."""
    unit, gaps = _rounded_to(along), np.diff(along)
    unlike = float((np.abs(gaps - np.median(gaps)) > unit / 2).mean())
    if off <= ROUNDING_TOLERANCE * unit and unlike > _MOSTLY_ROUNDED and not _alternates(along, off):
        message = f"positions were rounded to {unit:g} mm, too coarsely for slices every {slope:.2f} mm"
        raise InputError(Refusal.MIXED_SPACING, f"{message}; export the series again with its exact positions")
