"""Summaries: known means, intervals that cover, patients that count once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from orthanc_plugin.validation.cases import Row, Status
from orthanc_plugin.validation.summary import agreement, interval, summarise
from orthanc_plugin.validation.tables import write_tables

ROW = Row(Status.BOTH, structure="Heart", dice=0.9, volume_difference_ml=1.0, model="m 1", study_instance_uid="1.2.3")


def rows(*dice: float) -> list[Row]:
    return [
        replace(ROW, dice=value, study_instance_uid=f"1.2.{k}", volume_difference_ml=100 * (value - 0.8))
        for k, value in enumerate(dice)
    ]


def test_a_summary_counts_missed_ones_apart() -> None:
    lost = replace(ROW, status=Status.MISSED, dice=0.0, study_instance_uid="1.2.77")
    (dice,) = (one for one in summarise([*rows(0.7, 0.8, 0.9), lost]) if one.metric == "dice")
    assert (dice.count, dice.patients, dice.missed, dice.extra) == (3, 3, 1, 0)
    assert (dice.mean.value, dice.median.value) == pytest.approx((0.8, 0.8))
    assert dice.median.low is not None
    assert dice.median.low <= 0.8 <= (dice.median.high or 0)


def test_the_interval_is_that_of_theory_and_the_same_each_time() -> None:
    values = np.random.default_rng(1).normal(10, 2, 200)
    found = interval(values, range(200), np.mean)
    half = 1.96 * values.std() / np.sqrt(200)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    assert interval(values, range(200), np.mean) == found


def test_scans_of_one_patient_are_not_independent() -> None:
    values = np.repeat(np.random.default_rng(2).normal(10, 2, 20), 10)
    alone, together = interval(values, range(200), np.mean), interval(values, [k // 10 for k in range(200)], np.mean)
    assert together.low is not None
    assert alone.low is not None
    assert (together.value - together.low) > 2 * (alone.value - alone.low)
    assert interval(values, ["one"] * 200, np.mean).low is None


def test_bland_altman_has_bias_and_limits() -> None:
    (found,) = agreement(rows(0.7, 0.8, 0.9))
    assert found.bias_ml == pytest.approx(0.0, abs=1e-9)
    assert (found.low_ml, found.high_ml) == pytest.approx((-19.6, 19.6))
    (two,) = agreement(rows(0.7, 0.8))
    assert (two.count, two.low_ml) == (2, None)


def test_tables_hold_the_same_in_all_forms(tmp_path: Path) -> None:
    odd = [replace(ROW, structure="=HYPERLINK()", hd95_mm=None, dice=1 / 3), *rows(0.7, 0.8)]
    csv, js, pq = write_tables(tmp_path, "t", Row, odd)
    assert "'=HYPERLINK()" in csv.read_text()
    assert "0.3333333333333333" in csv.read_text()
    assert json.loads(js.read_text())[0]["structure"] == "=HYPERLINK()"
    table = parquet.read_table(pq)
    assert table.column("dice").to_pylist() == [1 / 3, 0.7, 0.8]
    assert str(table.schema.field("hd95_mm").type) == "double"
    assert table.column_names == list(json.loads(js.read_text())[0])
    summary = write_tables(tmp_path, "s", type(summarise(rows(0.7, 0.8))[0]), summarise(rows(0.7, 0.8)))
    assert "median,median_low,median_high" in summary[0].read_text()


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    csv, js, pq = write_tables(tmp_path, "t", Row, [])
    assert (csv.read_text().startswith("status,structure"), json.loads(js.read_text())) == (True, [])
    assert parquet.read_table(pq).num_rows == 0
