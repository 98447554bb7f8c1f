"""Results made from all masks as stored: checks across models, structure sets and previews."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.pipeline.context import Context, ReportResult, reference
from orthanc_plugin.quality.agreement import check_agreement
from orthanc_plugin.quality.masks import check_masks
from orthanc_plugin.results.rt import structure_set as rtstruct
from orthanc_plugin.results.sc import preview
from orthanc_plugin.results.sr.checks import encode_checks_sr


def _form(kind: Output, context: Context) -> tuple[Callable[..., Dataset], str]:
    """Give the encoder of a form, and the settings that decide its content beside the SEG."""
    if kind is Output.RTSTRUCT:
        return partial(rtstruct.encode_rtstruct, style=context.contours), rtstruct.describe(context.contours)
    return preview.encode_preview, preview.SETTINGS


@dataclass(frozen=True, slots=True)
class Checkable:
    """A stored SEG, its model, and the first and last slice that the model saw (None: all slices)."""

    card: ModelCard
    seg: StoredObject
    searched: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """The report of the quality checks, and their results."""

    report: ReportResult
    results: tuple[CheckResult, ...]


def check(
    series: CtSeries,
    found: Sequence[Checkable],
    provider: str,
    context: Context,
) -> Checked:
    """Run the quality checks on each mask as stored and across models, and store the results as SR.

    Parameters
    ----------
    series, context
        As for all stages.
    found : sequence
        Each model with its SEG.
    provider : str
        Execution provider of the models.
    """
    kept = [(one.card, context.masks(series, one.card, one.seg.sop_instance_uid)) for one in found]
    masks = [(card, there.segmentation) for card, there in kept]
    results = [
        result
        for one, (card, segmentation) in zip(found, masks, strict=True)
        for result in check_masks(series.volume, segmentation, card, one.searched)
    ]
    results.extend(check_agreement(masks))
    if not results:
        return Checked(ReportResult(None, ("no quality check applies to what was found",)), ())
    seg_uids = [one.seg.sop_instance_uid for one in found]
    uid = identity.joint_sr_uid(seg_uids, Output.CHECKS, context.report_settings)
    if (there := context.find(series, uid)) is not None:
        return Checked(ReportResult(reference(there, Output.CHECKS, True)), tuple(results))
    made = [context.provenance(series, card, uid, provider) for card, _ in kept]
    encoded = encode_checks_sr(
        [replace(one, created=made[0].created, order=0) for one in made],
        [there.ds for _, there in kept],
        results,
        title=context.title,
        notes=(*series.notes, *(note for _, segmentation in masks for note in segmentation.notes)),
    )
    stored_sr, adopted = context.keep(series, encoded)
    return Checked(ReportResult(reference(stored_sr, Output.CHECKS, adopted)), tuple(results))


def export(
    kind: Output, series: CtSeries, card: ModelCard, stored_seg: StoredObject, provider: str, context: Context
) -> ReportResult:
    """Store the masks of one SEG in another form.

    Parameters
    ----------
    kind : Output
        RTSTRUCT or PREVIEW.
    series, card, provider, context
        As for all stages.
    stored_seg : StoredObject
        The SEG.
    """
    encode, settings = _form(kind, context)
    uid = identity.sr_uid(stored_seg.sop_instance_uid, kind, settings)
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, kind, True))
    kept = context.masks(series, card, stored_seg.sop_instance_uid)
    encoded = encode(context.provenance(series, card, uid, provider), kept.ds, kept.segmentation)
    stored, adopted = context.keep(series, encoded)
    return ReportResult(reference(stored, kind, adopted))
