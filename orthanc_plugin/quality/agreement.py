"""Check across models that two masks of the same organ agree.

Organs are the same if the codes of type and laterality are equal; a lung is also the union of its lobes. One joint
count of two label maps gives the overlap of all their structures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import ENTIRE_BODY
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.masks import Labels, Segment, Segmentation
from orthanc_plugin.quality.masks import RATIO
from orthanc_plugin.quality.structures import LUNGS, kind_of

AGREEMENT_DICE = 0.7
"""Least Dice coefficient of two models. Source: Zijdenbos et al., IEEE Trans Med Imaging 1994;13:716."""

Found = tuple[ModelCard, Segmentation]


def check_agreement(found: Sequence[Found]) -> tuple[CheckResult, ...]:
    """Compute the Dice coefficient of every organ that more than one model found.

    Parameters
    ----------
    found : sequence of (ModelCard, Segmentation)
        Models that looked at one series, with all label maps on its grid. `segment_number` of the results is the
        number of the segment here (see `check_masks`).

    Returns
    -------
    tuple of CheckResult
        One for each segment and each other model that found the same, so that the agreement of two models is stated
        for both segments. A lung that is compared with lobes has a result, the lobes do not. The body and the
        remainders of structures that cover others are not compared.

    Raises
    ------
    ValueError
        If the label maps have different shapes.
    """
    return tuple(result for one, other in combinations(found, 2) for result in _compare(one, other))


def _compare(one: Found, other: Found) -> Iterator[CheckResult]:
    pairs, reverse = _pairs(one, other), _pairs(other, one)
    if pairs or reverse:
        joint = joint_counts(one[1].labels, other[1].labels)
        yield from _results(one[0], other[0], pairs, joint)
        yield from _results(other[0], one[0], reverse, joint.T)


def _pairs(one: Found, other: Found) -> list[tuple[Segment, list[Segment]]]:
    candidates = _asked(*other)
    return [(segment, same) for segment in _asked(*one) if (same := _same(segment, candidates))]


def _results(
    card: ModelCard, other: ModelCard, pairs: list[tuple[Segment, list[Segment]]], joint: NDArray[np.intp]
) -> Iterator[CheckResult]:
    for segment, same in pairs:
        dice = dice_of(joint, [*segment.covers], [value for s in same for value in s.covers])
        if dice is not None:
            detail = f"Dice {dice:.2f} with {', '.join(s.label for s in same)} of {other.name}"
            passed = dice >= AGREEMENT_DICE
            yield CheckResult(Check.AGREEMENT, card.name, segment.number, segment.key, passed, dice, RATIO, detail)


def _asked(card: ModelCard, segmentation: Segmentation) -> list[Segment]:
    keys = {label.key for label in card.labels}
    return [s for s in segmentation.segments if s.key in keys and s.type.value != ENTIRE_BODY.value]


def _same(segment: Segment, candidates: Sequence[Segment]) -> list[Segment]:
    """Find the segment of the same kind, or all its parts."""
    kind = kind_of(segment)
    if whole := [s for s in candidates if kind_of(s) == kind]:
        return whole
    parts = [s for s in candidates if kind_of(s) in LUNGS.get(kind, ())]
    return parts if len(parts) == len(LUNGS.get(kind, ())) else []


def joint_counts(one: Labels, other: Labels) -> NDArray[np.intp]:
    """Count the voxels of each pair of values, (256, 256)."""
    if one.shape != other.shape:
        raise ValueError(f"label maps of {one.shape} and {other.shape} cannot be compared")
    counts = np.zeros(1 << 16, np.intp)
    for plane, other_plane in zip(one, other, strict=True):
        counts += np.bincount((plane.astype(np.uint16) << 8 | other_plane).ravel(), minlength=1 << 16)
    return counts.reshape(256, 256)


def dice_of(joint: NDArray[np.intp], ours: list[int], theirs: list[int]) -> float | None:
    """Compute the Dice coefficient; None if a structure has no voxel."""
    both, our_size, their_size = joint[np.ix_(ours, theirs)].sum(), joint[ours].sum(), joint[:, theirs].sum()
    return 2.0 * float(both) / float(our_size + their_size) if our_size and their_size else None
