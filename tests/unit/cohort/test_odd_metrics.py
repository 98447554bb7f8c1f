"""A CSV of metrics from elsewhere: what is not a number, or what a metric cannot have, is counted as left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from orthanc_plugin.cohort.items import number_of
from orthanc_plugin.cohort.metrics import read_metrics
from orthanc_plugin.errors import ConfigError

HEAD = "structure_name,model,SeriesInstanceUID,dice_score,hausdorff_distance"


def table(folder: Path, *cells: str, head: str = HEAD) -> Path:
    file = folder / "metrics.csv"
    file.write_text("\n".join([head, *(f"Heart,m,1.2.{n},{cell}" for n, cell in enumerate(cells))]), encoding="utf-8")
    return file


def test_values_that_a_metric_cannot_have_are_left_out_and_counted(tmp_path: Path) -> None:
    cells = ['"0,89",3', "0.9,1e400", "0.8,NaN", "-5,1", "1.5,2", "١٢٣,-2", "1_0,4", "1,0", "", "  0.5 , .5e1 "]
    found = read_metrics(table(tmp_path, *cells), lambda study, series: "")
    values = {figure.unit: sorted(point.value for point in figure.points) for figure in found.figures}
    assert values == {"": [0.5, 0.8, 0.9, 1.0], "mm": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    assert found.left_out == {
        "dice_score of Heart is not a number": 4,
        "dice_score of Heart is a value that it cannot have": 2,
        "hausdorff_distance of Heart is not a number": 3,
        "hausdorff_distance of Heart is a value that it cannot have": 1,
    }


@pytest.mark.parametrize("sign", [";", "\t"])
def test_other_separators_are_named(sign: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="separate its columns by commas"):
        read_metrics(table(tmp_path, head=HEAD.replace(",", sign)), lambda study, series: "")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.5", 1.5), ("+.5", 0.5), ("-1e-3", -0.001), ("7.", 7.0), ("1,5", None), ("1_0", None), ("0x1", None),
     ("inf", None), ("1e999", None), ("", None), ("None", None), ("٣", None)],
)  # fmt: skip
def test_numbers_are_those_of_dicom_and_csv(text: str, number: float | None) -> None:
    assert number_of(text) == number
