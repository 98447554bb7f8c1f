"""Run a model beside those of the rule and compare it with them: numbers for each structure, and nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.codes import ENTIRE_BODY
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.domain.shadow import Compared
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.pipeline.context import Context
from orthanc_plugin.pipeline.location import Crop
from orthanc_plugin.pipeline.organs import segment_part
from orthanc_plugin.quality.agreement import dice_of, joint_counts
from orthanc_plugin.quality.structures import kind_of


def compare(
    series: CtSeries,
    engine: SegmentationEngine,
    others: Sequence[tuple[ModelCard, StoredObject | None]],
    context: Context,
    crop: Crop | None = None,
) -> tuple[Segmentation, tuple[Compared, ...]]:
    """Segment with a shadow model and compare each of its structures with the stored masks of the rule's models.

    Parameters
    ----------
    series, context
        As for all stages.
    engine : SegmentationEngine
        The shadow model.
    others : sequence
        Each model of the rule with its SEG; None if it stored none.
    crop : Crop, optional
        The slices that the shadow model sees; all by default.

    Returns
    -------
    tuple of Segmentation and tuple of Compared
        What it found, and a row for each structure of its card and each model of the rule that looks for the same; one
        row if none does. The body, which is seldom stored, has no row.

    Raises
    ------
    StoreError
        If a SEG is gone from its archive.
    """
    found = engine.segment(series.volume) if crop is None else segment_part(series.volume, engine, crop)
    masks = [
        (card, None if seg is None else context.masks(series, card, seg.sop_instance_uid).segmentation)
        for card, seg in others
    ]
    voxel_ml = series.volume.voxel_ml
    sizes = dict(zip((segment.key for segment in found.segments), found.voxels(), strict=True))
    compared = [row for card, other in masks for row in _rows(engine.card, found, card, other, sizes, voxel_ml)]
    matched = {row.label for row in compared}
    alone = (
        Compared(label.label, *kind_of(label), "", round(sizes.get(label.key, 0) * voxel_ml, 3))
        for label in _compared(engine.card)
        if label.label not in matched
    )
    return found, (*compared, *alone)


def in_words(compared: Sequence[Compared]) -> Iterator[str]:
    """Sum up the comparison with each model of the rule in a sentence."""
    for model in dict.fromkeys(row.model for row in compared if row.dice is not None):
        dice = {row.label: row.dice for row in compared if row.model == model and row.dice is not None}
        lowest = min(dice, key=lambda label: dice[label])
        yield (
            f"{len(dice)} structures compared with {model}: median Dice {median(dice.values()):.3f}, lowest"
            f" {dice[lowest]:.3f} ({lowest}); nothing is stored"
        )


def _rows(
    card: ModelCard,
    found: Segmentation,
    other_card: ModelCard,
    other: Segmentation | None,
    sizes: dict[str, int],
    voxel_ml: float,
) -> Iterator[Compared]:
    theirs = {kind_of(label): label for label in other_card.labels}
    pairs = [(label, theirs[kind_of(label)]) for label in _compared(card) if kind_of(label) in theirs]
    joint = joint_counts(found.labels, other.labels) if other is not None and pairs else None
    for label, same in pairs:
        volume_ml = round(sizes.get(label.key, 0) * voxel_ml, 3)
        if other is None or joint is None:
            yield Compared(label.label, *kind_of(label), other_card.name, volume_ml)
            continue
        ours, others = _covered(found.segment(label.key)), _covered(other.segment(same.key))
        dice = dice_of(joint, ours, others) if ours and others else (0.0 if ours or others else None)
        their_ml = round(float(joint[:, others].sum()) * voxel_ml, 3)
        yield Compared(label.label, *kind_of(label), other_card.name, volume_ml, their_ml, dice)


def _compared(card: ModelCard) -> list[CardLabel]:
    return [label for label in card.labels if label.type.value != ENTIRE_BODY.value]


def _covered(segment: Segment | None) -> list[int]:
    return [] if segment is None else [*segment.covers]
