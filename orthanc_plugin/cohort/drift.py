"""Drift: whether volumes, features and checks of new series are still those of before.

Values are ordered by StudyDate within each group (a scanner, a kernel, a structure and model). The first ones are the
reference: they give the median and the robust standard deviation. Two one-sided tabular CUSUMs then add up what every
later value deviates beyond an allowance, and raise an alarm above a threshold.

Source: Page 1954 (CUSUM); Montgomery, Introduction to Statistical Quality Control, ch. 9 (tabular CUSUM, k = 0.5). The
threshold is chosen by simulation, see `THRESHOLD`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from orthanc_plugin.cohort.findings import Summary
from orthanc_plugin.cohort.points import Figure, Point
from orthanc_plugin.cohort.query import opened, run
from orthanc_plugin.cohort.report import Report
from orthanc_plugin.identity import digest

ALLOWANCE = 0.5
"""Half of the shift, in standard deviations, that is to be found."""
THRESHOLD = 8.0
"""In standard deviations. By simulation of 300 seeds with a reference of 100 values: without a shift, 7 % of groups
raise a false alarm within 100 new values, and half of them within 2022; a shift of one standard deviation is found
after 14 (median), one of two after 6. tests/unit/cohort/test_cohort_drift.py repeats it."""
REFERENCE = 100
"""Values at the beginning of a group that say what is usual; with fewer, false alarms come sooner."""
FEWEST_NEW = 5
_MAD_TO_SD = 1.4826
_CLIP = 4.0
"""A single value counts for at most so many standard deviations: one outlier is no drift."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one series. date: YYYYMMDD."""

    date: str
    value: float
    series: str
    study: str

    @property
    def month(self) -> str:
        """The month, as in 2026-11."""
        return f"{self.date[:4]}-{self.date[4:6]}"


@dataclass(frozen=True, slots=True)
class Alarm:
    """When a group left its reference. up: whether the values rose. shift: mean of the values since, in SD."""

    date: str
    series: str
    study: str
    up: bool
    begun: str
    shift: float


@dataclass(frozen=True, slots=True)
class Watched:
    """One group over time.

    what: structure, feature and model. by, group: of which scanner or kernel. reference, new: numbers of values.
    values: by date. alarm: the first one, or None.
    """

    what: str
    by: str
    group: str
    reference: int
    new: int
    median: float
    sd: float
    values: tuple[Value, ...]
    alarm: Alarm | None

    @property
    def months(self) -> tuple[tuple[str, int, float], ...]:
        """Month, number and median of the values."""
        months: dict[str, list[float]] = {}
        for one in self.values:
            months.setdefault(one.month, []).append(one.value)
        return tuple((month, len(found), statistics.median(found)) for month, found in sorted(months.items()))


@dataclass(frozen=True, slots=True)
class Signal:
    """Where a CUSUM crossed its threshold. begun: where the sum began to rise. up: whether the values rose."""

    index: int
    begun: int
    up: bool


def cusum(scores: Iterable[float], threshold: float = THRESHOLD, allowance: float = ALLOWANCE) -> Signal | None:
    """Look for the first alarm of a two-sided tabular CUSUM in standardised values; None if there is none."""
    up = down = 0.0
    began_up = began_down = 0
    for index, score in enumerate(scores):
        clipped = max(-_CLIP, min(_CLIP, score))
        up, down = max(0.0, up + clipped - allowance), max(0.0, down - clipped - allowance)
        began_up = began_up if up else index + 1
        began_down = began_down if down else index + 1
        if max(up, down) > threshold:
            return Signal(index, began_up if up > threshold else began_down, up > threshold)
    return None


def watch(what: str, by: str, group: str, values: Sequence[Value], reference: int = REFERENCE) -> Watched | None:
    """Look for drift in one group; None if it has too few values, or all are equal.

    Where most values of the reference are equal, as the share of metal is, mean and standard deviation stand in for the
    robust ones. Where all are, any other value counts for as much as a single one may.
    """
    ordered = sorted(values, key=lambda one: (one.date, one.series))
    before, after = ordered[:reference], ordered[reference:]
    if len(before) < reference or len(after) < FEWEST_NEW:
        return None
    middle = statistics.median(one.value for one in before)
    sd = _MAD_TO_SD * statistics.median(abs(one.value - middle) for one in before)
    if sd == 0:
        middle = statistics.fmean(one.value for one in before)
        sd = statistics.pstdev(one.value for one in before)
    if sd == 0 and all(one.value == before[0].value for one in after):
        return None
    scores = [_score(one.value - middle, sd) for one in after]
    return Watched(what, by, group, len(before), len(after), middle, sd, tuple(ordered), _alarm(after, scores))


def _score(deviation: float, sd: float) -> float:
    return deviation / sd if sd else math.copysign(_CLIP, deviation) * (deviation != 0)


