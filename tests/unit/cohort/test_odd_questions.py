"""What a query may give, and what a build meets: nothing is lost on the way to a file, and no traceback is shown."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from orthanc_plugin.cohort.build import build
from orthanc_plugin.cohort.export import as_records, export, to_csv
from orthanc_plugin.cohort.query import locked, run
from orthanc_plugin.cohort.sources import FolderSource
from orthanc_plugin.cohort.store import Store
from orthanc_plugin.errors import QueryError, TransientError


def asked(sql: str) -> pyarrow.Table:
    with locked({}) as connection:
        return run(connection, sql)


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_columns_of_one_name_are_all_kept(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"table.{ending}"
    export(asked("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a"), file)
    wanted = {"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}
    read = {
        "csv": lambda: [{k: int(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(file.read_text()))],
        "json": lambda: json.loads(file.read_text()),
        "parquet": lambda: parquet.read_table(file).to_pylist(),
    }
    assert read[ending]() == [wanted]


def test_numbers_stay_numbers_and_formulas_are_neutralised() -> None:
    found = asked("SELECT -1.5 AS d, -2 AS i, -3::HUGEINT AS h, -0.25::DOUBLE AS f, '－1' AS wide, '＝1+1' AS sum")
    (row,) = found.to_pylist()
    assert isinstance(row["d"], Decimal)
    (_, line) = to_csv(found.column_names, [row.values()]).splitlines()
    assert line == "-1.5,-2,-3,-0.25,'－1,'＝1+1"
    (record,) = as_records(found)
    assert json.dumps([record[name] for name in "dihf"]) == "[-1.5, -2, -3, -0.25]"


def test_json_holds_no_infinite_number_at_any_depth(tmp_path: Path) -> None:
    found = asked("SELECT ['nan'::DOUBLE, 1] AS l, {'a': 'inf'::DOUBLE, 'b': [-1.5]} AS s, MAP {1: 2} AS m")
    export(found, tmp_path / "table.json")
    text = (tmp_path / "table.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == [
        {"l": [None, 1.0], "s": {"a": None, "b": [-1.5]}, "m": [[1, 2]]}
    ]


def test_what_parquet_cannot_hold_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="cast it to a text"):
        export(asked("SELECT INTERVAL '1 day' AS i"), tmp_path / "table.parquet")
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_transient_and_the_next_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "note.txt").write_text("no DICOM")
    source = FolderSource(tmp_path / "source", lambda patient: patient)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "keep", full)
        with pytest.raises(TransientError, match="disk is full; the next build goes on"):
            build(source, tmp_path / "tables")
    assert build(source, tmp_path / "tables").read == 1
