"""Queries on the tables: ready ones give what they say, and none can leave the tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow
import pytest

from orthanc_plugin.cohort.build import MANIFEST
from orthanc_plugin.cohort.export import export, to_csv
from orthanc_plugin.cohort.named import NAMED, named_query
from orthanc_plugin.cohort.query import opened, run, table_files
from orthanc_plugin.errors import ConfigError, QueryError
from tests.support.cases.cohort_case import built, our_results, write


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of our own results."""
    folder, out = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("tables")
    built(write(our_results(), folder), out)
    return out


def ask(tables: Path, sql: str, **values: object) -> list[dict[str, object]]:
    with opened(tables) as connection:
        found: list[dict[str, object]] = run(connection, sql, values).to_pylist()
        return found


FORBIDDEN = [
    "SELECT * FROM read_csv('{outside}')",
    "SELECT * FROM read_text('{outside}')",
    "SELECT * FROM read_blob('{outside}')",
    "SELECT * FROM read_json('{outside}')",
    "SELECT * FROM read_parquet('{outside}')",
    "SELECT * FROM parquet_metadata('{outside}')",
    "SELECT * FROM sniff_csv('{outside}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{outside}'",
    "SELECT * FROM read_csv('https://192.0.2.1/x.csv')",
    "SELECT * FROM 'https://192.0.2.1/x.parquet'",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT getenv('HOME')",
    "SELECT * FROM sqlite_scan('{outside}', 'x')",
    "ATTACH '{outside}'",
    "ATTACH ':memory:' AS other",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{tables}/series.parquet'",
    "EXPORT DATABASE '{folder}/all'",
    "IMPORT DATABASE '{folder}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET allowed_paths = ['{outside}']",
    "RESET enable_external_access",
    "PRAGMA threads = 1",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE OR REPLACE VIEW series AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO series VALUES (1)",
    "UPDATE series SET patient = ''",
    "DELETE FROM series",
    "DROP VIEW series",
    "CALL pragma_version()",
    "PREPARE p AS SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "VACUUM",
    "BEGIN TRANSACTION",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW series",
    "",
    "nonsense",
    "SELECT * FROM query('DROP VIEW series')",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_query_can_read_the_tables_only(sql: str, tables: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a,b\n1,secret\n")
    before = {file.name: file.read_bytes() for file in tables.iterdir()}
    with opened(tables) as connection, pytest.raises(QueryError) as refused:
        run(connection, sql.format(outside=outside, folder=tmp_path, tables=tables))
    assert "secret" not in str(refused.value)
    assert [*tmp_path.iterdir()] == [outside]
    assert {file.name: file.read_bytes() for file in tables.iterdir()} == before


def test_connection_is_locked_even_without_the_check_of_the_statement(tables: Path, tmp_path: Path) -> None:
    for sql in (
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/x.db'",
        "SET threads = 1",
        "LOAD json5",
    ):
        with opened(tables) as connection, pytest.raises(duckdb.Error):
            connection.execute(sql)


@pytest.mark.parametrize("name", NAMED)
def test_ready_query_runs_and_names_series_where_it_lists_them(name: str, tables: Path) -> None:
    query = named_query(name)
    with opened(tables) as connection:
        found = run(connection, query.sql, query.parameters)
    assert found.column_names
    if "outliers" in name:
        assert "series_instance_uid" in found.column_names


def test_unknown_ready_query_lists_those_there_are(tables: Path) -> None:
    with pytest.raises(ConfigError, match="heart-volume-outliers"):
        named_query("hearts")


def test_volumes_and_models_are_those_of_the_reports(tables: Path) -> None:
    found = ask(tables, NAMED["volumes"].sql)
    assert {row["label"]: row["median_ml"] for row in found}["Left lung"] == pytest.approx(1500.0, abs=0.01)
    assert len(ask(tables, NAMED["failed-checks"].sql)) == len(ask(tables, "FROM checks WHERE NOT passed"))


def test_outlier_is_found_and_nothing_else(tmp_path: Path) -> None:
    hearts = [
        {"series_instance_uid": f"2.25.{n}", "model": "m", "model_version": "1", "structure_code": "80891009",
         "study_instance_uid": "2.25.1", "current": True, "volume_ml": 600.0 + n}
        for n in range(20)
    ]  # fmt: skip
    hearts[7]["volume_ml"] = 2400.0
    hearts[8] |= {"volume_ml": 9000.0, "current": False}
    connection = duckdb.connect()
    connection.register("measurements_wide", pyarrow.Table.from_pylist(hearts))
    found = connection.execute(NAMED["heart-volume-outliers"].sql, {"z": 3.5}).to_arrow_table().to_pylist()
    connection.close()
    assert [row["series_instance_uid"] for row in found] == ["2.25.7"]


def test_two_lines_of_pandas_and_polars_read_a_table(tables: Path) -> None:
    frame = pandas.read_parquet(tables / "measurements_wide.parquet")
    assert frame.groupby("label").volume_ml.median()["Left lung"] == pytest.approx(1500, abs=0.01)
    lazy = polars.scan_parquet(tables / "measurements_wide.parquet")
    assert lazy.filter(polars.col("label") == "Left lung").select("volume_ml").collect().item() == pytest.approx(
        1500, 1e-4
    )


class TestExport:
    def test_cells_that_a_spreadsheet_would_run_are_neutralised(self) -> None:
        text = to_csv(["=name", "value"], [["=1+1", -1.5], ["+x", 2], ["-x", None], ["@x", True], ["\tx", "a"]])
        assert [*csv.reader(text.splitlines())] == [
            ["'=name", "value"], ["'=1+1", "-1.5"], ["'+x", "2"], ["'-x", ""], ["'@x", "True"], ["'\tx", "a"]
        ]  # fmt: skip

    def test_csv_parquet_and_json_hold_the_same(self, tables: Path, tmp_path: Path) -> None:
        sql = "SELECT label, volume_ml, shape_Sphericity FROM measurements_wide ORDER BY label"
        with opened(tables) as connection:
            found = run(connection, sql)
        for ending in ("csv", "parquet", "json"):
            export(found, tmp_path / f"rows.{ending}")
        expected = [(row["label"], row["volume_ml"]) for row in found.to_pylist()]
        with (tmp_path / "rows.csv").open(newline="") as stream:
            assert [(row["label"], float(row["volume_ml"])) for row in csv.DictReader(stream)] == expected
        from_json = json.loads((tmp_path / "rows.json").read_text())
        assert [(row["label"], row["volume_ml"]) for row in from_json] == expected
        assert [*pandas.read_parquet(tmp_path / "rows.parquet").volume_ml] == [volume for _, volume in expected]

    def test_infinite_number_is_null_in_json(self, tables: Path, tmp_path: Path) -> None:
        with opened(tables) as connection:
            export(run(connection, "SELECT 'inf'::DOUBLE AS x"), tmp_path / "rows.json")
        assert json.loads((tmp_path / "rows.json").read_text()) == [{"x": None}]

    def test_other_ending_is_refused(self, tables: Path, tmp_path: Path) -> None:
        with opened(tables) as connection, pytest.raises(ConfigError, match=r"\.csv, \.parquet or \.json"):
            export(run(connection, "SELECT 1 AS x"), tmp_path / "rows.xls")


class TestFolder:
    def test_folder_without_tables_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="holds no tables"):
            table_files(tmp_path)

    def test_table_that_is_not_that_of_the_manifest_is_refused(self, tables: Path, tmp_path: Path) -> None:
        for file in tables.glob("*.parquet"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / MANIFEST).write_text((tables / MANIFEST).read_text())
        assert table_files(tmp_path)
        (tmp_path / "series.parquet").write_bytes(b"PAR1")
        with pytest.raises(ConfigError, match=r"series\.parquet in .* is not the table"):
            table_files(tmp_path)

    def test_folder_with_a_quote_in_its_name_can_be_asked(self, tmp_path: Path) -> None:
        out = tmp_path / "it's; DROP"
        built(write(our_results()[12:14], tmp_path / "in"), out)
        assert ask(out, "SELECT count(*) AS n FROM segments") == [{"n": 5}]
