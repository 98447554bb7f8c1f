"""The score curve of a located scan: the places of its dots, curve, landmarks and regions on a canvas.

This module computes places only. The template draws them as SVG, and the style sheet colours them. Slices run from the
feet (left) to the head (right), scores run upward. Lengths are in canvas units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby

from orthanc_plugin.domain.body import BodyLandmark, BodyLocation, Region

WIDTH, LEFT, RIGHT = 960.0, 112.0, 16.0
CURVE_HEIGHT, LANE_HEIGHT, FOOT = 300.0, 22.0, 44.0
_LABELS, _NO_LABELS = 92.0, 12.0
_LABEL_STEP = 13.0
_LEVEL_STEP = 6.5
"""Percent between the labels of levels, where there is room for all of them: one line on the screen of a phone."""
_MOST_TICKS = 12
_SMALLEST_SPAN = 20


@dataclass(frozen=True, slots=True)
class Tick:
    """A value of an axis and its place on the canvas."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A landmark on the curve. Its label is above, moved aside where labels would overlap."""

    x: float
    y: float
    label_x: float
    key: str


@dataclass(frozen=True, slots=True)
class Band:
    """An unbroken run of slices of a region; `first` and `last` count from 0."""

    x: float
    width: float
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A region below the curve: a row of bands. `y` is the top of the row."""

    region: Region
    y: float
    bands: tuple[Band, ...]


@dataclass(frozen=True, slots=True)
class ScorePlot:
    """Everything that the template draws.

    dots: raw scores, as the data of one SVG path.
    curve: cleaned scores, as a path with gaps at slices that are not part of the body.
    text: description of the picture in words.
    """

    dots: str
    curve: str
    marks: tuple[Mark, ...]
    lanes: tuple[Lane, ...]
    slice_ticks: tuple[Tick, ...]
    score_ticks: tuple[Tick, ...]
    text: str
    top: float
    width: float = field(default=WIDTH)
    left: float = field(default=LEFT)
    right: float = field(default=WIDTH - RIGHT)

    @property
    def bottom(self) -> float:
        """Lower end of the curve, where the lanes begin."""
        return self.top + CURVE_HEIGHT

    @property
    def foot(self) -> float:
        """Lower end of the lanes, where the slice numbers begin."""
        return self.bottom + 8 + LANE_HEIGHT * len(self.lanes)

    @property
    def height(self) -> float:
        """Height of the whole canvas."""
        return self.foot + FOOT


def plot_scores(location: BodyLocation) -> ScorePlot | None:
    """Lay out the picture of a location; None if no slice has a score."""
    known = [score for score in (*location.raw_scores, *location.scores) if score is not None]
    if not known:
        return None
    canvas = _Canvas.of(known, len(location.scores), _LABELS if location.landmarks else _NO_LABELS)
    ends = range(canvas.low, canvas.high + 1, _nice_step(canvas.high - canvas.low))
    step = _nice_step(canvas.count)
    numbers = sorted({1, *range(step, canvas.count + 1, step)})
    return ScorePlot(
        dots="".join(f"M{x:.1f} {y:.1f}h0" for x, y in canvas.points(location.raw_scores)),
        curve=_broken_line(location.scores, canvas),
        marks=_marks(location, canvas),
        lanes=tuple(_lanes(location, canvas)),
        slice_ticks=tuple(Tick(canvas.x(number - 1), str(number)) for number in numbers),
        score_ticks=tuple(Tick(canvas.y(score), str(score)) for score in ends),
        text=_in_words(location, known),
        top=canvas.top,
    )


def runs(slices: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last slice of each unbroken run."""
    grouped = groupby(enumerate(slices), lambda pair: pair[1] - pair[0])
    spans = [[index for _, index in group] for _, group in grouped]
    return [(span[0], span[-1]) for span in spans]


