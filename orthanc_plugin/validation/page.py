"""The report of a validation as one HTML file: no script, no address outside, every plot and picture inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orthanc_plugin.validation import plots
from orthanc_plugin.validation.cases import Row, Status
from orthanc_plugin.validation.landmarks import LandmarkRow
from orthanc_plugin.validation.plots import Plot, Point, scatter
from orthanc_plugin.validation.summary import BlandAltman, MetricSummary, agreement

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class PoorCase:
    """A case that agrees least. picture: as data URI. slice_from_feet: from 1."""

    row: Row
    picture: str
    slice_from_feet: int
    href: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the page of a validation shows. other: what stands in the place of the expert: an expert, or corrections."""

    title: str
    other: str
    rows: tuple[Row, ...]
    metrics: tuple[MetricSummary, ...]
    volumes: tuple[BlandAltman, ...]
    landmarks: tuple[LandmarkRow, ...]
    worst: tuple[PoorCase, ...]
    made: str
    viewer: str = ""


@cache
def templates() -> Environment:
    """Load the templates; they escape all text."""
    pages = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pages.globals["canvas"] = plots
    pages.filters["number"] = number
    return pages


def number(value: float | None, digits: int = 3) -> str:
    """Write a number for people; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def viewer_link(viewer: str, study_uid: str, series_uid: str = "") -> str:
    """Return the address that opens a study in the viewer of the service; empty without a viewer."""
    if not viewer.startswith(("http://", "https://")) or not study_uid:
        return ""
    asked = {"StudyInstanceUID": study_uid} | ({"SeriesInstanceUID": series_uid} if series_uid else {})
    return f"{viewer.rstrip('/')}/enrichment/open?{urlencode(asked)}"


def render_report(report: Report) -> str:
    """Render the page."""
    refused = [row for row in report.rows if row.status in (Status.REFUSED, Status.AMBIGUOUS)]
    compared = [row for row in report.rows if row not in refused]
    return templates().get_template("validation.html").render(
        report=report, refused=refused, compared=compared, plots=volume_plots(report),
        link=lambda row: viewer_link(report.viewer, row.study_instance_uid),
    )  # fmt: skip


def volume_plots(report: Report) -> tuple[Plot, ...]:
    """Make a Bland-Altman plot for each group and structure."""
    found = []
    for limits in agreement(report.rows):
        rows = [
            row
            for row in report.rows
            if (row.model, row.structure, row.status) == (limits.group, limits.structure, Status.BOTH)
        ]
        found.append(_bland_altman(limits, rows, report.viewer))
    return tuple(found)


def _bland_altman(limits: BlandAltman, rows: Sequence[Row], viewer: str) -> Plot:
    points = [
        Point(
            ((row.ai_ml or 0) + (row.expert_ml or 0)) / 2, row.volume_difference_ml or 0,
            f"{row.volume_difference_ml:.1f} mL, Dice {number(row.dice)}, series {row.series_instance_uid}",
            viewer_link(viewer, row.study_instance_uid), _is_outside(row.volume_difference_ml or 0, limits),
        )
        for row in rows
    ]  # fmt: skip
    levels = [(limits.bias_ml, f"bias {limits.bias_ml:.1f}", "bias")]
    for value in (limits.low_ml, limits.high_ml):
        if value is not None:
            levels.append((value, f"{value:.1f}", "limit"))
    title = f"{limits.structure}, {limits.group}" if limits.group else limits.structure
    return scatter(title, ("mean of both (mL)", "AI minus the other (mL)"), points, levels=levels)


def _is_outside(difference_ml: float, limits: BlandAltman) -> bool:
    return (
        limits.low_ml is not None
        and limits.high_ml is not None
        and not limits.low_ml <= difference_ml <= limits.high_ml
    )
