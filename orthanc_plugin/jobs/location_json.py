"""A location as JSON: what a step's record and the ledger keep of it.

Scores and places are rounded (0.01), and slices of a region are written as runs, so that a scan of a thousand slices
takes some 20 KiB. A number that is none is an error here, never a NaN in a database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from orthanc_plugin.domain.body import BodyLandmark, BodyLocation, Region
from orthanc_plugin.errors import ModelError

_DECIMALS = 2
_FINE_DECIMALS = 5
"""Of what is a ratio, or a slope per mm."""


def recorded(location: BodyLocation) -> BodyLocation:
    """The location as its record gives it back, so that a job goes on the same way whether it was cut off or not."""
    return location_from_raw(raw_location(location))


def raw_location(location: BodyLocation) -> dict[str, Any]:
    """A location for JSON.

    Raises
    ------
    ModelError
        If a score, place or ratio is no number.
    """
    return {
        **asdict(replace(location, landmarks=(), regions={}, coverage={})),
        "raw_scores": [_rounded(score) for score in location.raw_scores],
        "scores": [_rounded(score) for score in location.scores],
        "z_mm": [_rounded(place) for place in location.z_mm],
        "landmarks": [
            {**asdict(found), "z_mm": _rounded(found.z_mm), "sd_mm": _rounded(found.sd_mm)}
            for found in location.landmarks
        ],
        "regions": {region.value: [*_runs(slices)] for region, slices in location.regions.items()},
        "coverage": {region.value: _rounded(part, _FINE_DECIMALS) for region, part in location.coverage.items()},
        "slope_per_mm": _rounded(location.slope_per_mm, _FINE_DECIMALS),
        "slope_ratio": _rounded(location.slope_ratio, _FINE_DECIMALS),
        "expected_spacing_mm": _rounded(location.expected_spacing_mm, _FINE_DECIMALS),
    }


def location_from_raw(raw: Mapping[str, Any]) -> BodyLocation:
    """A location out of JSON."""
    return BodyLocation(
        **{
            **raw,
            "raw_scores": tuple(raw["raw_scores"]),
            "scores": tuple(raw["scores"]),
            "z_mm": tuple(raw["z_mm"]),
            "landmarks": tuple(BodyLandmark(**found) for found in raw["landmarks"]),
            "regions": {Region(region): _slices(runs) for region, runs in raw["regions"].items()},
            "coverage": {Region(region): part for region, part in raw["coverage"].items()},
            "notes": tuple(raw["notes"]),
        }
    )


def _rounded(value: float | None, decimals: int = _DECIMALS) -> float | None:
    if value is not None and not isfinite(value):
        raise ModelError("body part regression gave a score that is no number; convert or install the model again")
    return None if value is None else round(float(value), decimals)


def _runs(slices: Sequence[int]) -> Iterator[list[int]]:
    """First and last slice of each unbroken run."""
    start = 0
    for end in range(1, len(slices) + 1):
        if end == len(slices) or slices[end] != slices[end - 1] + 1:
            yield [int(slices[start]), int(slices[end - 1])]
            start = end


def _slices(runs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(index for first, last in runs for index in range(first, last + 1))
