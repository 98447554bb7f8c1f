"""Where in the body a CT lies: a score for each slice, and the landmarks and regions that follow from the scores.

Scores rise toward the head, on one scale for all people: 0 at the start of the pelvis, 100 at the end of the eyes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from math import isfinite
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.errors import ModelError


class Region(StrEnum):
    """Regions of the body; neighbours overlap by design."""

    LEGS = "legs"
    PELVIS = "pelvis"
    ABDOMEN = "abdomen"
    CHEST = "chest"
    SHOULDER_NECK = "shoulder-neck"
    HEAD = "head"


def _hundredths(value: float) -> float:
    return round(float(value), 2)


def _hundred_thousandths(value: float) -> float:
    return round(float(value), 5)


def _runs(slices: Sequence[int]) -> list[list[int]]:
    """Write slices as the first and last one of each unbroken run."""
    ends = [i for i in range(len(slices)) if i + 1 == len(slices) or slices[i + 1] != slices[i] + 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [[int(slices[start]), int(slices[end])] for start, end in zip(starts, ends, strict=True)]


def _slices(runs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(index for first, last in runs for index in range(first, last + 1))


_Rounded = Annotated[float, PlainSerializer(_hundredths)]
"""A score, or a place in mm."""
_Ratio = Annotated[float, PlainSerializer(_hundred_thousandths)]
"""A ratio, or a slope per mm."""
_Slices = Annotated[tuple[int, ...], BeforeValidator(_slices), PlainSerializer(_runs)]


@dataclass(frozen=True, slots=True)
class BodyLandmark:
    """A level of the body inside the scan.

    key: name in the look-up table, e.g. `Th12` or `lung_start`.
    slice_index: index into the volume's z axis of the slice nearest to the level.
    z_mm: position of the level itself on the head-foot axis (LPS z); it may lie between slices.
    sd_mm: standard deviation of the landmark's score in the look-up table, converted to mm by the slope.
    """

    key: str
    slice_index: int
    z_mm: _Rounded
    sd_mm: _Rounded


@dataclass(frozen=True, slots=True)
class BodyLocation(JsonRecord):
    """What body part regression finds in one volume. Tuples have one value per slice, with z rising.

    raw_scores: scores of the network on the common scale; None for a slice that shows no body.
    scores: smoothed and cleaned scores; None for a slice that is no valid part of the body.
    z_mm: position of each slice (LPS z).
    regions: slice indices of each region, rising; a region without a slice has no entry.
    coverage: for each region, the part of its score range that lies in the scan, 0 to 1.
    slope_per_mm: slope of the line through the scores.
    slope_ratio: that slope relative to the model's mean slope.
    expected_spacing_mm: slice spacing at which the slope would be the model's mean slope.
    valid_spacing: whether the ratio is near 1.
    reversed: whether scores fall toward the head.
    tag: BodyPartExamined by the published rules, e.g. `CHEST`, `ABDOMEN-CHEST` or `NONE`.
    reason: why there is no valid region; empty if there is one.
    notes: what else people should know.

    JSON holds rounded scores and places, and slices as runs: a scan of a thousand slices takes about 20 KiB.

    Raises
    ------
    ModelError
        If a score, place or ratio is not a finite number.
    """

    raw_scores: tuple[_Rounded | None, ...]
    scores: tuple[_Rounded | None, ...]
    z_mm: tuple[_Rounded, ...]
    landmarks: tuple[BodyLandmark, ...]
    regions: Mapping[Region, _Slices]
    coverage: Mapping[Region, _Ratio]
    slope_per_mm: _Ratio | None
    slope_ratio: _Ratio | None
    expected_spacing_mm: _Ratio | None
    valid_spacing: bool
    reversed: bool
    tag: str
    reason: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that every number is finite."""
        slopes = (self.slope_per_mm, self.slope_ratio, self.expected_spacing_mm)
        landmarks = chain.from_iterable((found.z_mm, found.sd_mm) for found in self.landmarks)
        numbers = chain(self.raw_scores, self.scores, self.z_mm, landmarks, self.coverage.values(), slopes)
        if not all(number is None or isfinite(number) for number in numbers):
            raise ModelError(
                "body part regression gave a score that is not a number; convert or install the model again"
            )

    @property
    def recorded(self) -> BodyLocation:
        """The location as its record gives it back, so that an interrupted job goes on like any other."""
        return BodyLocation.from_json(self.to_json())
