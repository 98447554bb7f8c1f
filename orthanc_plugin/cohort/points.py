"""What a report draws: figures of points in groups, with the statistics of each group."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orthanc_plugin.config.base import VIEWER_FIELDS
from orthanc_plugin.domain.uids import is_uid

_MAD_TO_SD = 1.4826
_OUTLYING = 3.5
"""Robust standard deviations from the median. Source: Iglewicz and Hoaglin 1993, modified z score."""
_FEWEST = 5
_WORDS = {"[hnsf'U]": "HU", "1": ""}


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one series.

    group: what it is drawn over, such as a model. address: where the viewer opens the series; empty for nowhere.
    """

    group: str
    value: float
    series: str = ""
    study: str = ""
    note: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The statistics of one group. outliers: its points far from the median, the farthest first."""

    name: str
    count: int
    median: float
    q1: float
    q3: float
    least: float
    greatest: float
    outliers: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    key: name for machines. unit: UCUM, or empty. text: what it shows and how, in sentences.
    """

    key: str
    title: str
    text: str
    unit: str
    points: tuple[Point, ...]

    @property
    def unit_in_words(self) -> str:
        """The unit as people write it; empty for a number without one."""
        return _WORDS.get(self.unit, self.unit)

    @property
    def axis(self) -> str:
        """Name of the axis: the last part of the title, and the unit."""
        unit = f" ({self.unit_in_words})" if self.unit_in_words else ""
        return f"{self.title.rpartition(': ')[2]}{unit}"

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order in which they first come."""
        names = dict.fromkeys(point.group for point in self.points)
        return tuple(_group(name, [point for point in self.points if point.group == name]) for name in names)


def _group(name: str, points: Sequence[Point]) -> Group:
    values = sorted(point.value for point in points)
    quarters = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Group(
        name, len(values), statistics.median(values), quarters[0], quarters[2], values[0], values[-1], outliers(points)
    )


def outliers(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points more than 3.5 robust standard deviations from the median, the farthest first.

    Groups of fewer than five points have none.
    """
    if len(points) < _FEWEST:
        return ()
    middle = statistics.median(point.value for point in points)
    deviation = _MAD_TO_SD * statistics.median(abs(point.value - middle) for point in points)
    found = [point for point in points if abs(point.value - middle) > _OUTLYING * deviation]
    return tuple(sorted(found, key=lambda point: (-abs(point.value - middle), point.series)))


def addresser(template: str) -> Callable[[str, str], str]:
    """Return what makes the address of a series in a viewer.

    Parameters
    ----------
    template : str
        As the setting `Viewer.Url`: an address with {StudyInstanceUID}, and {SeriesInstanceUID} if wanted.

    Returns
    -------
    callable
        Takes StudyInstanceUID and SeriesInstanceUID; gives an empty text unless all UIDs that it needs are valid.
    """

    def address(study: str, series: str) -> str:
        text = template
        for field, uid in zip(VIEWER_FIELDS, (study, series, ""), strict=True):
            if f"{{{field}}}" in text:
                if not is_uid(uid):
                    return ""
                text = text.replace(f"{{{field}}}", uid)
        return text

    return address
