"""The stages, pure: a vouched series in, stored objects out.

Loader, engine, store and clock are passed in; nothing here knows HTTP or queues. Every stage first asks whether its
object is stored already and adopts it (first stored wins), and everything after the SEG is made of the SEG as stored,
so a report never contradicts its segmentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.body import BodyLocation, Region
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import Code
from orthanc_plugin.ct import CtSeries, Volume
from orthanc_plugin.errors import InputError, StoreError
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.masks import Segmentation
from orthanc_plugin.plan import Output, StoredObject
from orthanc_plugin.radiomics import features
from orthanc_plugin.results import landmarks, landmarks_sr, radiomics_sr, seg
from orthanc_plugin.results.body_landmarks_sr import coded, encode_body_landmarks_sr
from orthanc_plugin.results.body_regions_sr import encode_body_regions_sr
from orthanc_plugin.results.viewer_landmarks_sr import encode_viewer_landmarks_sr

CROP_MARGIN_MM = 30.0
"""Above and below the region that organ models see: organs lie over its ends, and scores err by some 10 mm."""

_BODY_ENCODERS: Mapping[Output, Callable[..., Dataset]] = {
    Output.BODY_LANDMARKS: encode_body_landmarks_sr,
    Output.BODY_REGIONS: encode_body_regions_sr,
    Output.VIEWER_LANDMARKS: encode_viewer_landmarks_sr,
}


class ObjectStore(Protocol):
    """Where results go and are read back from: an archive, or a folder."""

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """The stored object, or None."""
        ...

    def store(self, ds: Dataset) -> None:
        """Store one object; raises StoreError or TransientError."""
        ...


class Locator(Protocol):
    """A body part regression that is loaded."""

    @property
    def card(self) -> ModelCard:
        """The model that runs."""

    @property
    def provider(self) -> str:
        """The execution provider that really runs it."""

    def locate(self, volume: Volume) -> BodyLocation:
        """Where in the body a volume lies; raises InputError if its slices are not axial."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the stages of one job share. `title`: coded title of the reports."""

    fingerprint: str
    store: ObjectStore
    clock: Callable[[], datetime]
    title: Code


@dataclass(frozen=True, slots=True)
class LocateResult:
    """Where in the body a series lies; a location with a `reason` says why that is not known."""

    location: BodyLocation
    provider: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crop:
    """Slices first to last (counted from 0, both included) of a series: a region of the body and a margin.

    volume: a view of these slices.
    located_by: digest of the model that found the region.
    """

    region: Region
    first: int
    last: int
    volume: Volume
    located_by: str

    @property
    def settings(self) -> str:
        """What enters the SEG UID: a cropped result never stands for an uncropped one."""
        return f"cropped to {self.region} and {CROP_MARGIN_MM:g} mm by {self.located_by}"

    @property
    def note(self) -> str:
        """What the SEG says of it."""
        return (
            f"searched only in slices {self.first + 1} to {self.last + 1} from the feet: {self.region} by body part"
            f" regression {self.located_by[:12]} and {CROP_MARGIN_MM:g} mm"
        )


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


def locate(series: CtSeries, locator: Locator) -> LocateResult:
    """Find the place of a series in the body.

    Slices that are not axial are no error of the series here: organ models may take them, guards will not.
    """
    try:
        location = locator.locate(series.volume)
    except InputError as error:
        location = BodyLocation(
            (), (), (), (), {}, {}, None, None, None,
            valid_spacing=False, reversed=False, tag="NONE", reason=str(error),
        )  # fmt: skip
    reason = (f"no valid region: {location.reason}",) if location.reason else ()
    return LocateResult(location, locator.provider, (*reason, *location.notes))


