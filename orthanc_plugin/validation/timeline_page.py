"""The page of a patient over time: a plot and a table for each structure; one HTML file without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from orthanc_plugin import __version__
from orthanc_plugin.validation.page import templates, viewer_link
from orthanc_plugin.validation.plots import Plot, Point, scatter
from orthanc_plugin.validation.timeline import Change, Value


def render_timeline(values: Sequence[Value], notes: Sequence[str], viewer: str = "") -> str:
    """Render the page; patients are not named on it."""
    groups = [(key, list(members)) for key, members in groupby(values, _group)]
    made = f"Made by orthanc-enrichment {__version__}."
    return templates().get_template("timeline.html").render(
        groups=[(_plot(members, viewer), members) for _, members in groups], notes=notes,
        link=lambda value: viewer_link(viewer, value.study_instance_uid), made=made,
    )  # fmt: skip


def _group(value: Value) -> tuple[str, ...]:
    return value.structure, value.model, value.model_digest, value.measure


def _plot(values: Sequence[Value], viewer: str) -> Plot:
    """Plot values over days; the band is what repeated measurements of the first value would give."""
    is_dated = all(value.days is not None for value in values)
    points = [
        Point(
            float(value.days or 0) if is_dated else float(index), value.value,
            f"{value.date}: {value.value:.4g} {value.unit}, {value.change}",
            viewer_link(viewer, value.study_instance_uid), value.change is Change.BEYOND,
        )
        for index, value in enumerate(values)
    ]  # fmt: skip
    first = values[0]
    band = None
    if first.low_percent is not None and first.high_percent is not None:
        band = (first.value * (1 + first.low_percent / 100), first.value * (1 + first.high_percent / 100))
    axes = ("days since the first study" if is_dated else "studies", f"{first.measure} ({first.unit})")
    return scatter(f"{first.structure}, {first.model}", axes, points, band=band, joined=True)
