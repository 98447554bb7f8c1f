"""Results made from all masks as stored: checks across models, structure sets, pictures, summaries, key images."""

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
from orthanc_plugin.quality.confidence import renumbered
from orthanc_plugin.quality.masks import check_masks
from orthanc_plugin.results.document import key_objects, summary
from orthanc_plugin.results.rt import structure_set as rtstruct
from orthanc_plugin.results.sc import capture as pictures
from orthanc_plugin.results.sc import preview
from orthanc_plugin.results.sr.checks import encode_checks_sr


def _form(kind: Output, context: Context) -> tuple[Callable[..., Dataset], str]:
    """Give the encoder of a form, and the settings that decide its content beside the SEG."""
    if kind is Output.RTSTRUCT:
        return partial(rtstruct.encode_rtstruct, style=context.contours), rtstruct.describe(context.contours)
    if kind is Output.KEY_OBJECTS:
        return key_objects.encode_key_objects, key_objects.SETTINGS
    return preview.encode_preview, preview.SETTINGS


@dataclass(frozen=True, slots=True)
class Checkable:
    """A stored SEG, its model, and the first and last slice that the model saw (None: all slices).

    confidence: how far the members of the model agreed when it ran.
    """

    card: ModelCard
    seg: StoredObject
    searched: tuple[int, int] | None = None
    confidence: tuple[CheckResult, ...] = ()


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
        for result in (
            *check_masks(series.volume, segmentation, card, one.searched),
            *renumbered(one.confidence, segmentation),
        )
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
        RTSTRUCT, PREVIEW or KEY_OBJECTS.
    series, card, provider, context
        As for all stages.
    stored_seg : StoredObject
        The SEG.
    """
    encode, settings = _form(kind, context)
    return _kept_form(kind, encode, settings, series, card, stored_seg, provider, context)


def summarise(
    series: CtSeries,
    card: ModelCard,
    stored_seg: StoredObject,
    provider: str,
    context: Context,
    checked: tuple[Sequence[CheckResult], Sequence[StoredObject]] | None = None,
) -> ReportResult:
    """Store the summary of one SEG.

    Parameters
    ----------
    series, card, provider, context
        As for all stages.
    stored_seg : StoredObject
        The SEG.
    checked : tuple, optional
        Results of the quality checks of the job, and the SEGs that were checked; None if the rule asks for none.
    """
    results, segs = (None, ()) if checked is None else checked
    of = " ".join(sorted(seg.sop_instance_uid for seg in segs)) or "none"
    encode = partial(summary.encode_summary, title=context.title, checks=results)
    settings = f"{summary.SETTINGS}; checks of {of}; {context.report_settings}"
    return _kept_form(Output.SUMMARY_PDF, encode, settings, series, card, stored_seg, provider, context)


def capture(
    series: CtSeries, card: ModelCard, stored_seg: StoredObject, provider: str, context: Context
) -> ReportResult:
    """Store the pictures of one SEG as one series, in their order."""
    kept = context.masks(series, card, stored_seg.sop_instance_uid)
    made, first = list[StoredObject](), ""
    for number, picture in enumerate(pictures.pictures(series, kept.segmentation, card), 1):
        settings = f"{pictures.SETTINGS}; {number}"
        uid = identity.sr_uid(stored_seg.sop_instance_uid, Output.SECONDARY_CAPTURE, settings)
        first = first or uid
        stored, adopted = context.find(series, uid, first), True
        if stored is None:
            provenance = context.provenance(series, card, uid, provider)
            stored, adopted = context.keep(series, pictures.encode_capture(provenance, kept.ds, picture, number, first))
        made.append(reference(stored, Output.SECONDARY_CAPTURE, adopted))
    return ReportResult(made[0], more=tuple(made[1:]))


def _kept_form(
    kind: Output,
    encode: Callable[..., Dataset],
    settings: str,
    series: CtSeries,
    card: ModelCard,
    stored_seg: StoredObject,
    provider: str,
    context: Context,
) -> ReportResult:
    """Store what an encoder makes of one SEG, or adopt what is stored already."""
    uid = identity.sr_uid(stored_seg.sop_instance_uid, kind, settings)
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, kind, True))
    kept = context.masks(series, card, stored_seg.sop_instance_uid)
    encoded = encode(context.provenance(series, card, uid, provider), kept.ds, kept.segmentation)
    stored, adopted = context.keep(series, encoded)
    return ReportResult(reference(stored, kind, adopted))