def _alarm(values: Sequence[Value], scores: Sequence[float]) -> Alarm | None:
    found = cusum(scores)
    if found is None:
        return None
    one = values[found.index]
    shift = statistics.mean(scores[found.begun : found.index + 1])
    return Alarm(one.date, one.series, one.study, found.up, values[found.begun].date, round(shift, 2))


BY = ("all", "scanner", "kernel")
_MEASURED = """
SELECT m.label || ' ' || m.structure_modifier AS what, m.model || ' ' || m.model_version AS model, m.volume_ml,
  m.shape_Sphericity, m.firstorder_Mean, s.study_date, s.manufacturer || ' ' || s.manufacturer_model_name AS scanner,
  s.convolution_kernel AS kernel, m.series_instance_uid, m.study_instance_uid
FROM measurements_wide m JOIN series s USING (series_instance_uid) WHERE m.current AND s.study_date != ''
"""
_FIGURES = """
SELECT q."check" AS what, q.value, q.unit, s.study_date,
  s.manufacturer || ' ' || s.manufacturer_model_name AS scanner, s.convolution_kernel AS kernel,
  q.series_instance_uid, q.study_instance_uid
FROM input_quality q JOIN series s USING (series_instance_uid)
WHERE q.current AND q.value IS NOT NULL AND s.study_date != ''
"""
_FAILED = """
SELECT c.model, c.label, c."check", avg(CASE WHEN c.passed THEN 0.0 ELSE 1.0 END) AS value, s.study_date,
  s.manufacturer || ' ' || s.manufacturer_model_name AS scanner, s.convolution_kernel AS kernel,
  c.series_instance_uid, c.study_instance_uid
FROM checks c JOIN series s USING (series_instance_uid) WHERE c.current AND s.study_date != '' AND c.passed IS NOT NULL
GROUP BY ALL
"""
_FEATURES = {"volume_ml": "volume", "shape_Sphericity": "sphericity", "firstorder_Mean": "mean intensity"}


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a check failed in one month, in one group."""

    check: str
    by: str
    group: str
    month: str
    series: int
    failed: int


def watched_of(tables: Path, reference: int = REFERENCE) -> tuple[Watched, ...]:
    """Watch every structure, feature and input figure of a folder of tables, over all, by scanner and by kernel.

    Groups that have too few series, or no StudyDate, are left out. Those with an alarm come first.
    """
    groups: dict[tuple[str, str, str], list[Value]] = {}
    with opened(tables) as connection:
        for row in run(connection, _MEASURED).to_pylist():
            for column, feature in _FEATURES.items():
                if row[column] is not None:
                    what = f"{str(row['what']).strip()}: {feature} ({row['model']})"
                    _add(groups, what, row, row[column])
        for row in run(connection, _FIGURES).to_pylist():
            _add(groups, f"input: {row['what']}", row, row["value"])
    watched = (watch(*key, values, reference) for key, values in sorted(groups.items()))
    found = [one for one in watched if one is not None]
    return tuple(sorted(found, key=lambda one: one.alarm is None))


def rates_of(tables: Path) -> tuple[Rate, ...]:
    """Count how often each check of masks failed, by month, over all, by scanner and by kernel."""
    counted: dict[tuple[str, str, str, str], list[int]] = {}
    with opened(tables) as connection:
        for row in run(connection, _FAILED).to_pylist():
            check = f"{row['label']}: {row['check']} ({row['model']})"
            for by, group in _groups(row):
                counts = counted.setdefault((check, by, group, str(row["study_date"])[:6]), [0, 0])
                counts[0] += 1
                counts[1] += row["value"] > 0
    return tuple(Rate(*key, *counts) for key, counts in sorted(counted.items()))


def _add(groups: dict[tuple[str, str, str], list[Value]], what: str, row: dict[str, object], value: float) -> None:
    one = Value(str(row["study_date"]), float(value), str(row["series_instance_uid"]), str(row["study_instance_uid"]))
    for by, group in _groups(row):
        groups.setdefault((what, by, group), []).append(one)


def _groups(row: dict[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((by, "all series" if by == "all" else str(row[by]).strip() or "(not told)") for by in BY)


_COMPARED = """
WITH volumes AS (
  SELECT series_instance_uid, structure_code, structure_modifier, label, trim(model || ' ' || model_version) AS model,
    volume_ml FROM measurements_wide WHERE current AND volume_ml IS NOT NULL AND structure_code != ''
)
SELECT min(a.label) AS structure, a.structure_modifier AS side, a.model AS "model A", b.model AS "model B",
  count(*) AS series, round(median(b.volume_ml - a.volume_ml), 3) AS "median B - A (mL)",
  round(avg(b.volume_ml - a.volume_ml) - 1.96 * coalesce(stddev_samp(b.volume_ml - a.volume_ml), 0), 3) AS "lower",
  round(avg(b.volume_ml - a.volume_ml) + 1.96 * coalesce(stddev_samp(b.volume_ml - a.volume_ml), 0), 3) AS "upper"
FROM volumes a JOIN volumes b ON a.series_instance_uid = b.series_instance_uid
  AND a.structure_code = b.structure_code AND a.structure_modifier = b.structure_modifier AND a.model < b.model
