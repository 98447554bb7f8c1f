"""Turn the confidence of a model with several members into quality checks.

It is known only while the model runs, so the results travel with the stage that ran it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.quality.masks import RATIO

MEMBERS_DICE = 0.8
"""Least mean Dice coefficient of the members of a model with their joint result."""
BORDER_BITS = 1.0
"""Greatest mean entropy at the border of a structure; two classes that are equally likely have 1 bit."""
BITS = Code("bit", "UCUM", "bit")


def check_confidence(found: Segmentation, card: ModelCard) -> tuple[CheckResult, ...]:
    """Check that the members of a model agree on each structure.

    Parameters
    ----------
    found : Segmentation
        As its engine made it.
    card : ModelCard
        The model.

    Returns
    -------
    tuple of CheckResult
        Two for each structure; none for a model with one member. `segment_number` is the model's own number.
    """
    return tuple(_results(found, card))


def renumbered(results: Sequence[CheckResult], stored: Segmentation) -> tuple[CheckResult, ...]:
    """Give results the SegmentNumbers of the stored SEG; a structure that is not in it has no result."""
    numbers = {segment.key: segment.number for segment in stored.segments}
    return tuple(replace(one, segment_number=numbers[one.key]) for one in results if one.key in numbers)


def _results(found: Segmentation, card: ModelCard) -> Iterator[CheckResult]:
    numbers = {segment.key: segment.number for segment in found.segments}
    for one in found.confidence:
        of = card.name, numbers[one.key], one.key
        agree = f"Dice {one.dice:.3f} of {one.members} passes (folds, mirrored copies) with their joint result"
        yield CheckResult(Check.MEMBERS, *of, one.dice >= MEMBERS_DICE, one.dice, RATIO, agree)
        doubt = f"entropy {one.entropy_bits:.2f} bit at the border"
        yield CheckResult(Check.BORDER, *of, one.entropy_bits <= BORDER_BITS, one.entropy_bits, BITS, doubt)
