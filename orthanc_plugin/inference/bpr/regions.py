"""Find landmarks, regions, coverage and the BodyPartExamined tag of a score curve, by the model's look-up table.

If the table lacks a landmark that a region or a tag needs, that region or tag is not reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from scipy.optimize import isotonic_regression

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.domain.body import BodyLandmark, Region
from orthanc_plugin.inference.bpr.scores import Curve, Values

_BOUNDS: Mapping[Region, tuple[str, str]] = {
    Region.LEGS: ("", "pelvis_start"),
    Region.PELVIS: ("pelvis_start", "pelvis_end"),
    Region.ABDOMEN: ("L5", "Th8"),
    Region.CHEST: ("Th12", "Th1"),
    Region.SHOULDER_NECK: ("Th3", "C2"),
    Region.HEAD: ("C5", ""),
}
"""Start (included, but not for the head) and end (excluded); an empty name leaves a side open."""

_TOP = "head_end"  # the look-up table knows no body above, and none below pelvis_start
_LUMBAR = ("L5", "L4", "L3", "L2", "L1")
_THORACIC = ("Th12", "Th11", "Th10", "Th9", "Th8", "Th7", "Th6", "Th5", "Th4", "Th3", "Th2", "Th1")
_TAG_LANDMARKS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "PELVIS": (2, ("pelvis_start", "femur_end", "pelvis_end")),
    "ABDOMEN": (7, (*_LUMBAR, *_THORACIC[:4])),
    "CHEST": (9, _THORACIC),
    "NECK": (6, (*_THORACIC[-3:], "C7", "C6", "C5", "C4", "C3", "C2")),
    "HEAD": (3, ("C3", "C2", "C1", "eyes_end")),
}
"""How many of these landmarks must be in the scan for the part to be in it."""

_TAG_CUTS = ("pelvis_start", "pelvis_end", "Th9", "Th2", "C3", "head_end")
NO_TAG = "NONE"
SHORTEST_MM = 100.0
_WIDEST_GAP_MM = 20.0


def regions(scores: Values, model: BprModel, top_sd: float = np.inf) -> dict[Region, tuple[int, ...]]:
    """Find the slices of each region by their cleaned scores; a region without slices is left out.

    Scores more than `top_sd` standard deviations above the end of the head do not count as body.

    Source
    ------
    bpreg 1.1.0, bpreg/settings/settings.py and bpreg/score_processing/bodypartexamined_dict.py.
    """
    means = _means(model)
    found = {}
    for region, (start, end) in _BOUNDS.items():
        if not {start, end} - {""} <= means.keys():
            continue
        inside = scores < means[end] if end else scores <= _highest(model, top_sd)
        if start:
            inside &= scores >= means[start] if end else scores > means[start]
        if inside.any():
            found[region] = tuple(map(int, np.flatnonzero(inside)))
    return found


def _means(model: BprModel) -> dict[str, float]:
    return {landmark.key: landmark.mean for landmark in model.look_up}


def _highest(model: BprModel, top_sd: float) -> float:
    top = [landmark for landmark in model.look_up if landmark.key == _TOP]
    return top[0].mean + top_sd * top[0].sd if top else np.inf


def coverage(scores: Values, model: BprModel) -> dict[Region, float]:
    """Compute the fraction of each region's score range that lies between the lowest and the highest score.

    The head's range ends at `head_end`. Legs have no coverage: the look-up table has nothing below `pelvis_start`.
    """
    means = _means(model)
    low, high = np.nanmin(scores), np.nanmax(scores)
    covered = {}
    for region, (start, end) in _BOUNDS.items():
        if {start, end or _TOP} <= means.keys():
            first, last = means[start], means[end or _TOP]
            covered[region] = float(max(0.0, min(high, last) - max(low, first)) / (last - first))
    return covered


def landmarks(curve: Curve, z_mm: Values, model: BprModel) -> tuple[BodyLandmark, ...]:
    """Find the landmarks inside the scan, between slices.

    The curve is made monotonic (least squares); a landmark lies where it crosses the landmark's mean score. Landmarks
    at the outermost slices and in gaps of more than 20 mm are left out, because they may be outside the scan.
    """
    at = curve.valid
    falling = curve.reversed
    scores = isotonic_regression(curve.cleaned[at], increasing=not falling).x
    places = z_mm[at]
    if falling:
        scores, places = scores[::-1], places[::-1]
    found = []
    for landmark in model.look_up:
        upper = int(np.searchsorted(scores, landmark.mean))
        if not 0 < upper < len(scores):
            continue
        (below, above), (here, there) = scores[upper - 1 : upper + 1], places[upper - 1 : upper + 1]
        level = here + (landmark.mean - below) / (above - below) * (there - here)
        index = int(np.abs(z_mm - level).argmin())
        if abs(there - here) <= _WIDEST_GAP_MM and 0 < index < len(z_mm) - 1:
            found.append(BodyLandmark(landmark.key, index, float(level), landmark.sd / abs(curve.slope_per_mm)))
    return tuple(found)


def peer_landmarks(curve: Curve, z_mm: Values, model: BprModel) -> tuple[BodyLandmark, ...]:
    """Find landmarks like the published notebook: the last slice below the mean score, unless outermost.

    Source
    ------
    ImagingDataCommons/nnU-Net-BPR-annotations, nnunet/notebooks, without its shift, which takes the flag of the
    spacing for that of the direction.
    """
    found = []
    for landmark in model.look_up:
        below = np.flatnonzero(curve.cleaned < landmark.mean)
        if below.size and 0 < below[-1] < len(z_mm) - 1:
            index = int(below[-1])
            sd_mm = landmark.sd / abs(curve.slope_per_mm)
            found.append(BodyLandmark(landmark.key, index, float(z_mm[index]), sd_mm))
    return tuple(found)


def tag(scores: Values, extent_mm: float, model: BprModel) -> str:
    """Choose BodyPartExamined: the parts of the scan from the uppermost to the lowest, without gaps.

    A short scan, or one that shows no whole part, gets the part that has most of the slices.

    Source
    ------
    bpreg 1.1.0, bpreg/score_processing/bodypartexamined_tag.py.
    """
    means = _means(model)
    low, high = (np.nanmin(scores), np.nanmax(scores)) if np.isfinite(scores).any() else (np.inf, -np.inf)
    parts = list(_TAG_LANDMARKS)
    seen = [
        number
        for number, (least, keys) in enumerate(_TAG_LANDMARKS.values())
        if sum(low < means[key] < high for key in keys if key in means) >= least
    ]
    if not seen or extent_mm < SHORTEST_MM:
        return _most_frequent(scores, means)
    return "-".join(reversed(parts[seen[0] : seen[-1] + 1]))


def _most_frequent(scores: Values, means: Mapping[str, float]) -> str:
    """Return the part of most slices; between equal parts, the one that comes first."""
    if not set(_TAG_CUTS) <= means.keys():
        return NO_TAG
    limits = [means[key] for key in _TAG_CUTS]
    cuts = list(zip(_TAG_LANDMARKS, limits, limits[1:], strict=False))
    counts = Counter(part for score in scores for part, start, end in cuts if start < score < end)
    return counts.most_common(1)[0][0] if counts else NO_TAG
