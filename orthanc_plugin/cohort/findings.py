"""Figures and summaries out of the tables of a cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthanc_plugin.cohort.points import Figure, Point
from orthanc_plugin.cohort.query import opened, run


@dataclass(frozen=True, slots=True)
class Asked:
    """A figure and the query that gives its points: group (label and side), value, model, series and study."""

    key: str
    title: str
    text: str
    unit: str
    sql: str


_STRUCTURES = "Current results only."
_ASKED = (
    Asked(
        "sphericity", "Sphericity", f"How round each structure is (IBSI); 1 is a sphere. {_STRUCTURES}", "1",
        """SELECT label, structure_modifier AS side, shape_Sphericity AS value, model, model_version,
             series_instance_uid, study_instance_uid
           FROM measurements_wide WHERE current AND shape_Sphericity IS NOT NULL ORDER BY ALL""",
    ),
    Asked(
        "volume", "Volume", f"Volume of each structure. {_STRUCTURES}", "mL",
        """SELECT label, structure_modifier AS side, volume_ml AS value, model, model_version, series_instance_uid,
             study_instance_uid
           FROM measurements_wide WHERE current AND volume_ml IS NOT NULL ORDER BY ALL""",
    ),
    Asked(
        "mean-intensity", "Mean intensity", f"Mean HU of each structure. {_STRUCTURES}", "[hnsf'U]",
        """SELECT label, structure_modifier AS side, firstorder_Mean AS value, model, model_version,
             series_instance_uid, study_instance_uid
           FROM measurements_wide WHERE current AND firstorder_Mean IS NOT NULL ORDER BY ALL""",
    ),
    Asked(
        "lung-differences", "Bottom and top of the lungs: slices against masks",
        "Landmark of body part regression minus landmark of the mask of the same series. Above 0, the landmark of body"
        " part regression lies nearer to the head.", "mm",
        """SELECT CASE b.landmark WHEN 'lung_start' THEN 'Bottom' ELSE 'Top' END AS label, '' AS side,
             b.position_mm - m.position_mm AS value, b.model || ' against ' || m.model AS model, '' AS model_version,
             b.series_instance_uid, b.study_instance_uid
           FROM landmarks b JOIN landmarks m
             ON b.series_instance_uid = m.series_instance_uid AND b.landmark = m.landmark
           WHERE b.current AND m.current AND b.kind = 'body-landmarks' AND m.kind = 'landmarks'
             AND b.landmark IN ('lung_start', 'lung_end') AND b.position_mm IS NOT NULL
             AND m.position_mm IS NOT NULL ORDER BY ALL""",
    ),
    Asked(
        "lung-extent", "Height of the lungs", "Top minus bottom of the lungs, by landmarks of each kind.", "mm",
        """SELECT kind AS label, '' AS side, max(position_mm) FILTER (WHERE landmark = 'lung_end')
             - min(position_mm) FILTER (WHERE landmark = 'lung_start') AS value, model, model_version,
             series_instance_uid, study_instance_uid
           FROM landmarks WHERE current AND landmark IN ('lung_start', 'lung_end') AND position_mm IS NOT NULL
           GROUP BY kind, model, model_version, series_instance_uid, study_instance_uid
           HAVING value IS NOT NULL ORDER BY ALL""",
    ),
    Asked(
        "region-shares", "Regions of the body", "Part of the slices that shows each region. Regions overlap.", "1",
        """SELECT region AS label, '' AS side, share AS value, model, model_version, series_instance_uid,
             study_instance_uid
           FROM regions WHERE current AND share IS NOT NULL ORDER BY ALL""",
    ),
)  # fmt: skip

_SUMMARIES: Mapping[str, str] = {
    "Objects": """
        SELECT kind, manufacturer AS maker, count(*) AS objects, count(*) FILTER (WHERE current) AS current,
          count(*) FILTER (WHERE reason != '') AS "with a reason" FROM objects GROUP BY ALL ORDER BY ALL""",
    "Checks of masks": """
        SELECT model, "check", count(*) AS results, count(*) FILTER (WHERE NOT passed) AS failed
        FROM checks WHERE current GROUP BY ALL ORDER BY ALL""",
    "Checks of the input": """
        SELECT "check", count(*) AS series, count(*) FILTER (WHERE NOT passed) AS failed, round(median(value), 3) AS
          median, min(unit) AS unit FROM input_quality WHERE current GROUP BY ALL ORDER BY ALL""",
    "Jobs": "SELECT state, reason, count(*) AS series FROM jobs WHERE current GROUP BY ALL ORDER BY ALL",
    "What objects lack": """
        SELECT reason, count(*) AS objects FROM objects WHERE reason != '' GROUP BY ALL
        ORDER BY objects DESC, reason LIMIT 20""",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """A small table in words."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def figures_of(tables: Path, address: Callable[[str, str], str]) -> Iterator[Figure]:
    """Give the figures of a folder of tables that have points; raise as `query.opened`."""
    with opened(tables) as connection:
        for asked in _ASKED:
            points = tuple(_point(row, address) for row in run(connection, asked.sql).to_pylist())
            if points:
                yield Figure(asked.key, asked.title, asked.text, asked.unit, points)


def _point(row: Mapping[str, Any], address: Callable[[str, str], str]) -> Point:
    label, side = str(row["label"]), str(row["side"])
    group = f"{label} {side}" if side and side.lower() not in label.lower() else label
    series, study = str(row["series_instance_uid"]), str(row["study_instance_uid"])
    note = f"{row['model']} {row['model_version']}".strip()
    return Point(group, float(row["value"]), series, study, note, address(study, series))


def summaries_of(tables: Path) -> Iterator[Summary]:
    """Give the summaries of a folder of tables that have rows; raise as `query.opened`."""
    with opened(tables) as connection:
        for title, sql in _SUMMARIES.items():
            found = run(connection, sql)
            if found.num_rows:
                rows = tuple(
                    tuple("" if value is None else str(value) for value in row.values()) for row in found.to_pylist()
                )
                yield Summary(title, tuple(found.column_names), rows)
