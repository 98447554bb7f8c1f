"""Classic CT turned into multi-frame CT: Enhanced CT by hand, Legacy Converted Enhanced CT by highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    "StudyDescription", "Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate",
    "SeriesTime", "QualityControlImage", "BodyPartExamined", "PatientPosition", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation",
)  # fmt: skip


def enhanced_ct(slices: Sequence[Dataset], *, positions: Sequence[int] = ()) -> FileDataset:
    """Put uncompressed classic slices into one Enhanced CT, a frame for each in the order given.

    Parameters
    ----------
    slices : sequence of Dataset
        Of one series; orientation, spacing and rescale are taken from the first.
    positions : sequence of int
        TemporalPositionIndex of each frame; none is written where this is empty.
    """
    first = slices[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(first.SOPInstanceUID), "enhanced"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in _PATIENT_AND_STUDY:
        if keyword in first:
            ds[keyword] = deepcopy(first[keyword])
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.InstanceNumber, ds.AcquisitionNumber = 1, 1
    ds.ContentDate, ds.ContentTime, ds.AcquisitionDateTime = "20200101", "120500", "20200101120500"
    _say_kind(ds)
    ds.Manufacturer, ds.ManufacturerModelName = "Maker", "Scanner"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.ContentQualification, ds.BurnedInAnnotation, ds.LossyImageCompression = "RESEARCH", "NO", "00"
    ds.PresentationLUTShape = "IDENTITY"
    ds.AcquisitionContextSequence = []
    ds.NumberOfFrames = len(slices)
    organisation = str(generate_uid(entropy_srcs=[str(first.SOPInstanceUID), "dimensions"]))
    ds.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organisation)]
    ds.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organisation, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111
        )
    ]
    ds.SharedFunctionalGroupsSequence = [_shared(first)]
    ds.PerFrameFunctionalGroupsSequence = [
        _per_frame(source, number, positions[number - 1] if positions else None)
        for number, source in enumerate(slices, start=1)
    ]
    ds.PixelData = b"".join(source.PixelData for source in slices)
    ds["PixelData"].VR = "OW"
    return ds


def concatenated(slices: Sequence[Dataset], parts: int) -> list[FileDataset]:
    """Put classic slices into a concatenation of Enhanced CT (PS3.3 C.7.6.16.2.2.4)."""
    edges = np.linspace(0, len(slices), parts + 1).astype(int)
    made = [enhanced_ct(slices[start:stop]) for start, stop in pairwise(edges)]
    for number, (ds, start) in enumerate(zip(made, edges, strict=False), start=1):
        ds.ConcatenationUID, ds.SOPInstanceUIDOfConcatenationSource = "2.25.77", "2.25.78"
        ds.InConcatenationNumber, ds.InConcatenationTotalNumber = number, parts
        ds.ConcatenationFrameOffsetNumber = int(start)
    return made


def legacy_enhanced_ct(slices: Sequence[Dataset]) -> Dataset:
    """Put classic slices into one Legacy Converted Enhanced CT by highdicom."""
    first = slices[0]
    made = LegacyConvertedEnhancedCTImage(
        list(slices),
        first.SeriesInstanceUID,
        1,
        UID(generate_uid(entropy_srcs=[str(first.SOPInstanceUID), "legacy"])),
        1,
    )
    made.PixelData = made.PixelData or b"".join(source.PixelData for source in slices)
    return made


def _say_kind(ds: Dataset) -> None:
    kind = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]  # asks for no acquisition macros
    if "NumberOfFrames" in ds or "SOPClassUID" in ds:
        ds.ImageType = kind
    else:
        ds.FrameType = kind
    ds.PixelPresentation, ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = "MONOCHROME", "VOLUME", "NONE"


def _shared(first: Dataset) -> Dataset:
    kind = Dataset()
    _say_kind(kind)
    anatomy = _item(CodeValue="51185008", CodingSchemeDesignator="SCT", CodeMeaning="Chest")
    return _item(
        CTImageFrameTypeSequence=[kind],
        PixelMeasuresSequence=[_of(first, "PixelSpacing", "SliceThickness")],
        PlaneOrientationSequence=[_of(first, "ImageOrientationPatient")],
        PixelValueTransformationSequence=[_of(first, "RescaleIntercept", "RescaleSlope", "RescaleType")],
        FrameAnatomySequence=[_item(AnatomicRegionSequence=[anatomy], FrameLaterality="U")],
        FrameVOILUTSequence=[_item(WindowCenter="40", WindowWidth="400")],
        IrradiationEventIdentificationSequence=[_item(IrradiationEventUID="2.25.79")],
    )


def _per_frame(source: Dataset, number: int, temporal: int | None) -> Dataset:
    content = _item(
        FrameAcquisitionNumber=1,
        StackID="1",
        InStackPositionNumber=number,
        DimensionIndexValues=[number],
        FrameAcquisitionDateTime="20200101120500",
        FrameReferenceDateTime="20200101120500",
        FrameAcquisitionDuration=100.0,
    )
    if temporal is not None:
        content.TemporalPositionIndex = temporal
    return _item(
        FrameContentSequence=[content], PlanePositionSequence=[_of(source, "ImagePositionPatient")]
    )  # fmt: skip


def _of(source: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, source.get(keyword) if keyword != "RescaleType" else "HU")
    return item


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
