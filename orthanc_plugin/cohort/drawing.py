"""Draw figures with Bokeh: a point for each value, a box for the middle half, a line for the median.

Hover tells the series, and a click on a point opens it in the viewer. Numbers are those of all values; where there are
too many points to draw, a sample and all outliers are drawn, and the figure says so.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orthanc_plugin.cohort.points import Figure, Group, Point

if TYPE_CHECKING:
    from bokeh.plotting import figure as BokehFigure

MOST_POINTS = 3000
_COLOURS = ("#2b6cb0", "#b7791f", "#2f855a", "#c53030", "#6b46c1", "#4a5568")
_SPREAD, _BOX = 0.28, 0.66
_HEIGHT, _WIDTH, _WIDE = 340, 560, 1140
_MANY = 6
_TIP = (
    """<div style="max-width: 34em; overflow-wrap: anywhere"><b>@value{0.[0000]}</b> @group<br>@note<br>@series</div>"""
)


def draw(one: Figure) -> tuple[BokehFigure, str]:
    """Draw a figure, and say what of it is not drawn."""
    from bokeh.models import ColumnDataSource, FactorRange, HoverTool, OpenURL, PlainText, TapTool
    from bokeh.plotting import figure

    groups = one.groups
    shown = drawn_points(one, groups)
    names = short_names([group.name for group in groups])
    plot = figure(
        x_range=FactorRange(factors=[*names.values()]), height=_HEIGHT, width=_WIDE if len(groups) > _MANY else _WIDTH,
        tools="pan,wheel_zoom,box_zoom,reset", toolbar_location="above",
        sizing_mode="scale_width", output_backend="canvas",
    )  # fmt: skip
    plot.yaxis.axis_label = PlainText(text=one.axis)  # text that looks like TeX would ask the network for MathJax
    plot.toolbar.logo = None
    plot.xgrid.grid_line_color = None
    plot.xaxis.major_label_orientation = 0.6 if len(groups) > 3 else 0  # radians
    _add_boxes(plot, groups, names)
    colour = {group.name: _COLOURS[number % len(_COLOURS)] for number, group in enumerate(groups)}
    source = ColumnDataSource(
        {
            "x": [(names[point.group], _jitter(point)) for point in shown],
            "value": [point.value for point in shown],
            "group": [point.group for point in shown],
            "series": [point.series for point in shown],
            "note": [point.note for point in shown],
            "address": [point.address for point in shown],
            "colour": [colour[point.group] for point in shown],
        }
    )
    dots = plot.scatter("x", "value", source=source, size=6, fill_color="colour", line_color=None, alpha=0.65)
    plot.add_tools(HoverTool(renderers=[dots], tooltips=_TIP))
    if any(point.address for point in shown):
        plot.add_tools(TapTool(renderers=[dots], callback=OpenURL(url="@address")))
    left = len(one.points) - len(shown)
    return plot, f"{left:,} of {len(one.points):,} points are not drawn; the numbers count them." if left else ""


def drawn_points(one: Figure, groups: Sequence[Group]) -> list[Point]:
    """Return the points that are drawn: all, or the outliers and a sample with a fixed seed."""
    if len(one.points) <= MOST_POINTS:
        return [*one.points]
    kept = [point for group in groups for point in group.outliers][:MOST_POINTS]
    rest = random.Random(0).sample(range(len(one.points)), MOST_POINTS - len(kept))  # noqa: S311  # no secret
    return [*{id(point): point for point in (*kept, *(one.points[number] for number in sorted(rest)))}.values()]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Leave out what all names end with from the first `-` or `_` on, as long as they stay apart."""
    tail = _common_tail(names)
    cut = {name: name[: len(name) - len(tail)] if tail else name for name in names}
    usable = len(set(cut.values())) == len(names) and all(cut.values())
    return cut if usable else {name: name or "(none)" for name in names}


def _common_tail(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    length = 0
    shortest = min(map(len, names))
    while length < shortest and len({name[-length - 1] for name in names}) == 1:
        length += 1
    tail = names[0][len(names[0]) - length :]
    starts = [at for at in (tail.find("-"), tail.find("_")) if at >= 0]
    return tail[min(starts) :] if starts else ""


def _add_boxes(plot: BokehFigure, groups: Sequence[Group], names: dict[str, str]) -> None:
    from bokeh.models import ColumnDataSource

    at = [names[group.name] for group in groups]
    q1, middle, q3 = ([getattr(group, name) for group in groups] for name in ("q1", "median", "q3"))
    plot.vbar(x=at, bottom=q1, top=q3, width=_BOX, fill_color="#a0aec0", fill_alpha=0.25, line_color="#4a5568")
    middles = ColumnDataSource(
        {"left": [(name, -_BOX / 2) for name in at], "right": [(name, _BOX / 2) for name in at], "median": middle}
    )
    plot.segment("left", "median", "right", "median", source=middles, line_width=3, line_color="#1a202c")


def _jitter(point: Point) -> float:
    """Place a point beside the middle of its group, always in the same place."""
    part = zlib.crc32(f"{point.series} {point.group} {point.note}".encode()) / 0xFFFFFFFF
    return round((part - 0.5) * 2 * _SPREAD, 4)
