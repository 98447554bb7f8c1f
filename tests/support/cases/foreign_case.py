"""Masks as other makers write them: SEGs by highdicom, RT structure sets by hand, on the small series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from orthanc_plugin.domain.found_masks import FoundMasks
from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.headers import result_headers

FOREIGN_UID = "2.25.7001"
Contour = Sequence[tuple[float, float]]


def balls(series: CtSeries, *centres: tuple[float, float, float], radius: float = 0.5) -> list[Mask]:
    """Ellipsoids around centres, given as parts (z, y, x) of the volume from -1 to 1."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in series.source_shape), indexing="ij", sparse=True)
    return [sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < radius**2 for centre in centres]


def highdicom_seg(
    series: CtSeries, masks: Sequence[NDArray[np.generic]], kind: str = "BINARY", **options: object
) -> Dataset:
    """Write masks with highdicom; the first has no code for its side, and no tracking UID has any."""
    headers = result_headers(series)
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"Lesion {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type="MANUAL",
        )
        for number in range(1, len(masks) + 1)
    ]
    seg = hd.seg.Segmentation(
        headers, np.stack(masks, axis=-1).astype(float if kind == "FRACTIONAL" else np.uint8), kind, described,
        series_instance_uid="2.25.7000", series_number=41, sop_instance_uid=FOREIGN_UID, instance_number=1,
        manufacturer="Somebody", manufacturer_model_name="Else", software_versions="1", device_serial_number="2",
        **options,
    )  # fmt: skip
    return as_read(seg)


def as_read(ds: Dataset) -> Dataset:
    """Write an object and read it back."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def square(left: float, top: float, right: float, bottom: float) -> Contour:
    """A rectangle, in pixels."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def rtstruct(
    series: CtSeries, rois: Mapping[str, Mapping[float, Sequence[Contour]]], kind: str = "CLOSED_PLANAR"
) -> Dataset:
    """Write contours by ROI and slice; a slice between two, such as 2.5, lies between them."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = RTStructureSetStorage, FOREIGN_UID, "RTSTRUCT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = series.identity.study_instance_uid, "2.25.7002"
    ds.PatientID, ds.SeriesNumber, ds.Manufacturer, ds.StructureSetLabel = "P1", 42, "Planner", "PLAN"
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(ds, keyword, "")
    ds.ReferencedFrameOfReferenceSequence = [_frame(series)]
    ds.StructureSetROISequence = [_roi(number, name, series) for number, name in enumerate(rois, start=1)]
    ds.ROIContourSequence = [
        _contours(number, slices, series, kind) for number, slices in enumerate(rois.values(), start=1)
    ]
    return as_read(ds)


def _frame(series: CtSeries) -> Dataset:
    frame, study, one = Dataset(), Dataset(), Dataset()
    one.SeriesInstanceUID = series.identity.series_instance_uid
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", "2.25.100"
    study.RTReferencedSeriesSequence = [one]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = series.frame_of_reference_uid, [study]
    return frame


def _roi(number: int, name: str, series: CtSeries) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, series.frame_of_reference_uid
    return roi


def _contours(number: int, slices: Mapping[float, Sequence[Contour]], series: CtSeries, kind: str) -> Dataset:
    roi = Dataset()
    roi.ReferencedROINumber, roi.ContourSequence = number, []
    for z, contours in slices.items():
        for contour in contours:
            points = [series.volume.affine @ (x, y, z, 1) for x, y in contour]
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
            item.ContourData = [f"{value:.3f}" for point in points for value in point[:3]]
            roi.ContourSequence.append(item)
    return roi


def by_number(found: FoundMasks) -> dict[int, Mask]:
    """The mask of each structure, by its number."""
    return {segment.number: layer.mask(segment) for layer in found.layers for segment in layer.segments}