GROUP BY a.structure_code, a.structure_modifier, a.model, b.model ORDER BY ALL
"""


_SHADOWS = """
SELECT shadow, model, min(label) AS structure, count(*) AS series,
  count(*) FILTER (WHERE shadow_ml > 0 AND model_ml = 0) AS "only shadow",
  count(*) FILTER (WHERE shadow_ml = 0 AND model_ml > 0) AS "only model",
  round(median(dice), 4) AS "median Dice", round(min(dice), 4) AS "lowest Dice",
  round(median(shadow_ml - model_ml), 3) AS "median shadow - model (mL)",
  round(avg(shadow_ml - model_ml) - 1.96 * coalesce(stddev_samp(shadow_ml - model_ml), 0), 3) AS "lower",
  round(avg(shadow_ml - model_ml) + 1.96 * coalesce(stddev_samp(shadow_ml - model_ml), 0), 3) AS "upper"
FROM shadow WHERE current AND model_ml IS NOT NULL
GROUP BY shadow, shadow_digest, model, model_digest, structure_code, modifier_code ORDER BY ALL
"""
_DICE = """
SELECT shadow, model, label, dice, shadow_ml, model_ml, series_instance_uid, study_instance_uid
FROM shadow WHERE current AND dice IS NOT NULL ORDER BY ALL
"""
_MOST_FIGURES = 12
_ALARM_HEADS = ("what", "by", "group", "alarm", "since", "direction", "shift in SD", "median before", "series")


def _figure(one: Watched, address: Callable[[str, str], str]) -> Figure:
    points = tuple(Point(v.month, v.value, v.series, v.study, v.date, address(v.study, v.series)) for v in one.values)
    key = "drift-" + digest(one.what, one.by, one.group)[:12]
    text = f"Values by month of {one.group}. The first {one.reference} are the reference."
    return Figure(key, f"{one.what}, {one.by} {one.group}", text, "", points)


def _shadow_figures(rows: Iterable[dict[str, Any]], address: Callable[[str, str], str]) -> Iterator[Figure]:
    """Give a figure of the Dice coefficients of each shadow model and model of a rule, by structure."""
    pairs: dict[tuple[str, str], list[Point]] = {}
    for row in rows:
        series, study = str(row["series_instance_uid"]), str(row["study_instance_uid"])
        note = f"{row['shadow_ml']:.1f} mL against {row['model_ml']:.1f} mL"
        point = Point(str(row["label"]), float(row["dice"]), series, study, note, address(study, series))
        pairs.setdefault((row["shadow"], row["model"]), []).append(point)
    for (shadow, model), points in pairs.items():
        text = f"Masks of the shadow model {shadow} against those that {model} stored. 1 is equal."
        key = "shadow-" + digest(shadow, model)[:12]
        yield Figure(key, f"{shadow} against {model}: Dice coefficient", text, "1", tuple(points))


def _alarm_row(one: Watched) -> tuple[str, ...]:
    alarm = one.alarm
    if alarm is None:
        return ()
    direction = "up" if alarm.up else "down"
    return (
        one.what, one.by, one.group, alarm.date, alarm.begun, direction, f"{alarm.shift:+.1f}", f"{one.median:.4g}",
        alarm.series,
    )  # fmt: skip


def drift_report(tables: Path, address: Callable[[str, str], str], reference: int = REFERENCE) -> Report:
    """Report what drifted: alarms, failed checks by month, models side by side, and shadow runs.

    A group with an alarm has a figure of its values by month. Limits of models side by side are those of Bland and
    Altman 1986: mean difference and 1.96 standard deviations.
    """
    watched = watched_of(tables, reference)
    with opened(tables) as connection:
        compared, shadows = run(connection, _COMPARED), run(connection, _SHADOWS)
        beside = [*_shadow_figures(run(connection, _DICE).to_pylist(), address)]
    by_month = [_figure(one, address) for one in watched if one.alarm is not None][:_MOST_FIGURES]
    summaries = (
        Summary("Watched", ("groups", "with an alarm", "values of the reference"),
                ((str(len(watched)), str(sum(one.alarm is not None for one in watched)), str(reference)),)),
        Summary("Alarms", _ALARM_HEADS, tuple(_alarm_row(one) for one in watched if one.alarm is not None)),
        Summary("Failed checks by month", ("check", "by", "group", "month", "series", "failed"),
                tuple(tuple(map(str, astuple(rate))) for rate in rates_of(tables))),
        Summary("Models side by side", tuple(compared.column_names),
                tuple(tuple(map(str, row.values())) for row in compared.to_pylist())),
        Summary("Shadow runs", tuple(shadows.column_names),
                tuple(tuple(map(str, row.values())) for row in shadows.to_pylist())),
    )  # fmt: skip
    found = tuple(one for one in summaries if one.rows)
    return Report("Drift of a cohort", ("tables",), (*beside, *by_month), found)
