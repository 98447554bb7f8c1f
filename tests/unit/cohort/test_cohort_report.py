"""The report: medians of the published table, landmark tables of the same form, and what is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pytest

from orthanc_plugin.cli.main import EXIT_CONFIG, EXIT_DONE, main
from orthanc_plugin.cohort.drawing import MOST_POINTS, drawn_points, short_names
from orthanc_plugin.cohort.metrics import read_metrics
from orthanc_plugin.cohort.points import Figure, Point, addresser, outliers
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.validation.cases import Row, Status
from orthanc_plugin.validation.tables import write_tables
from tests.support.cases.cohort_case import built, our_results, shared, write

PUBLISHED = "sci_data_2024/segmentation_metrics_expert_vs_ai.csv"
MEDIANS = {
    ("Heart", "2d"): (0.893, 21.10, 3.46),
    ("Heart", "3d_lowres"): (0.890, 21.00, 3.83),
    ("Heart", "3d_fullres"): (0.890, 21.00, 3.63),
    ("Esophagus", "2d"): (0.767, 16.72, 4.46),
    ("Esophagus", "3d_lowres"): (0.757, 15.56, 4.34),
    ("Esophagus", "3d_fullres"): (0.782, 15.25, 4.01),
}
"""Dice, Hausdorff and 95 % Hausdorff of each structure and model variant, as the study states them, to its digits."""


def nowhere(study: str, series: str) -> str:
    return ""


def medians(figures: tuple[Figure, ...]) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for figure in figures:
        structure, metric = figure.title.split(": ")
        for group in figure.groups:
            found.setdefault((structure, group.name.partition("-tta")[0]), {})[metric] = group.median
    return found


def test_published_table_gives_the_medians_of_the_study() -> None:
    found = medians(read_metrics(shared(PUBLISHED, folder="reference"), nowhere).figures)
    assert found.keys() == MEDIANS.keys()
    for row, (dice, hausdorff, hausdorff_95) in MEDIANS.items():
        assert found[row]["Dice coefficient"] == pytest.approx(dice, abs=6e-4)
        assert found[row]["Hausdorff distance"] == pytest.approx(hausdorff, abs=6e-3)
        assert found[row]["95 % Hausdorff distance"] == pytest.approx(hausdorff_95, abs=6e-3)


def test_statistics_are_those_of_duckdb() -> None:
    file = shared(PUBLISHED, folder="reference")
    sql = """SELECT structure_name, model, median(dice_score), quantile_cont(dice_score, 0.25),
        quantile_cont(dice_score, 0.75), count(*) FROM read_csv(?) GROUP BY ALL"""
    with duckdb.connect() as connection:
        expected = {row[:2]: row[2:] for row in connection.execute(sql, [str(file)]).fetchall()}
    figures = [one for one in read_metrics(file, nowhere).figures if "Dice" in one.title]
    for figure in figures:
        for group in figure.groups:
            values = expected[figure.title.split(": ")[0], group.name]
            assert (group.median, group.q1, group.q3, group.count) == pytest.approx(values)


def test_points_open_the_viewer_that_the_table_names() -> None:
    table = read_metrics(shared(PUBLISHED, folder="reference"), nowhere)
    assert all(p.address.startswith("https://viewer.imaging.datacommons") for f in table.figures for p in f.points)


class TestLandmarks:
    def test_positions_and_differences_give_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(
            "SeriesInstanceUID,structure_name,model,ai_mm,expert_mm\n"
            "1.2.1,lung_start,bpr,-250.5,-248\n1.2.2,lung_start,bpr,-240,-250\n1.2.1,lung_end,bpr,10,8\n"
        )
        (tmp_path / "b.csv").write_text(
            "SeriesInstanceUID,structure_name,model,difference_mm\n"
            "1.2.1,lung_start,bpr,-2.5\n1.2.2,lung_start,bpr,10\n1.2.1,lung_end,bpr,2\n"
        )
        positions, differences = (read_metrics(tmp_path / name, nowhere).figures for name in ("a.csv", "b.csv"))
        assert positions == differences
        assert {f.title: f.groups[0].median for f in positions} == {
            "lung_end: Position, AI minus expert": 2.0,
            "lung_start: Position, AI minus expert": 3.75,
        }


def test_cases_of_validate_are_such_a_table(tmp_path: Path) -> None:
    both = Row(Status.BOTH, "Heart", dice=0.9, hausdorff_mm=9.0, hd95_mm=3.0, model="m 1", series_instance_uid="1.2.3")
    refused = Row(Status.REFUSED, "Heart", model="m 1", series_instance_uid="1.2.4", reason="another grid")
    (file, *_) = write_tables(tmp_path, "validation", Row, [both, refused])
    table = read_metrics(file, nowhere)
    assert {figure.title: figure.groups[0].median for figure in table.figures} == {
        "Heart: Dice coefficient": 0.9,
        "Heart: Hausdorff distance": 9.0,
        "Heart: 95 % Hausdorff distance": 3.0,
    }
    assert set(table.left_out.values()) == {1}


class TestOddTables:
    def test_cells_that_are_no_numbers_are_counted(self, tmp_path: Path) -> None:
        file = tmp_path / "odd.csv"
        file.write_text(
            "SeriesInstanceUID,structure_name,model,dice_score\n1.2,Heart,m,nan\n1.3,Heart,m,\n1.4,Heart,m,0.5\n"
        )
        table = read_metrics(file, nowhere)
        assert table.figures[0].groups[0].count == 1
        assert table.left_out == {"dice_score of Heart is not a number": 2}

    @pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "SeriesInstanceUID,structure_name,model,x\n1,2,3,4\n"])
    def test_other_tables_are_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(ConfigError, match="not a table of AI against experts: it lacks"):
            read_metrics(tmp_path / "x.csv", nowhere)

    def test_bytes_that_are_no_text_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x81")
        with pytest.raises(ConfigError, match="UTF-8"):
            read_metrics(tmp_path / "x.csv", nowhere)


class TestPoints:
    def test_outliers_are_far_from_the_median_and_the_farthest_comes_first(self) -> None:
        values = [*range(20), 60, 90]
        found = outliers([Point("g", float(value), str(value)) for value in values])
        assert [point.value for point in found] == [90, 60]

    def test_equal_values_have_no_outlier_but_the_one_that_differs(self) -> None:
        assert [p.value for p in outliers([Point("g", value) for value in (1.0,) * 9 + (2.0,)])] == [2.0]

    def test_few_points_have_no_outlier(self) -> None:
        assert outliers([Point("g", value) for value in (1.0, 1.0, 1.0, 9.0)]) == ()

    def test_sample_is_fixed_and_holds_the_outliers(self) -> None:
        points = (
            *tuple(Point("g", float(number % 50), str(number)) for number in range(9999)),
            Point("g", 1000000.0, "far"),
        )
        figure = Figure("k", "t", "", "", points)
        drawn = drawn_points(figure, figure.groups)
        assert drawn == drawn_points(figure, figure.groups)
        assert len(drawn) <= MOST_POINTS
        assert any(point.series == "far" for point in drawn)

    def test_address_needs_valid_uids(self) -> None:
        address = addresser("https://v/?s={StudyInstanceUID}&q={SeriesInstanceUID}")
        assert address("1.2", "1.3") == "https://v/?s=1.2&q=1.3"
        assert address("1.2", "1.3&x=1") == address("", "1.3") == ""

    def test_names_lose_what_all_of_them_end_with(self) -> None:
        assert short_names(["2d-tta_x", "3d_fullres-tta_x"]) == {"2d-tta_x": "2d", "3d_fullres-tta_x": "3d_fullres"}
        assert short_names(["a", "b", ""]) == {"a": "a", "b": "b", "": "(none)"}
        assert short_names(["-x", "a-x"]) == {"-x": "-x", "a-x": "a-x"}


def test_report_of_tables_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(write(our_results(), tmp_path / "in"), tmp_path / "tables")
    command = ["cohort", "report", "--tables", str(tmp_path / "tables"), "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == EXIT_DONE
    said = json.loads(capsys.readouterr().out)
    extent = next(figure for figure in said["figures"] if figure["key"] == "lung-extent")
    assert {group["name"]: group["median"] for group in extent["groups"]}["landmarks"] == 35.0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["figures"] == said["figures"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r"<(script|link|img|iframe)[^>]+(src|href)=.http", page) is None
    assert "/enrichment/open?StudyInstanceUID=2.25.100" in page


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    assert main(["cohort", "report", "--out", str(tmp_path)]) == EXIT_CONFIG
    csv = tmp_path / "x.csv"
    csv.write_text("SeriesInstanceUID,structure_name,model,dice_score\n1.2,Heart,m,0.5\n")
    command = ["cohort", "report", "--metrics", str(csv), "--out", str(tmp_path), "--viewer", "javascript:alert(1)"]
    assert main(command) == EXIT_CONFIG
