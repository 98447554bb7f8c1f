"""The report of a cohort: one HTML file that needs nothing else, and the same numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orthanc_plugin import __version__
from orthanc_plugin.cohort.drawing import draw
from orthanc_plugin.cohort.findings import Summary
from orthanc_plugin.cohort.points import Figure, Group, Point
from orthanc_plugin.cohort.tables import MISSING
from orthanc_plugin.errors import ConfigError

PAGE, NUMBERS = "report.html", "report.json"
_MOST_OUTLIERS = 25
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says. sources: what it was made of. left_out: what gave no point, and how often."""

    title: str
    sources: tuple[str, ...]
    figures: tuple[Figure, ...]
    summaries: tuple[Summary, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.html` and `report.json` to a folder, and return the former.

    Raises
    ------
    ConfigError
        If Bokeh is missing, or there is nothing to report.
    """
    if not (report.figures or report.summaries):
        raise ConfigError("there is nothing to report: the tables have no rows that a figure shows")
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE
    page.write_text(html_of(report), encoding="utf-8")
    (folder / NUMBERS).write_text(json.dumps(numbers_of(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return page


def numbers_of(report: Report) -> dict[str, object]:
    """Return the statistics of every group, the outliers and the summaries."""
    return {
        "title": report.title,
        "sources": report.sources,
        "figures": [
            {
                "key": figure.key,
                "title": figure.title,
                "unit": figure.unit,
                "groups": [_numbers(group) for group in figure.groups],
            }
            for figure in report.figures
        ],
        "summaries": [asdict(summary) for summary in report.summaries],
        "left_out": dict(report.left_out),
    }


def _numbers(group: Group) -> dict[str, object]:
    values = {name: getattr(group, name) for name in ("name", "count", "median", "q1", "q3", "least", "greatest")}
    return values | {"outliers": [{"series": point.series, "value": point.value} for point in group.outliers]}


def html_of(report: Report) -> str:
    """Return the page; scripts and styles are inside, and it asks nothing of any network."""
    try:
        from bokeh.embed import components
        from bokeh.resources import INLINE
    except ModuleNotFoundError:
        raise ConfigError(MISSING) from None
    drawn = [draw(figure) for figure in report.figures]
    script, places = components([plot for plot, _ in drawn]) if drawn else ("", ())
    parts = [
        {"figure": figure, "place": place, "note": note, "groups": figure.groups}
        for figure, place, (_, note) in zip(report.figures, places, drawn, strict=True)
    ]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = _number
    return environment.get_template("report.html").render(
        report=report,
        parts=parts,
        outliers=_outliers(report.figures),
        most=_MOST_OUTLIERS,
        resources=INLINE.render() if drawn else "",
        script=script,
        version=__version__,
    )


def _outliers(figures: Sequence[Figure]) -> list[tuple[Figure, Group, Point]]:
    """Return the outliers of all figures, those of each group in turn, so that no group takes all the room."""
    lists = [[(figure, group, point) for point in group.outliers] for figure in figures for group in figure.groups]
    longest = max(map(len, lists), default=0)
    return [found[place] for place in range(longest) for found in lists if place < len(found)]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