def report_location(
    kind: Output, series: CtSeries, card: ModelCard, location: BodyLocation, provider: str, context: Context
) -> ReportResult:
    """Landmarks or regions of the body as SR; none where nothing is known: no landmark is ever invented.

    Parameters
    ----------
    kind : Output
        BODY_LANDMARKS, BODY_REGIONS or VIEWER_LANDMARKS.
    series, context
        As for all stages.
    card : ModelCard
        Of the body part regression.
    location : BodyLocation
        What it said.
    provider : str
        What it ran on.
    """
    uid = identity.body_sr_uid(context.fingerprint, card.digest, kind, _settings(context))
    if (there := _find(series, uid, context)) is not None:
        return ReportResult(_reference(there, kind, True), ())
    if not (location.regions if kind is Output.BODY_REGIONS else coded(location.landmarks)[0]):
        none = f"{kind}: nothing to report lies in the scan"
        return ReportResult(None, (f"no valid region: {location.reason}" if location.reason else none,))
    encoded = _BODY_ENCODERS[kind](
        series, location, card,
        sop_instance_uid=uid, provider=provider, created=context.clock(), title=context.title,
        notes=(*series.notes, *location.notes),
    )  # fmt: skip
    stored, adopted = _store(series, encoded, context)
    return ReportResult(_reference(stored, kind, adopted), ())


def crop_to(region: Region, volume: Volume, location: BodyLocation, located_by: str) -> Crop | None:
    """The slices of a region and a margin; None where the region is not known to be in the scan."""
    slices = location.regions.get(region)
    if not slices:
        return None
    margin = math.ceil(CROP_MARGIN_MM / volume.spacing_mm[0])
    first, last = max(0, min(slices) - margin), min(len(volume.voxels_hu) - 1, max(slices) + margin)
    affine = volume.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    part = replace(volume, voxels_hu=volume.voxels_hu[first : last + 1], affine=affine)
    return Crop(region, first, last, part, located_by)


def segment(series: CtSeries, engine: SegmentationEngine, context: Context, crop: Crop | None = None) -> SegmentResult:
    """Find the structures of one model and store them as SEG, or adopt the SEG that is there.

    Parameters
    ----------
    series, context
        As for all stages.
    engine : SegmentationEngine
        The model.
    crop : Crop, optional
        The slices that it sees; all by default.

    Raises
    ------
    StoreError
        If the archive refused the SEG or does not give it back.
    """
    settings = seg.SETTINGS if crop is None else f"{seg.SETTINGS}; {crop.settings}"
    uid = identity.seg_uid(context.fingerprint, engine.card.digest, settings)
    stored = _find(series, uid, context)
    adopted = stored is not None
    cut = () if crop is None else (crop.note,)
    if stored is None:
        found = engine.segment(series.volume) if crop is None else segment_part(series.volume, engine, crop)
        if not found.segments:
            nothing = found.notes or ("no structure of the model was found",)
            return SegmentResult(None, {}, engine.provider, (*cut, *nothing))
        found = replace(found, notes=(*cut, *found.notes))
        encoded = seg.encode_seg(
            series, found, engine.card, sop_instance_uid=uid, provider=engine.provider, created=context.clock()
        )
        stored, adopted = _store(series, encoded, context)
    kept = seg.decode_seg(stored, series, engine.card)
    reference = _reference(stored, Output.SEG, adopted)
    return SegmentResult(reference, _volumes_ml(kept, series), engine.provider, kept.notes)


def segment_part(whole: Volume, engine: SegmentationEngine, crop: Crop) -> Segmentation:
    """What the model finds in some slices, on the grid of all."""
    found = engine.segment(crop.volume)
    labels = np.zeros(whole.voxels_hu.shape, found.labels.dtype)
    labels[crop.first : crop.last + 1] = found.labels
    return replace(found, labels=labels)


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
    series: CtSeries,
    card: ModelCard,
    stored_seg: StoredObject,
    provider: str,
    context: Context,
    crop: Crop | None = None,
) -> ReportResult:
    """Landmarks of the SEG as stored, as SR; none where no organ lies whole inside the volume or its crop."""
    uid = identity.sr_uid(stored_seg.sop_instance_uid, Output.LANDMARKS, _settings(context))
    if (there := _find(series, uid, context)) is not None:
        return ReportResult(_reference(there, Output.LANDMARKS, True), ())
    seg_ds, kept = _stored_segmentation(series, card, stored_seg, context)
    searched = None if crop is None else (crop.first, crop.last)
    found = landmarks.find_landmarks(kept, series.volume, searched)
    if not found:
        return ReportResult(None, ("no landmark: no organ of the model lies whole inside what was searched",))
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
