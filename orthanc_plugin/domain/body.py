"""Where in the body a CT lies: a score for each slice, and the landmarks and regions that follow from the scores.

Scores rise toward the head on one scale for all people (pelvis start 0, end of the eyes 100).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Region(StrEnum):
    """Regions of the body; neighbours overlap by design."""

    LEGS = "legs"
    PELVIS = "pelvis"
    ABDOMEN = "abdomen"
    CHEST = "chest"
    SHOULDER_NECK = "shoulder-neck"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class BodyLandmark:
    """A level of the body inside the scan.

    key: as the look-up table names it, `Th12`, `lung_start`.
    slice_index: index into the volume's z axis, the source slice nearest to the level.
    z_mm: of the level itself along the patient's head-foot axis (LPS z), between slices.
    sd_mm: standard deviation of the landmark's score in the look-up table, by the slope in mm.
    """

    key: str
    slice_index: int
    z_mm: float
    sd_mm: float


@dataclass(frozen=True, slots=True)
class BodyLocation:
    """What body part regression says of one volume; lists run over slices, z rising.

    raw_scores: transformed to the common scale, as the network gives them; None where a slice shows no body.
    scores: smoothed and cleaned, None where a slice is no valid part of the body.
    z_mm: of each slice (LPS z).
    regions: slice indices of each region, rising; a region without a slice has no entry.
    coverage: of each region the part of its score range that lies in the scan, 0 to 1.
    slope_per_mm, slope_ratio, expected_spacing_mm: of the line through the scores; the ratio is to the model's mean.
    valid_spacing: whether the ratio is near 1. reversed: whether scores fall toward the head.
    tag: BodyPartExamined by the published rules, e.g. `CHEST`, `ABDOMEN-CHEST`; `NONE`.
    reason: why there is no valid region; empty where there is one.
    notes: what else people should know.
    """

    raw_scores: tuple[float | None, ...]
    scores: tuple[float | None, ...]
    z_mm: tuple[float, ...]
    landmarks: tuple[BodyLandmark, ...]
    regions: Mapping[Region, tuple[int, ...]]
    coverage: Mapping[Region, float]
    slope_per_mm: float | None
    slope_ratio: float | None
    expected_spacing_mm: float | None
    valid_spacing: bool
    reversed: bool
    tag: str
    reason: str = ""
    notes: tuple[str, ...] = field(default=())
