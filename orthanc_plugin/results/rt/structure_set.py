"""Encode the structures of a stored SEG as an RT Structure Set: unapproved contours on the source slices.

It is for planning systems and contouring tools, which do not read a SEG. Outlines run along pixel edges, so filling
them gives the mask of the SEG back. Holes are keyholes (docs/rtstruct.md says why). A SEG holds the body without the
structures inside it; here the body is whole again, because ROIs may overlap. The transfer syntax is Implicit VR,
because a ContourData longer than 65534 bytes has no valid form in Explicit VR.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import highdicom
import numpy as np
from highdicom.base import SOPClass
from numpy.typing import NDArray
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage
from scipy import ndimage

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import ENTIRE_BODY
from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.masks import Labels, Mask, Segment, Segmentation
from orthanc_plugin.domain.plan import ContourStyle, Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import complete, image_references, result_headers
from orthanc_plugin.results.provenance import CHARACTER_SET, Provenance, statements_of, status_of
from orthanc_plugin.results.rt.contours import Points, outlines, separate_outlines
from orthanc_plugin.results.rt.tg263 import roi_names

_TRACED: Mapping[ContourStyle, Callable[[Mask], list[Points]]] = {
    ContourStyle.KEYHOLE: outlines,
    ContourStyle.SEPARATE: separate_outlines,
}

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # retired, but PS3.3 C.8.8.5.4 still requires it
_CONTOURS = Tag("ContourSequence")
_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class _Roi:
    """One ROI. Its number is the SegmentNumber; `covers` are the SegmentNumbers whose voxels it holds."""

    segment: Segment
    name: str
    covers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """One slice of the series: where its pixels lie, and how a contour refers to it.

    reference: its ContourImageSequence, encoded.
    origin: (3,) mm, centre of the first pixel. steps: (2, 3) mm, along columns and rows.
    """

    reference: bytes
    origin: NDArray[np.float64]
    steps: NDArray[np.float64]


def describe(style: ContourStyle) -> str:
    """Describe as text what decides the stored contours beside the SEG; it enters the SOPInstanceUID."""
    return f"closed planar contours along pixel edges; holes: {style}; covered structures included; 0.001 mm"


def encode_rtstruct(
    provenance: Provenance, seg: Dataset, segmentation: Segmentation, style: ContourStyle = ContourStyle.KEYHOLE
) -> Dataset:
    """Encode the structures of one stored SEG as one RT Structure Set in a series of its own.

    Parameters
    ----------
    seg : Dataset
        The SEG as stored.
    segmentation : Segmentation
        What `decode_seg` reads from it.
    style : ContourStyle
        How holes are written.

    Returns
    -------
    Dataset
        ApprovalStatus is UNAPPROVED and every ROI is AUTOMATIC. There is one contour for each island on each slice;
        coordinates are rounded to micrometres.

    Raises
    ------
    EncodingError
        If there is no segment.

    Source
    ------
    DICOM PS3.3 A.19; C.8.8.5, C.8.8.6, C.8.8.8, C.8.8.16.
    """
    if not segmentation.segments:
        raise EncodingError("an RT Structure Set without a structure is never written")
    series, card = provenance.series, provenance.card
    headers = result_headers(series)
    ds = _structure_set(headers, provenance)
    rois = _rois(segmentation, card)
    sources = [_source(header) for header in headers]
    _refer(ds, series, image_references(headers))
    _describe(ds, segmentation, provenance)
    labels = series.on_source(segmentation.labels)
    voxels = dict(zip((s.number for s in segmentation.segments), segmentation.voxels(), strict=True))
    ds.StructureSetROISequence = [
        _structure(roi, provenance, seg, sum(voxels[number] for number in roi.covers) * series.volume.voxel_ml)
        for roi in rois
    ]
    traced = _TRACED[style]
    ds.ROIContourSequence = [_contours(roi, mask, first, sources, traced) for roi, mask, first in _masks(rois, labels)]
    ds.RTROIObservationsSequence = [_observation(roi) for roi in rois]
    ds.ApprovalStatus = "UNAPPROVED"
    complete(ds, provenance, Output.RTSTRUCT)
    for keyword in ("ContentDate", "ContentTime"):  # not in this IOD: it has StructureSetDate
        ds.pop(keyword, None)
    # Without this, pydicom parses all contours and encodes them again on saving.
    ds.set_original_encoding(True, True, convert_encodings(CHARACTER_SET))
    return ds


def _structure_set(headers: Sequence[Dataset], provenance: Provenance) -> SOPClass:
    ds = SOPClass(
        study_instance_uid=headers[0].StudyInstanceUID,
        sop_class_uid=RTStructureSetStorage,
        modality="RTSTRUCT",
        transfer_syntax_uid=ImplicitVRLittleEndian,
        **provenance.sop_arguments(Output.RTSTRUCT),
    )
    ds.copy_patient_and_study_information(headers[0])
    ds.OperatorsName = ""
    scanner = headers[0].get("Manufacturer")
    acquired = [highdicom.ContributingEquipment.for_image_acquisition(headers[0])] if scanner else []
    ds.ContributingEquipmentSequence = [*acquired, provenance.equipment()]
    return ds


def _describe(ds: Dataset, segmentation: Segmentation, provenance: Provenance) -> None:
    card = provenance.card
    ds.StructureSetLabel = "TEST MODEL" if card.test_model else "Research"
    ds.StructureSetName = f"Unapproved, {status_of(card)}: {provenance.model}"[:64]
    says = (*statements_of(card), *segmentation.notes)
    ds.StructureSetDescription = "\n".join(says)[:1024]
    ds.StructureSetDate = f"{provenance.created:%Y%m%d}"
    ds.StructureSetTime = f"{provenance.created:%H%M%S.%f}"


def _refer(ds: Dataset, series: CtSeries, slices: Sequence[Dataset]) -> None:
    """Refer to the space of the contours and to all slices of the series."""
    ds.FrameOfReferenceUID = series.frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    source = _item(SeriesInstanceUID=series.identity.series_instance_uid, ContourImageSequence=list(slices))
    study = _reference(_STUDY_CLASS, series.identity.study_instance_uid)
    study.RTReferencedSeriesSequence = [source]
    frame = _item(FrameOfReferenceUID=series.frame_of_reference_uid, RTReferencedStudySequence=[study])
    ds.ReferencedFrameOfReferenceSequence = [frame]


def _rois(segmentation: Segmentation, card: ModelCard) -> list[_Roi]:
    """List the structures by SegmentNumber; one that was stored without those inside it holds them again."""
    inside = {label.key: {other.key for other in card.labels if other.number in label.covers} for label in card.labels}
    segments = segmentation.segments
    keys = [segment.key.removesuffix("_remainder") for segment in segments]
    covers = [tuple(s.number for s, key in zip(segments, keys, strict=True) if key in inside[own]) for own in keys]
    return [_Roi(*parts) for parts in zip(segments, roi_names(segments), covers, strict=True)]


def _structure(roi: _Roi, provenance: Provenance, seg: Dataset, volume_ml: float) -> Dataset:
    stored = _reference(seg.SOPClassUID, seg.SOPInstanceUID)
    if seg.SOPClassUID == SegmentationStorage:
        stored.ReferencedSegmentNumber = list(roi.covers)
    return _item(
        ROINumber=roi.segment.number,
        ReferencedFrameOfReferenceUID=provenance.series.frame_of_reference_uid,
        ROIName=roi.name,
        ROIVolume=f"{volume_ml:.9g}",
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=provenance.model[:64],
        ROIDerivationAlgorithmIdentificationSequence=provenance.segment_algorithm(),
        DefinitionSourceSequence=[stored],
    )


def _observation(roi: _Roi) -> Dataset:
    segment = roi.segment
    kind = concept(segment.type)
    if segment.modifier is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(segment.modifier)]
    return _item(
        ObservationNumber=segment.number,
        ReferencedROINumber=segment.number,
        SegmentedPropertyCategoryCodeSequence=[concept(segment.category)],
        RTROIIdentificationCodeSequence=[kind],
        RTROIInterpretedType="EXTERNAL" if segment.type.value == ENTIRE_BODY.value else "ORGAN",
        ROIInterpreter="",
    )


def _masks(rois: Sequence[_Roi], labels: Labels) -> Iterator[tuple[_Roi, Mask, tuple[int, ...]]]:
    """Yield each ROI with its mask (z, y, x) inside its bounding box, and the first voxel of that box."""
    boxes = ndimage.find_objects(labels)
    for roi in rois:
        box = reduce(_around, (boxes[number - 1] for number in roi.covers))
        mask = reduce(np.logical_or, (labels[box] == number for number in roi.covers))
        yield roi, mask, tuple(int(side.start) for side in box)


def _around(one: tuple[slice, ...], other: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def _contours(
    roi: _Roi,
    mask: Mask,
    first: tuple[int, ...],
    sources: Sequence[_Source],
    traced: Callable[[Mask], list[Points]],
) -> Dataset:
    """Encode the contours of one ROI. With a pydicom object for every number, a hundred organs would take minutes."""
    z, y, x = first
    contours = b"".join(
        _contour(points + np.array((x, y)), source)
        for plane, source in zip(mask, sources[z:], strict=False)
        for points in traced(plane)
    )
    item = _item(ReferencedROINumber=roi.segment.number, ROIDisplayColor=list(roi.segment.colour))
    item[_CONTOURS] = RawDataElement(_CONTOURS, "SQ", len(contours), contours, 0, True, True)
    item.set_original_encoding(True, True, default_encoding)
    return item


def _contour(points: Points, source: _Source) -> bytes:
    """Encode one item of a ContourSequence in Implicit VR Little Endian."""
    places = np.round(source.origin + points @ source.steps, _DECIMALS) + 0.0  # no "-0"
    return _encoded(
        "Item",
        source.reference
        + _encoded("ContourGeometricType", b"CLOSED_PLANAR")
        + _encoded("NumberOfContourPoints", b"%d" % len(points))
        + _encoded("ContourData", "\\".join(map("{:.10g}".format, places.ravel().tolist())).encode()),
    )


def _encoded(keyword: str, value: bytes, padding: bytes = b" ") -> bytes:
    """Encode tag, length and value (PS3.5 7.1.3)."""
    tag, odd = Tag(keyword), len(value) % 2
    return struct.pack("<HHL", tag.group, tag.element, len(value) + odd) + value + padding * odd


def _source(header: Dataset) -> _Source:
    between_rows, between_columns = map(float, header.PixelSpacing)
    steps = np.array(header.ImageOrientationPatient, float).reshape(2, 3) * [[between_columns], [between_rows]]
    reference = _encoded("ReferencedSOPClassUID", header.SOPClassUID.encode(), b"\0") + _encoded(
        "ReferencedSOPInstanceUID", header.SOPInstanceUID.encode(), b"\0"
    )
    if (frame := frame_number(header)) is not None:
        reference += _encoded("ReferencedFrameNumber", b"%d" % frame)
    return _Source(
        _encoded("ContourImageSequence", _encoded("Item", reference)),
        np.array(header.ImagePositionPatient, float),
        steps,
    )


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    return _item(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_instance_uid)


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
