"""Find, check, store, measure and report the structures of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.pipeline.context import Context, ReportResult, reference
from orthanc_plugin.pipeline.location import Crop
from orthanc_plugin.quality import landmarks
from orthanc_plugin.quality.confidence import check_confidence
from orthanc_plugin.quality.masks import check_masks
from orthanc_plugin.radiomics import features
from orthanc_plugin.radiomics.parameters import describe
from orthanc_plugin.results import seg
from orthanc_plugin.results.sr import landmarks as landmarks_sr
from orthanc_plugin.results.sr import radiomics as radiomics_sr


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """The result of one model.

    seg: the stored SEG; None if the model found none of its structures or the result is held back.
    volumes_ml: volume of each structure that was found, by key.
    provider: execution provider that the model really ran on.
    notes: what people should know, e.g. why there is no SEG.
    held_back: failed checks for which the rule keeps the result out of the archive.
    confidence: how far the members of the model agree; empty for a model of one member and for an adopted SEG.
    """

    seg: StoredObject | None
    volumes_ml: dict[str, float]
    provider: str
    notes: tuple[str, ...]
    held_back: tuple[CheckResult, ...] = ()
    confidence: tuple[CheckResult, ...] = ()


def segment(series: CtSeries, engine: SegmentationEngine, context: Context, crop: Crop | None = None) -> SegmentResult:
    """Find the structures of one model and store them as SEG, or adopt the SEG that is stored already.

    Parameters
    ----------
    series, context
        As for all stages.
    engine : SegmentationEngine
        The model.
    crop : Crop, optional
        The slices that the model sees; all by default.

    Raises
    ------
    StoreError
        If the archive refuses the SEG or does not give it back.
    """
    cropped = "" if crop is None else crop.settings
    settings = "; ".join(filter(None, (seg.describe(context.seg), cropped, series.variant)))
    uid = identity.seg_uid(context.fingerprint, engine.card.digest, settings)
    confidence: tuple[CheckResult, ...] = ()
    stored = context.find(series, uid)
    adopted = stored is not None
    cut = series.marks if crop is None else (*series.marks, crop.note)
    if stored is None:
        found = engine.segment(series.volume) if crop is None else segment_part(series.volume, engine, crop)
        if not found.segments:
            nothing = found.notes or ("no structure of the model was found",)
            return SegmentResult(None, {}, engine.provider, (*cut, *nothing))
        confidence = check_confidence(found, engine.card)
        if failed := _holding(series, found, engine.card, context, crop, confidence):
            return SegmentResult(None, {}, engine.provider, (*cut, *_held_back_notes(failed)), failed)
        found = replace(found, notes=(*cut, *found.notes))
        provenance = context.provenance(series, engine.card, uid, engine.provider)
        stored, adopted = context.keep(series, seg.encode_seg(provenance, found, context.seg))
    kept = context.remember(series, engine.card, stored)
    volumes_ml = _volumes_ml(kept, series)
    return SegmentResult(
        reference(stored, Output.SEG, adopted), volumes_ml, engine.provider, kept.notes, confidence=confidence
    )


def _holding(
    series: CtSeries,
    found: Segmentation,
    card: ModelCard,
    context: Context,
    crop: Crop | None,
    confidence: tuple[CheckResult, ...],
) -> tuple[CheckResult, ...]:
    """Return the failed checks for which the rule holds this result back."""
    if not context.hold_back:
        return ()
    results = (*check_masks(series.volume, found, card, searched_slices(crop)), *confidence)
    return tuple(result for result in results if result.check in context.hold_back and not result.passed)


def _held_back_notes(failed: Sequence[CheckResult]) -> tuple[str, ...]:
    return tuple(f"held back: {result.check} of {result.key}: {result.detail}" for result in failed)


def searched_slices(crop: Crop | None) -> tuple[int, int] | None:
    """Return the first and the last slice that a model saw, or None for all slices."""
    return None if crop is None else (crop.first, crop.last)


def segment_part(whole: Volume, engine: SegmentationEngine, crop: Crop) -> Segmentation:
    """Segment some slices and put the labels on the grid of all slices."""
    found = engine.segment(crop.volume)
    labels = np.zeros(whole.voxels_hu.shape, found.labels.dtype)
    labels[crop.first : crop.last + 1] = found.labels
    moved = tuple(replace(one, first=crop.first) for one in found.probabilities)
    return replace(found, labels=labels, probabilities=moved)


def store_probabilities(
    series: CtSeries, engine: SegmentationEngine, stored_seg: StoredObject, context: Context, crop: Crop | None = None
) -> ReportResult:
    """Store the probabilities of the structures of a stored SEG as a FRACTIONAL SEG.

    Parameters
    ----------
    series, engine, context, crop
        As for `segment`; the engine keeps its last result.
    stored_seg : StoredObject
        The SEG.
    """
    card = engine.card
    uid = identity.sr_uid(stored_seg.sop_instance_uid, Output.PROBABILITIES, seg.FRACTIONAL_SETTINGS)
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, Output.PROBABILITIES, True))
    kept = context.masks(series, card, stored_seg.sop_instance_uid)
    found = engine.segment(series.volume) if crop is None else segment_part(series.volume, engine, crop)
    if not found.probabilities:
        return ReportResult(None, (f"{card.name} gives no probabilities", *found.notes))
    provenance = context.provenance(series, card, uid, engine.provider)
    encoded = seg.encode_fractional(provenance, stored_seg.sop_instance_uid, kept.segmentation, found.probabilities)
    stored, adopted = context.keep(series, encoded)
    return ReportResult(reference(stored, Output.PROBABILITIES, adopted))


def measure(
    series: CtSeries, card: ModelCard, stored_seg: StoredObject, provider: str, context: Context
) -> ReportResult:
    """Measure radiomics of the SEG as stored, and store them as SR."""
    library = " with image library" if context.image_library else ""
    settings = f"{context.report_settings} {describe(context.radiomics)}{library}"
    uid = identity.sr_uid(stored_seg.sop_instance_uid, Output.RADIOMICS, settings)
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, Output.RADIOMICS, True))
    kept = context.masks(series, card, stored_seg.sop_instance_uid)
    shape_keys = [label.key for label in card.labels if label.shape_features]
    measured = features.measure_segments(
        series.volume, kept.segmentation, shape_keys, context.radiomics,
        workers=context.processes, memory_mib=context.memory_mib,
    )  # fmt: skip
    notes = tuple(radiomics_sr.named_notes(measured, kept.segmentation))
    if not any(segment_features.features for segment_features in measured):
        return ReportResult(None, ("radiomics: no structure could be measured", *notes))
    encoded = radiomics_sr.encode_radiomics_sr(
        context.provenance(series, card, uid, provider), kept.ds, kept.segmentation, measured,
        title=context.title, settings=context.radiomics, image_library=context.image_library,
    )  # fmt: skip
    stored, adopted = context.keep(series, encoded)
    return ReportResult(reference(stored, Output.RADIOMICS, adopted), notes)


def report(
    series: CtSeries,
    card: ModelCard,
    stored_seg: StoredObject,
    provider: str,
    context: Context,
    crop: Crop | None = None,
) -> ReportResult:
    """Store landmarks of the SEG as stored as SR, unless no organ lies completely in the volume or its crop."""
    uid = identity.sr_uid(stored_seg.sop_instance_uid, Output.LANDMARKS, context.report_settings)
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, Output.LANDMARKS, True))
    kept = context.masks(series, card, stored_seg.sop_instance_uid)
    found = landmarks.find_landmarks(kept.segmentation, series.volume, searched_slices(crop))
    if not found:
        return ReportResult(None, ("no landmark: no end of a lung lies inside what was searched",))
    encoded = landmarks_sr.encode_landmarks_sr(
        context.provenance(series, card, uid, provider), kept.ds, found,
        title=context.title, notes=(*series.notes, *kept.segmentation.notes),
    )  # fmt: skip
    stored, adopted = context.keep(series, encoded)
    return ReportResult(reference(stored, Output.LANDMARKS, adopted))


def _volumes_ml(segmentation: Segmentation, series: CtSeries) -> dict[str, float]:
    voxel_ml = series.volume.voxel_ml
    pairs = zip(segmentation.segments, segmentation.voxels(), strict=True)
    return {segment.key: voxels * voxel_ml for segment, voxels in pairs}
