"""Summaries of a validation: each metric by structure with an interval, and agreement of volumes.

Intervals are percentile bootstrap intervals. Patients are resampled, not rows: two scans of one patient are not two
independent cases. The seed is fixed, so that the same rows give the same interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.validation.cases import Row, Status

SEED, RESAMPLES, CONFIDENCE = 20240625, 2000, 0.95
LIMITS_SD = 1.96
METRICS = (
    "dice",
    "surface_dice",
    "hausdorff_mm",
    "hd95_mm",
    "mean_surface_mm",
    "volume_difference_ml",
    "volume_difference_percent",
)
"""Columns of a row that a summary covers."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic of a metric, with its bootstrap interval; low and high are None with fewer than two patients."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric of one group of rows.

    count: rows where both sides have the structure. patients: how many patients they are of.
    missed, extra: rows where one side lacks it; they do not count in the metric.
    """

    group: str
    structure: str
    metric: str
    count: int
    patients: int
    missed: int
    extra: int
    mean: Interval
    median: Interval
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Agreement of the volumes of one structure.

    bias_ml: mean of AI minus expert. low_ml, high_ml: limits of agreement, None with fewer than three rows.

    Source
    ------
    Bland and Altman, Lancet 1986;327:307.
    """

    group: str
    structure: str
    count: int
    bias_ml: float
    low_ml: float | None
    high_ml: float | None


def summarise(rows: Sequence[Row], group: Callable[[Row], str] = lambda row: row.model) -> tuple[MetricSummary, ...]:
    """Summarise each metric by group and structure, in alphabetical order."""
    found = []
    for (name, structure), members in sorted(_groups(rows, group).items()):
        both = [row for row in members if row.status is Status.BOTH]
        missed, extra = (sum(row.status is status for row in members) for status in (Status.MISSED, Status.EXTRA))
        for metric in METRICS:
            kept = [row for row in both if getattr(row, metric) is not None]
            if not kept:
                continue
            values, patients = np.array([getattr(row, metric) for row in kept]), [patient_of(row) for row in kept]
            found.append(
                MetricSummary(
                    name, structure, metric, len(kept), len(set(patients)), missed, extra,
                    interval(values, patients, np.mean), interval(values, patients, np.median),
                    float(values.min()), float(values.max()),
                )
            )  # fmt: skip
    return tuple(found)


def agreement(rows: Sequence[Row], group: Callable[[Row], str] = lambda row: row.model) -> tuple[BlandAltman, ...]:
    """Compute bias and limits of agreement of the volumes, by group and structure."""
    found = []
    for (name, structure), members in sorted(_groups(rows, group).items()):
        differences = np.array(
            [row.volume_difference_ml for row in members if row.status is Status.BOTH], dtype=np.float64
        )
        if not len(differences):
            continue
        bias = float(differences.mean())
        spread = LIMITS_SD * float(differences.std(ddof=1)) if len(differences) > 2 else None
        low, high = (bias - spread, bias + spread) if spread is not None else (None, None)
        found.append(BlandAltman(name, structure, len(differences), bias, low, high))
    return tuple(found)


def interval(
    values: NDArray[np.float64], patients: Sequence[Hashable], statistic: Callable[..., NDArray[np.float64]]
) -> Interval:
    """Compute a statistic, and its percentile interval from resampled patients.

    Source
    ------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; resampling whole patients: Field and
    Welsh, J R Stat Soc B 2007;69:369.
    """
    value = float(statistic(values))
    clusters = [np.flatnonzero([one == patient for one in patients]) for patient in dict.fromkeys(patients)]
    if len(clusters) < 2:
        return Interval(value, None, None)
    draws = np.random.default_rng(SEED).integers(len(clusters), size=(RESAMPLES, len(clusters)))
    if len(clusters) == len(values):
        drawn = statistic(values[np.concatenate(clusters)[draws]], axis=1)
    else:
        drawn = np.array([statistic(values[np.concatenate([clusters[k] for k in draw])]) for draw in draws])
    low, high = np.percentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Interval(value, float(low), float(high))


def patient_of(row: Row) -> str:
    """Return what tells the patients apart: the pseudonym, or else the study."""
    return row.patient or row.study_instance_uid


def _groups(rows: Sequence[Row], group: Callable[[Row], str]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.structure:
            groups[group(row), row.structure].append(row)
    return groups
