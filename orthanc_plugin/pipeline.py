"""The stages, pure: a vouched series in, stored objects out.

Loader, engine, store and clock are passed in; nothing here knows HTTP or queues. Every stage first asks whether its
object is stored already and adopts it (first stored wins), and everything after the SEG is made of the SEG as stored,
so a report never contradicts its segmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import Code
from orthanc_plugin.ct import CtSeries
from orthanc_plugin.errors import StoreError
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.masks import Segmentation
from orthanc_plugin.plan import Output, StoredObject
from orthanc_plugin.radiomics import features
from orthanc_plugin.results import landmarks, landmarks_sr, radiomics_sr, seg


class ObjectStore(Protocol):
    """Where results go and are read back from: an archive, or a folder."""

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """The stored object, or None."""
        ...

    def store(self, ds: Dataset) -> None:
        """Store one object; raises StoreError or TransientError."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What the stages of one job share. `title`: coded title of the reports."""

    fingerprint: str
    store: ObjectStore
    clock: Callable[[], datetime]
    title: Code


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """`seg` is None where the model found none of its structures; `notes` then says why."""

    seg: StoredObject | None
    volumes_ml: dict[str, float]
    provider: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportResult:
    """`sr` is None where there was nothing to report."""

    sr: StoredObject | None
    notes: tuple[str, ...]


def segment(series: CtSeries, engine: SegmentationEngine, context: Context) -> SegmentResult:
    """Find the structures of one model and store them as SEG, or adopt the SEG that is there.

    Raises
    ------
    StoreError
        If the archive refused the SEG or does not give it back.
    """
    uid = identity.seg_uid(context.fingerprint, engine.card.digest, seg.SETTINGS)
    stored = _find(series, uid, context)
    adopted = stored is not None
    if stored is None:
        found = engine.segment(series.volume)
        if not found.segments:
            return SegmentResult(None, {}, engine.provider, found.notes or ("no structure of the model was found",))
        encoded = seg.encode_seg(
            series, found, engine.card, sop_instance_uid=uid, provider=engine.provider, created=context.clock()
        )
        stored, adopted = _store(series, encoded, context)
    kept = seg.decode_seg(stored, series, engine.card)
    reference = _reference(stored, Output.SEG, adopted)
    return SegmentResult(reference, _volumes_ml(kept, series), engine.provider, kept.notes)


def measure(
    series: CtSeries, card: ModelCard, stored_seg: StoredObject, provider: str, context: Context
) -> ReportResult:
    """Radiomics of the SEG as stored, as SR."""
    uid = identity.sr_uid(stored_seg.sop_instance_uid, Output.RADIOMICS, _settings(context, features.SETTINGS))
    if (there := _find(series, uid, context)) is not None:
        return ReportResult(_reference(there, Output.RADIOMICS, True), ())
    seg_ds, kept = _stored_segmentation(series, card, stored_seg, context)
    shape_keys = [label.key for label in card.labels if label.shape_features]
    measured = features.measure_segments(series.volume, kept, shape_keys)
    encoded = radiomics_sr.encode_radiomics_sr(
        series, seg_ds, kept, measured, card,
        sop_instance_uid=uid, provider=provider, created=context.clock(), title=context.title,
        settings=features.SETTINGS,
    )  # fmt: skip
    stored, adopted = _store(series, encoded, context)
    notes = tuple(note for segment_features in measured for note in segment_features.notes)
    return ReportResult(_reference(stored, Output.RADIOMICS, adopted), notes)


def report(
    series: CtSeries, card: ModelCard, stored_seg: StoredObject, provider: str, context: Context
) -> ReportResult:
    """Landmarks of the SEG as stored, as SR; none where no organ lies whole inside the volume."""
    uid = identity.sr_uid(stored_seg.sop_instance_uid, Output.LANDMARKS, _settings(context))
    if (there := _find(series, uid, context)) is not None:
        return ReportResult(_reference(there, Output.LANDMARKS, True), ())
    seg_ds, kept = _stored_segmentation(series, card, stored_seg, context)
    found = landmarks.find_landmarks(kept, series.volume)
    if not found:
        return ReportResult(None, ("no landmark: no organ of the model lies whole inside the volume",))
    encoded = landmarks_sr.encode_landmarks_sr(
        series, seg_ds, found, card,
        sop_instance_uid=uid, provider=provider, created=context.clock(), title=context.title,
        notes=(*series.notes, *kept.notes),
    )  # fmt: skip
    stored, adopted = _store(series, encoded, context)
    return ReportResult(_reference(stored, Output.LANDMARKS, adopted), ())


def _settings(context: Context, *more: str) -> str:
    return " ".join((f"title={context.title.scheme}:{context.title.value}", *more))


def _find(series: CtSeries, sop_uid: str, context: Context) -> Dataset | None:
    return context.store.find(series.identity.study_instance_uid, identity.series_uid(sop_uid), sop_uid)


def _store(series: CtSeries, encoded: Dataset, context: Context) -> tuple[Dataset, bool]:
    """Store, read back, and say whether somebody else's object won (then it is what counts)."""
    context.store.store(encoded)
    stored = _find(series, encoded.SOPInstanceUID, context)
    if stored is None:
        raise StoreError(f"the archive accepted {encoded.SOPInstanceUID} but does not give it back")
    return stored, not _same_content(stored, encoded)


def _same_content(one: Dataset, other: Dataset) -> bool:
    keywords = ("PixelData", "ContentSequence", "ContentDate", "ContentTime")
    return all(one.get(keyword) == other.get(keyword) for keyword in keywords)


def _stored_segmentation(
    series: CtSeries, card: ModelCard, stored_seg: StoredObject, context: Context
) -> tuple[Dataset, Segmentation]:
    ds = _find(series, stored_seg.sop_instance_uid, context)
    if ds is None:
        raise StoreError(f"the SEG {stored_seg.sop_instance_uid} is gone from its archive")
    return ds, seg.decode_seg(ds, series, card)


def _volumes_ml(segmentation: Segmentation, series: CtSeries) -> dict[str, float]:
    voxel_ml = series.volume.voxel_ml
    pairs = zip(segmentation.segments, segmentation.voxels(), strict=True)
    return {segment.key: voxels * voxel_ml for segment, voxels in pairs}


def _reference(ds: Dataset, kind: Output, adopted: bool) -> StoredObject:
    return StoredObject(kind, ds.SOPClassUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, adopted)
