"""Places of dots and lines of the plots of a report. The template draws them as SVG; lengths are in canvas units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 460.0, 260.0, 64.0, 12.0, 12.0, 36.0
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Dot:
    """A value and where it lies; `title` says in words what it is, `href` opens it."""

    x: float
    y: float
    title: str
    href: str = ""
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line across the plot at the height of a value; `kind` is `bias` or `limit`."""

    y: float
    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A value of an axis and its place."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of dots over two axes. path: SVG points of a line through the dots; empty without one."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    lines: tuple[Line, ...] = ()
    path: str = ""
    band: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A point to plot, in the units of its axes."""

    x: float
    y: float
    title: str
    href: str = ""
    is_bad: bool = False


def scatter(
    title: str,
    axes: tuple[str, str],
    points: Sequence[Point],
    *,
    levels: Sequence[tuple[float, str, str]] = (),
    band: tuple[float, float] | None = None,
    joined: bool = False,
) -> Plot:
    """Place points on a canvas.

    Parameters
    ----------
    title : str
    axes : (str, str)
        What x and y are, with units.
    points : sequence of Point
        At least one.
    levels : sequence of (value, label, kind)
        Lines across.
    band : (low, high), optional
        A shaded range of y.
    joined : bool
        Draw a line through the points, in their order.
    """
    across = _span([point.x for point in points])
    up = _span([*(point.y for point in points), *(value for value, _, _ in levels), *(band or ())])

    def x(value: float) -> float:
        return round(LEFT + (value - across[0]) / (across[1] - across[0]) * (WIDTH - LEFT - RIGHT), 2)

    def y(value: float) -> float:
        return round(HEIGHT - FOOT - (value - up[0]) / (up[1] - up[0]) * (HEIGHT - FOOT - TOP), 2)

    dots = tuple(Dot(x(p.x), y(p.y), p.title, p.href, p.is_bad) for p in points)
    return Plot(
        title, *axes,
        tuple(Tick(x(value), f"{value:.4g}") for value in _ticks(across)),
        tuple(Tick(y(value), f"{value:.4g}") for value in _ticks(up)),
        dots,
        tuple(Line(y(value), label, kind) for value, label, kind in levels),
        " ".join(f"{dot.x},{dot.y}" for dot in dots) if joined else "",
        (y(band[1]), y(band[0])) if band else None,
    )  # fmt: skip


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks(span: tuple[float, float]) -> list[float]:
    step = (span[1] - span[0]) / (_TICKS + 1)
    return [span[0] + step * (number + 1) for number in range(_TICKS)]
