"""What a series is worth as input: refused where its rule says so, told in words, and reported."""

from __future__ import annotations

from collections.abc import Sequence

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.input_quality import InputFigure, InputLimits
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.pipeline.context import Context, ReportResult, reference
from orthanc_plugin.quality.scan_models import body_part, contrast
from orthanc_plugin.results.sr.input_quality import encode_input_sr, method_card


def refuse_unfit(figures: tuple[InputFigure, ...], limits: InputLimits) -> tuple[InputFigure, ...]:
    """Give the figures back.

    Raises
    ------
    InputError
        INPUT_QUALITY: a check failed for which the rule refuses a series.
    """
    failed = [figure for figure in figures if figure.passed is False and figure.check in limits.refuse]
    if failed:
        raise InputError(Refusal.INPUT_QUALITY, "; ".join(f"{figure.check}: {figure.detail}" for figure in failed))
    return figures


def told(figures: Sequence[InputFigure]) -> tuple[str, ...]:
    """Say all figures in one note, and each failed check in one of its own."""
    summary = f"input: {'; '.join(figure.detail for figure in figures)}"
    return summary, *(figure.note for figure in figures if figure.passed is False)


def report(
    series: CtSeries,
    figures: tuple[InputFigure, ...],
    limits: InputLimits,
    found: Sequence[tuple[ModelCard, StoredObject]],
    place: BodyLocation | None,
    context: Context,
) -> tuple[ReportResult, tuple[InputFigure, ...]]:
    """Store the report; also give what models tell of the input.

    Parameters
    ----------
    series, context
        As for all stages.
    figures : tuple of InputFigure
        What pixels and headers tell.
    limits : InputLimits
        Of the plan.
    found : sequence
        Each model with its stored SEG.
    place : BodyLocation, optional
        Where the scan lies in the body.
    """
    masks = [context.masks(series, card, stored.sop_instance_uid).segmentation for card, stored in found]
    by_models = contrast(series, masks), body_part(series, place)
    card = method_card(limits)
    seen = ",".join(sorted(stored.sop_instance_uid for _, stored in found))
    located = "" if place is None else "located"
    uid = identity.input_sr_uid(context.fingerprint, card.digest, f"{context.report_settings} {located} {seen}")
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, Output.INPUT_QUALITY, True)), by_models
    provenance = context.provenance(series, card, uid, "")
    encoded = encode_input_sr(provenance, (*figures, *by_models), limits, title=context.title)
    stored_sr, adopted = context.keep(series, encoded)
    return ReportResult(reference(stored_sr, Output.INPUT_QUALITY, adopted)), by_models
