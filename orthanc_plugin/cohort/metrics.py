"""Tables of AI against experts, a row for each series, structure and model, in the form in which they were published.

Source of the form: Krishnaswamy et al., Scientific Data 2024;11:25, segmentation_metrics_expert_vs_ai.csv. Landmarks
come in the same form, with `difference_mm` in place of the distances of masks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orthanc_plugin.cohort.items import number_of, text_of
from orthanc_plugin.cohort.points import Figure, Point
from orthanc_plugin.errors import ConfigError

_NEEDED = ("SeriesInstanceUID", "structure_name", "model")
_POSITIONS = ("ai_mm", "expert_mm")
_DIFFERENCE = "difference_mm"
_OF_VALIDATE = {
    "series_instance_uid": "SeriesInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "patient": "PatientID",
    "structure": "structure_name",
    "dice": "dice_score",
    "hausdorff_mm": "hausdorff_distance",
    "hd95_mm": "hausdorff_distance_95",
}
"""Columns that `orthanc-enrich validate` writes, and their names in the published table."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One column that is drawn."""

    column: str
    title: str
    unit: str
    text: str
    least: float = -math.inf
    most: float = math.inf


METRICS = (
    Metric("dice_score", "Dice coefficient", "", "1 for masks that are equal, 0 for masks that share no voxel.", 0, 1),
    Metric("hausdorff_distance", "Hausdorff distance", "mm", "The largest distance of one surface to the other.", 0),
    Metric(
        "hausdorff_distance_95", "95 % Hausdorff distance", "mm", "The distance that 95 % of the surface keeps to.", 0
    ),
    Metric(_DIFFERENCE, "Position, AI minus expert", "mm", "Above 0, the AI lies nearer to the head."),
)


@dataclass(frozen=True, slots=True)
class Table:
    """What was read of one file. left_out: why cells or rows gave no point, and how often."""

    figures: tuple[Figure, ...]
    left_out: Mapping[str, int]


def read_metrics(file: Path, address: Callable[[str, str], str]) -> Table:
    """Read a CSV file: a figure for each structure and metric, with a group for each model.

    Parameters
    ----------
    file : Path
    address : callable
        Gives the address of a series, where the row has no `viewer_url` of http or https.

    Raises
    ------
    ConfigError
        If the file is not such a table.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            reader.fieldnames = names = [_OF_VALIDATE.get(name, name) for name in reader.fieldnames or ()]
            rows = [*reader]
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"{file.name} is not a CSV table in UTF-8") from None
    known = [metric for metric in METRICS if metric.column in names or _is_positions(metric, names)]
    missing = [name for name in _NEEDED if name not in names]
    if missing or not known:
        lacks = ", ".join(missing) or f"any of {', '.join(metric.column for metric in METRICS)}"
        hint = "; separate its columns by commas" if len(names) == 1 and any(s in names[0] for s in ";\t|") else ""
        raise ConfigError(f"{file.name} is not a table of AI against experts: it lacks {lacks}{hint}")
    left_out: dict[str, int] = {}
    figures = tuple(_figures(rows, known, address, left_out))
    return Table(figures, left_out)


def _figures(
    rows: Sequence[Mapping[str, str | None]],
    metrics: Iterable[Metric],
    address: Callable[[str, str], str],
    left_out: dict[str, int],
) -> Iterator[Figure]:
    structures = sorted({text_of(row.get("structure_name")) for row in rows})
    for structure in structures:
        own = [row for row in rows if text_of(row.get("structure_name")) == structure]
        for metric in metrics:
            points = []
            for row in own:
                value = _value(row, metric)
                if value is None or not metric.least <= value <= metric.most:
                    what = "is not a number" if value is None else "is a value that it cannot have"
                    why = f"{metric.column} of {structure or 'a row without structure'} {what}"
                    left_out[why] = left_out.get(why, 0) + 1
                else:
                    points.append(_point(row, value, address))
            if points:
                points.sort(key=lambda point: (point.group, point.series))
                title = f"{structure}: {metric.title}"
                key = f"{structure} {metric.column}".lower().replace(" ", "-")
                yield Figure(key, title, f"AI against experts. {metric.text}", metric.unit, tuple(points))


def _is_positions(metric: Metric, names: Sequence[str]) -> bool:
    return metric.column == _DIFFERENCE and all(name in names for name in _POSITIONS)


def _value(row: Mapping[str, str | None], metric: Metric) -> float | None:
    if metric.column == _DIFFERENCE and not row.get(_DIFFERENCE):
        ai, expert = (number_of(row.get(name)) for name in _POSITIONS)
        return None if ai is None or expert is None else ai - expert
    return number_of(row.get(metric.column))


def _point(row: Mapping[str, str | None], value: float, address: Callable[[str, str], str]) -> Point:
    series, study = text_of(row.get("SeriesInstanceUID")), text_of(row.get("StudyInstanceUID"))
    stated = str(row.get("viewer_url") or "")
    link = stated if _is_web(stated) else address(study, series)
    return Point(text_of(row.get("model")), value, series, study, text_of(row.get("PatientID")), link)


def _is_web(address: str) -> bool:
    """Tell whether an address is one of http or https: any other could run code in the page."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and not set(address) & set("\"'<>`\\ \n\r\t")
