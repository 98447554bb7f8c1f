"""Objects that a destination gets in place of those that it does not support: other forms of the same content.

A substitute has a series and UIDs of its own, which follow from those of the original, and names the original. Tracking
UIDs stay: the segments are the same. Reports that refer to a replaced segmentation are pointed to its substitute.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from orthanc_plugin import identity
from orthanc_plugin.config.archives import Fallback
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.kinds import kind_of
from orthanc_plugin.results.provenance import CHARACTER_SET
from orthanc_plugin.results.seg import frames as seg_frames
from orthanc_plugin.results.seg.choice import is_binary
from orthanc_plugin.results.seg.labels import comments
from orthanc_plugin.results.seg.reader import frame_pixels

_REPOINTED = "references"
_SIMPLER = {
    Fallback.COMPREHENSIVE_SR: (ComprehensiveSRStorage, (Comprehensive3DSRStorage,)),
    Fallback.ENHANCED_SR: (EnhancedSRStorage, (Comprehensive3DSRStorage, ComprehensiveSRStorage)),
}
"""What a report becomes, and of which classes it may be."""


def substitute(ds: Dataset, fallback: Fallback, original: Dataset | None = None) -> Dataset | None:
    """Return another form of an object; None if this one has no such form.

    `original` is what is stored, where `ds` is a copy of it that refers to substitutes (`repointed`).

    A label map whose rows do not fill whole bytes has no BINARY form, because viewers scramble it; a report with 3D
    coordinates has no simpler form, and one with references within itself is no Enhanced SR (PS3.3 A.35.2).
    """
    if fallback is Fallback.BINARY_SEG:
        return _as_binary(ds) if _is_labelmap(ds) and is_binary(int(ds.Columns)) else None
    if fallback not in _SIMPLER:
        return None
    sop_class, simplified = _SIMPLER[fallback]
    if ds.SOPClassUID not in simplified or _has(ds, "SCOORD3D"):
        return None
    if fallback is Fallback.ENHANCED_SR and _refers_within(ds):
        return None
    return _report(ds, sop_class, str(fallback), original)


def referred_uids(ds: Dataset) -> frozenset[str]:
    """Return the SOPInstanceUIDs to which an object refers."""
    return frozenset(str(item.get(keyword)) for item in _items(ds) for keyword in ("ReferencedSOPInstanceUID", "UID"))


def repointed(ds: Dataset, instead: Mapping[str, Dataset]) -> Dataset:
    """Return an object that refers to substitutes where it refers to what they replace, or the object itself.

    Parameters
    ----------
    ds : Dataset
        A stored object.
    instead : mapping
        Substitutes, by the SOPInstanceUID of what they replace.
    """
    if not (replaced := sorted(referred_uids(ds) & set(instead))):
        return ds
    kind = f"{_REPOINTED} {' '.join(str(instead[uid].SOPInstanceUID) for uid in replaced)}"
    has_predecessors = "ContentSequence" in ds and ds.SOPClassUID != KeyObjectSelectionDocumentStorage
    other = _report(ds, ds.SOPClassUID, kind) if has_predecessors else _renamed(copy.deepcopy(ds), kind)
    series = {identity.series_uid(uid): str(instead[uid].SeriesInstanceUID) for uid in replaced}
    for item in _items(other, leave_out=("PredecessorDocumentsSequence",)):
        if (new := instead.get(str(item.get("ReferencedSOPInstanceUID")))) is not None:
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = new.SOPClassUID, new.SOPInstanceUID
        if (new := instead.get(str(item.get("UID")))) is not None:  # a content item that names a label map
            item.UID = new.SOPInstanceUID
        if (uid := series.get(str(item.get("SeriesInstanceUID")))) is not None:
            item.SeriesInstanceUID = uid
    return other


def made_of(ds: Dataset) -> set[str]:
    """Return the SOPInstanceUIDs that contours and pictures name as what they were made of."""
    named = [roi.get("DefinitionSourceSequence") or () for roi in ds.get("StructureSetROISequence") or ()]
    named.append(ds.get("SourceImageSequence") or ())
    return {str(item.get("ReferencedSOPInstanceUID")) for items in named for item in items}


def _is_labelmap(ds: Dataset) -> bool:
    return bool(ds.get("SegmentationType") == "LABELMAP" and ds.get("BitsAllocated") == 8)


def _as_binary(ds: Dataset) -> Dataset:
    labels = np.stack(list(frame_pixels(ds)))
    table = np.zeros(256, np.uint8)
    for item in ds.SegmentSequence:
        table[int(item.SegmentNumber)] = int(item.SegmentNumber)
    where = seg_frames.occupancy(table, seg_frames.slice_counts(labels))
    order = range(len(labels))
    groups = [_of_first_segment(group) for group in ds.PerFrameFunctionalGroupsSequence]
    binary = Dataset()
    binary.update({element.tag: element for element in _without_frames(ds)})
    binary = _renamed(copy.deepcopy(binary), str(Fallback.BINARY_SEG), ds.file_meta)
    binary.SOPClassUID = binary.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    binary.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    binary.SegmentationType, binary.NumberOfFrames = "BINARY", where.frames
    binary.BitsAllocated = binary.BitsStored = 1
    binary.HighBit = 0
    # The standard requires an item for the background of a LABELMAP only.
    binary.SegmentSequence = [item for item in binary.SegmentSequence if item.SegmentNumber]
    _index_by_segment(binary)
    note = f"the same segments as label map {ds.SOPInstanceUID}"
    binary.ImageComments = comments((note, *str(ds.get("ImageComments") or "").splitlines()))
    correct_ambiguous_vr(binary, True)
    binary.set_original_encoding(False, True, convert_encodings(CHARACTER_SET))
    element = seg_frames.per_frame_groups(groups, order, where)
    binary[element.tag] = element
    binary.add_new("PixelData", "OB", seg_frames.binary_pixels(labels, where, order))
    return binary


def _without_frames(ds: Dataset) -> Dataset:
    left_out = ("PixelData", "PerFrameFunctionalGroupsSequence", "PixelPaddingValue", "DimensionOrganizationType")
    plain = Dataset()
    plain.update({element.tag: element for element in ds if element.keyword not in left_out})
    return plain


def _of_first_segment(group: Dataset) -> Dataset:
    """Describe a frame of a label map as the frame of segment 1; `per_frame_groups` writes the others' numbers."""
    frame = copy.deepcopy(group)
    content = frame.FrameContentSequence[0]
    content.DimensionIndexValues = [1, int(content.DimensionIndexValues)]
    number = Dataset()
    number.ReferencedSegmentNumber = 1
    frame.SegmentIdentificationSequence = [number]
    return frame