@dataclass(frozen=True, slots=True)
class _Canvas:
    """Maps slices and scores to places on the canvas."""

    low: int
    high: int
    count: int
    top: float

    @classmethod
    def of(cls, scores: Sequence[float], count: int, top: float) -> _Canvas:
        low, high = int(min(scores) // 10 * 10), int(-(-max(scores) // 10) * 10)
        return cls(low, max(high, low + _SMALLEST_SPAN), count, top)

    def x(self, index: float) -> float:
        return round(LEFT + (index + 0.5) / self.count * (WIDTH - LEFT - RIGHT), 1)

    def y(self, score: float) -> float:
        return round(self.top + (self.high - score) / (self.high - self.low) * CURVE_HEIGHT, 1)

    def points(self, scores: Iterable[float | None]) -> Iterator[tuple[float, float]]:
        return ((self.x(index), self.y(score)) for index, score in enumerate(scores) if score is not None)


def _nice_step(span: int) -> int:
    """Choose 1, 2 or 5 times a power of ten, so that an axis has at most a dozen numbers."""
    steps = (int(digit * 10**power) for power in count() for digit in (1, 2, 5))
    return next(step for step in steps if span / step <= _MOST_TICKS)


def _broken_line(scores: Sequence[float | None], canvas: _Canvas) -> str:
    before: float | None = None
    parts = []
    for index, score in enumerate(scores):
        if score is not None:
            parts.append(f"{'M' if before is None else 'L'}{canvas.x(index):.1f} {canvas.y(score):.1f}")
        before = score
    return "".join(parts)


def _marks(location: BodyLocation, canvas: _Canvas) -> tuple[Mark, ...]:
    """Place landmarks in the order of slices. Where no score is near, the mark sits on the axis."""
    found = sorted(location.landmarks, key=lambda landmark: (_slice(landmark, location), landmark.key))
    places = [canvas.x(_slice(landmark, location)) for landmark in found]
    return tuple(
        Mark(x, canvas.y(_score(landmark, location, canvas)), label_x, landmark.key)
        for landmark, x, label_x in zip(found, places, _apart(places), strict=True)
    )


def _slice(landmark: BodyLandmark, location: BodyLocation) -> float:
    """Return the position of the level itself, between slices."""
    index, z_mm = landmark.slice_index, location.z_mm
    for lower, upper in ((index - 1, index), (index, index + 1)):
        if lower >= 0 and upper < len(z_mm) and z_mm[lower] <= landmark.z_mm <= z_mm[upper]:
            return lower + (landmark.z_mm - z_mm[lower]) / ((z_mm[upper] - z_mm[lower]) or 1.0)
    return float(index)


def _score(landmark: BodyLandmark, location: BodyLocation, canvas: _Canvas) -> float:
    at = _slice(landmark, location)
    lower = min(int(at), len(location.scores) - 1)
    here, there = location.scores[lower], location.scores[min(lower + 1, len(location.scores) - 1)]
    if here is None or there is None:
        return next((score for score in (here, there) if score is not None), float(canvas.low))
    return here + (at - lower) * (there - here)


def _apart(places: Sequence[float]) -> list[float]:
    """Move places apart, in their order, until no two are closer than a line of text."""
    moved = list(places)
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + _LABEL_STEP)
    limit = WIDTH - RIGHT
    for index in reversed(range(len(moved))):
        moved[index] = round(min(moved[index], limit), 1)
        limit = moved[index] - _LABEL_STEP
    return moved


def _lanes(location: BodyLocation, canvas: _Canvas) -> Iterator[Lane]:
    """List the lanes of the regions from the head down."""
    shown = [region for region in reversed(Region) if location.regions.get(region)]
    for row, region in enumerate(shown):
        bands = tuple(
            Band(left := canvas.x(first - 0.5), round(canvas.x(last + 0.5) - left, 1), first, last)
            for first, last in runs(location.regions[region])
        )
        yield Lane(region, canvas.top + CURVE_HEIGHT + 8 + LANE_HEIGHT * row, bands)


def _in_words(location: BodyLocation, known: Sequence[float]) -> str:
    landmarks = ", ".join(f"{found.key} at slice {found.slice_index + 1}" for found in location.landmarks)
    regions = ", ".join(
        f"{region} in slices {' and '.join(f'{first + 1} to {last + 1}' for first, last in runs(slices))}"
        for region, slices in location.regions.items()
    )
    return (
        f"Scores of {len(location.scores)} slices from the feet to the head, between {min(known):.0f} and"
        f" {max(known):.0f}. Landmarks: {landmarks or 'none'}. Regions: {regions or 'none'}."
    )


@dataclass(frozen=True, slots=True)
class Level:
    """A landmark beside a picture: its height and that of its label, in percent from the top."""

    key: str
    at: float
    label_at: float


def spread(heights: Mapping[str, float]) -> tuple[Level, ...]:
    """Move the labels of levels apart where they would overlap; they stay on the picture, from the top down."""
    levels: list[Level] = []
    step = min(_LEVEL_STEP, 100.0 / max(1, len(heights)))
    below = 100.0 - step * (len(heights) - 0.5)
    for number, (key, at) in enumerate(sorted(heights.items(), key=lambda item: item[1])):
        least = levels[-1].label_at + step if levels else step / 2
        levels.append(Level(key, at, round(max(least, min(at, below + step * number)), 3)))
    return tuple(levels)
