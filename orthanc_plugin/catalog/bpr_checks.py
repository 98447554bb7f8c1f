"""Check that the values of a card's `bpr` section fit together; pydantic checks each value alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from orthanc_plugin.catalog.bpr import END, LANDMARKS, START, BprModel, LandmarkScore

_ENDS = {START: 0.0, END: 100.0}
_ROUNDING = 0.01
_LARGEST, _SMALLEST = 1e6, 1e-6  # beyond, arithmetic overflows


def problems(model: BprModel, graphs: Sequence[str]) -> Iterator[str]:
    """Find contradictions within the `bpr` section of a card, and between it and the card's graphs.

    Yields
    ------
    str
        The key and what is wrong with it.
    """
    if len(graphs) != 1:
        yield f"graphs: body part regression has one graph, not {len(graphs)}"
    scores = (value for row in model.look_up for value in (row.mean, row.sd))
    numbers = (
        *(model.start_raw, model.end_raw, model.slope_mean, model.tangential_min, model.tangential_max),
        *(model.pixel_mm, model.low_hu, model.high_hu, model.smoothing_mm, model.ratio_tolerance),
        *(*model.background_scores, *scores),
    )
    if not all(abs(number) <= _LARGEST for number in numbers):
        yield f"bpr: all numbers must be finite, and at most {_LARGEST:g}"
        return
    yield from _of_look_up(model.look_up)
    for key, right in _rules(model):
        if not right:
            yield f"bpr.{key}"


def _of_look_up(look_up: Sequence[LandmarkScore]) -> Iterator[str]:
    means = {row.key: row.mean for row in look_up}
    if unknown := sorted(means.keys() - set(LANDMARKS)):
        yield f"bpr.look_up: unknown landmark {unknown[0]}; known are {', '.join(LANDMARKS)}"
    if len(means) < len(look_up) or any(one.mean > other.mean for one, other in pairwise(look_up)):
        yield "bpr.look_up: landmarks are named once each, by rising mean"
    if any(abs(means.get(key, math.inf) - score) > _ROUNDING for key, score in _ENDS.items()):
        yield f"bpr.look_up: {START} is at 0 and {END} at 100"
    if any(row.sd <= 0 for row in look_up):
        yield "bpr.look_up: every sd is above 0"


def _rules(model: BprModel) -> Iterator[tuple[str, bool]]:
    """Yield what to say if a value is wrong, and whether it is right."""
    yield (
        "start_raw, end_raw: the scores that become 0 and 100 differ",
        abs(model.start_raw - model.end_raw) > _SMALLEST,
    )
    yield "slope_mean: the score rises by more than 0 per mm", model.slope_mean > _SMALLEST
    yield (
        "tangential_min, tangential_max: slope_mean lies between them",
        model.tangential_min < model.slope_mean < model.tangential_max,
    )
    yield "pixel_mm: 0.5 to 100", 0.5 <= model.pixel_mm <= 100
    yield "size: 32 to 1024 pixels", 32 <= model.size <= 1024
    yield "low_hu, high_hu: low_hu is below high_hu", model.low_hu < model.high_hu
    yield "smoothing_mm: above 0", model.smoothing_mm > _SMALLEST
    yield "ratio_tolerance: above 0, below 1", 0 < model.ratio_tolerance < 1