def _index_by_segment(ds: Dataset) -> None:
    """Make the segment the first dimension, as of every BINARY segmentation here."""
    uid = identity.dimension_organization_uid(ds.SOPInstanceUID)
    first = Dataset()
    first.DimensionIndexPointer, first.FunctionalGroupPointer = 0x0062000B, 0x0062000A
    first.DimensionDescriptionLabel = "Referenced Segment Number"
    ds.DimensionIndexSequence = [first, *ds.DimensionIndexSequence]
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _report(ds: Dataset, sop_class: UID, kind: str, original: Dataset | None = None) -> Dataset:
    """Copy a report into another class; the original, as it is stored, becomes its predecessor (PS3.3 C.17.2)."""
    report, before = _renamed(copy.deepcopy(ds), kind), original or ds
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = sop_class
    item, series, study = Dataset(), Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = before.SOPClassUID, before.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = before.SeriesInstanceUID, [item]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = before.StudyInstanceUID, [series]
    report.PredecessorDocumentsSequence = [*(before.get("PredecessorDocumentsSequence") or ()), study]
    return report


def _renamed(ds: Dataset, kind: str, meta: FileMetaDataset | None = None) -> Dataset:
    """Give a copy a UID and a series of its own; pictures of one series stay together."""
    is_one_of_several = (
        ds.SOPClassUID == SecondaryCaptureImageStorage and kind_of(int(ds.SeriesNumber)) is Output.SECONDARY_CAPTURE
    )
    ds.file_meta = copy.deepcopy(ds.file_meta if meta is None else meta)
    ds.SOPInstanceUID = identity.substitute_uid(ds.SOPInstanceUID, kind)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    alone, together = identity.series_uid(ds.SOPInstanceUID), identity.substitute_uid(ds.SeriesInstanceUID, kind)
    ds.SeriesInstanceUID = together if is_one_of_several else alone
    return ds


def _items(ds: Dataset, leave_out: tuple[str, ...] = ()) -> Iterator[Dataset]:
    """Yield every item of every sequence, at every depth."""
    for element in ds:
        if element.VR == "SQ" and element.keyword not in leave_out:
            for item in element.value:
                yield item
                yield from _items(item)


def _has(ds: Dataset, value_type: str) -> bool:
    return any(item.get("ValueType") == value_type for item in _items(ds))


def _refers_within(ds: Dataset) -> bool:
    return any("ReferencedContentItemIdentifier" in item for item in _items(ds))
