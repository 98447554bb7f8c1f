"""Drift: a shift is found soon, its absence seldom raises an alarm, and two models stand side by side."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin.cli.main import EXIT_CONFIG, EXIT_DONE, main
from orthanc_plugin.cohort.build import build
from orthanc_plugin.cohort.drift import REFERENCE, Value, cusum, watch
from orthanc_plugin.cohort.sources import Found
from orthanc_plugin.cohort.unit import Row, Unit

SEEDS = range(200)
LONGEST_RUN = 20_000


def run_length(shift: float, seed: int) -> int:
    """Draw a reference, which is estimated as in life, and count the new values until the alarm."""
    dice = random.Random(seed)
    before = [dice.gauss(0, 1) for _ in range(REFERENCE)]
    middle = statistics.median(before)
    sd = 1.4826 * statistics.median(abs(value - middle) for value in before)
    found = cusum((dice.gauss(shift, 1) - middle) / sd for _ in range(LONGEST_RUN))
    return LONGEST_RUN if found is None else found.index + 1


def test_false_alarms_are_as_rare_as_stated() -> None:
    runs = [run_length(0.0, seed) for seed in SEEDS]
    assert sum(run <= 100 for run in runs) / len(runs) < 0.12
    assert statistics.median(runs) > 1000


@pytest.mark.parametrize(("shift", "within"), [(1.0, 16), (-1.0, 16), (2.0, 7)])
def test_shift_is_found_as_soon_as_stated(shift: float, within: int) -> None:
    runs = [run_length(shift, seed) for seed in SEEDS]
    assert statistics.median(runs) <= within
    assert sum(run <= 60 for run in runs) / len(runs) > 0.95


def test_one_outlier_is_no_drift() -> None:
    assert cusum([0.0] * 50 + [1e9] + [0.0] * 50) is None


def test_alarm_tells_where_the_rise_began() -> None:
    found = cusum([0.0] * 30 + [-2.0] * 20)
    assert found is not None
    assert (found.up, found.begun, found.index) == (False, 30, 35)


def values(shift_from: int, shift: float) -> list[Value]:
    dice = random.Random(7)
    dates = [f"2026{n // 28 + 1:02d}{n % 28 + 1:02d}" for n in range(240)]
    sizes = [600 + 40 * (dice.gauss(0, 1) + shift * (n >= shift_from)) for n in range(240)]
    return [Value(date, size, f"2.{n}", "") for n, (date, size) in enumerate(zip(dates, sizes, strict=True))]


def test_group_with_a_shift_raises_an_alarm_and_one_without_does_not() -> None:
    shifted = watch("heart", "scanner", "A", values(150, 2.0))
    assert shifted is not None
    assert shifted.alarm is not None
    assert shifted.alarm.up
    assert "20260610" <= shifted.alarm.begun <= shifted.alarm.date <= "20260628"
    assert shifted.median == pytest.approx(600, abs=15)
    still = watch("heart", "scanner", "A", values(999, 2.0))
    assert still is not None
    assert still.alarm is None
    assert sum(count for _, count, _ in still.months) == 240


def test_group_that_says_too_little_is_left_out() -> None:
    assert watch("heart", "all", "all", values(0, 0)[:90]) is None
    assert watch("heart", "all", "all", [Value("20260101", 1.0, str(n), "") for n in range(200)]) is None


def in_order(sizes: list[float]) -> list[Value]:
    return [Value(f"2026{n // 28 + 1:02d}{n % 28 + 1:02d}", size, f"2.{n}", "") for n, size in enumerate(sizes)]


@pytest.mark.parametrize("before", [[0.0] * 100, [0.0, 0.0, 0.0, 0.01] * 25], ids=["all equal", "mostly equal"])
def test_figures_that_were_mostly_zero_raise_an_alarm_when_they_no_longer_are(before: list[float]) -> None:
    shifted = watch("input: metal", "scanner", "A", in_order([*before, *before[:40], *[0.02] * 20]))
    assert shifted is not None
    assert shifted.alarm is not None
    assert "20260601" <= shifted.alarm.date <= "20260605"
    assert shifted.alarm.shift > 1
    still = watch("input: metal", "scanner", "A", in_order([*before, *before, 0.02]))
    assert still is not None
    assert still.alarm is None


class TwoScanners:
    """Hearts of two scanners by two versions of a model; the second scanner changes in the middle of the year."""

    name = "two scanners"

    def __iter__(self) -> Iterator[Found]:
        for number in range(300):
            for kind in ("ct", "1.0", "2.0"):
                yield Found(f"{number:04d}{kind}", "1", lambda n=number, k=kind: self._unit(n, k))  # type: ignore[misc]

    def _unit(self, number: int, kind: str) -> Unit:
        series = f"2.25.1{number:04d}"
        if kind == "ct":
            row: Row = {
                "series_instance_uid": series, "study_instance_uid": series, "modality": "CT", "instances": 1,
                "manufacturer": "AB"[number % 2], "convolution_kernel": "B30f",
                "study_date": f"2026{number // 28 + 1:02d}{number % 28 + 1:02d}",
            }  # fmt: skip
            return Unit(f"{series}.1", series, series, is_source=True, rows={"series": [row]})
        volume = random.Random(number).gauss(600, 40) + 100 * (number % 2 and number > 220) + 10 * (kind == "2.0")
        sop = f"2.25.{kind[0]}{number:04d}"
        ids: Row = {"series_instance_uid": series, "study_instance_uid": series, "sop_instance_uid": sop}
        model: Row = {"model": "hearts", "model_version": kind, "label": "Heart", "structure_code": "80891009"}
        measured: Row = {"feature": "shape_VoxelVolume", "value": volume * 1000, "unit": "mm3", "image": "original"}
        check: Row = {"check": "volume", "passed": volume < 700, "label": "Heart", "model": f"hearts {kind}"}
        rows = {"measurements": [ids | model | measured], "checks": [ids | check]}
        return Unit(sop, series, series, kind="radiomics", model="hearts", model_version=kind, rows=rows)


def test_scanner_that_changed_is_named_and_models_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(TwoScanners(), tmp_path / "tables")
    command = ["cohort", "drift", "--tables", str(tmp_path / "tables"), "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == EXIT_DONE
    summaries = {one["title"]: one for one in json.loads(capsys.readouterr().out)["summaries"]}
    alarms = [[*row[:3], row[5]] for row in summaries["Alarms"]["rows"] if row[1] == "scanner"]
    assert alarms == [[f"Heart: volume (hearts {v})", "scanner", "B", "up"] for v in ("1.0", "2.0")]
    (pair,) = summaries["Models side by side"]["rows"]
    assert pair[2:6] == ["hearts 1.0", "hearts 2.0", "300", "10.0"]
    failed = [row for row in summaries["Failed checks by month"]["rows"] if row[1:3] == ["scanner", "B"]]
    assert sum(int(row[5]) for row in failed) > 20
    assert "Heart: volume (hearts 1.0)" in (tmp_path / "out" / "report.html").read_text()


def test_reference_of_a_few_values_is_refused(tmp_path: Path) -> None:
    assert main(["cohort", "drift", "--tables", str(tmp_path), "--reference", "3"]) == EXIT_CONFIG
