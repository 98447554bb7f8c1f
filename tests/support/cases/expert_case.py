"""A small chest with one of our SEGs, what experts drew on it, and what people made of it in viewers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as SrCode
from pydicom.uid import generate_uid

from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results.headers import result_headers
from orthanc_plugin.series.read import read_series
from tests.support.cases.foreign_case import as_read
from tests.support.cases.results_case import AIRWAY, CARD, LUNG_LEFT, LUNG_RIGHT, encode, segment

Mask = NDArray[np.bool_]
TISSUE, ORGAN = SrCode("85756007", "SCT", "Tissue"), SrCode("113343008", "SCT", "Organ")
STRUCTURE, HEART = SrCode("123037004", "SCT", "Anatomical Structure"), SrCode("80891009", "SCT", "Heart")


def small_ct(**options: object) -> list[Dataset]:
    """The instances of a phantom of 24 slices."""
    return list(encode_phantom(make_phantom((24, 32, 32), (8, 12, 12)), **options))  # type: ignore[arg-type]


def read(instances: list[Dataset]) -> CtSeries:
    return read_series(iter(instances))


def ellipsoid(series: CtSeries, centre: tuple[float, float, float], radius: tuple[float, float, float]) -> Mask:
    """Voxels around a centre, both in parts of the volume from -1 to 1."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in series.volume.voxels_hu.shape), indexing="ij", sparse=True)
    return np.asarray(sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radius, strict=True)) < 1)


def organs(series: CtSeries) -> dict[str, Mask]:
    """Two lungs and an airway that do not touch."""
    return {
        "lung_left": ellipsoid(series, (0, 0, 0.5), (0.7, 0.5, 0.3)),
        "lung_right": ellipsoid(series, (0, 0, -0.5), (0.7, 0.5, 0.3)),
        "airway": ellipsoid(series, (0.3, 0, 0), (0.5, 0.12, 0.12)),
    }


def our_seg(series: CtSeries, masks: Mapping[str, Mask] | None = None, uid: str = "2.25.5001", card=CARD) -> Dataset:  # type: ignore[no-untyped-def]
    """The SEG that a job stores for these organs."""
    masks = masks or organs(series)
    labels = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    known = {label.key: label for label in (LUNG_LEFT, LUNG_RIGHT, AIRWAY)}
    for key, mask in masks.items():
        labels[mask] = known[key].number
    found = Segmentation(labels, tuple(segment(known[key]) for key in known if key in masks))
    return as_read(encode(series, found, sop_instance_uid=uid, card=replace(card), settings=SegSettings()))


def drawn_seg(
    series: CtSeries, masks: Mapping[str, Mask], codes: Mapping[str, SrCode] | None = None, *, kind: str = "BINARY",
    maker: str = "Somebody", uid: str = "", category: SrCode = TISSUE, **options: object,
) -> Dataset:  # fmt: skip
    """A SEG of another maker; a structure without a code is `Organ`, as editors write it."""
    described = [
        hd.seg.SegmentDescription(
            number, label, category, (codes or {}).get(label, ORGAN), "MANUAL",
            tracking_uid=generate_uid(), tracking_id=label,
        )
        for number, label in enumerate(masks, start=1)
    ]  # fmt: skip
    pixels = np.stack([series.on_source(mask.astype(np.uint8)) for mask in masks.values()], axis=-1)
    seg = hd.seg.Segmentation(
        result_headers(series), pixels, kind, described, series_instance_uid=generate_uid(), series_number=51,
        sop_instance_uid=uid or generate_uid(), instance_number=1, manufacturer=maker,
        manufacturer_model_name="Editor", software_versions="1", device_serial_number="2", **options,
    )  # fmt: skip
    return as_read(seg)


def by_ohif(series: CtSeries, masks: Mapping[str, Mask], kind: str = "BINARY") -> Dataset:
    """An edit as OHIF stores it: all segments of one meaning, named by number, no reference to what was edited."""
    named = {f"Segment {number}": mask for number, mask in enumerate(masks.values(), start=1)}
    return drawn_seg(series, named, kind=kind, maker="OHIF")


def as_ohif_writes(series: CtSeries, ours: Dataset, masks: Mapping[str, Mask], *, names_ours: bool = False) -> Dataset:
    """An edit of one of our SEGs with the header of OHIF 3.13.2 (its `generateSegmentation`, and dcmjs below).

    Labels, type and name of the algorithm are those of the SEG that was opened. Every code is Tissue of SNOMED RT.
    Maker and series have the defaults of dcmjs. Nothing refers to our SEG, because OHIF puts that reference beside the
    dataset and not into it. `names_ours`: as if it were put into it, in the series of ours.
    """
    ds = drawn_seg(series, {str(item.SegmentLabel): mask for item, mask in zip(ours.SegmentSequence, masks.values(),
                                                                               strict=True)})  # fmt: skip
    tissue = hd.sr.CodedConcept("T-D0050", "SRT", "Tissue")
    for item, origin in zip(ds.SegmentSequence, ours.SegmentSequence, strict=True):
        item.SegmentAlgorithmType, item.SegmentAlgorithmName = origin.SegmentAlgorithmType, origin.SegmentAlgorithmName
        item.SegmentedPropertyCategoryCodeSequence = item.SegmentedPropertyTypeCodeSequence = [tissue]
        del item.TrackingUID, item.TrackingID
    ds.Manufacturer = ds.ManufacturerModelName = "Unspecified"
    ds.SoftwareVersions, ds.DeviceSerialNumber = "0", "1"
    ds.SeriesDescription, ds.SeriesNumber = "Research Derived series", 99
    ds.ImageComments, ds.ContentQualification = "NOT FOR CLINICAL USE", "RESEARCH"
    ds.ContentLabel = ds.ContentDescription = ds.ContentCreatorName = ""
    if names_ours:
        ds.SeriesInstanceUID, ds.InstanceNumber = ours.SeriesInstanceUID, 2
        instance, of_series, study = Dataset(), Dataset(), Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = ours.SOPClassUID, ours.SOPInstanceUID
        of_series.SeriesInstanceUID, of_series.ReferencedSOPSequence = ours.SeriesInstanceUID, [instance]
        study.StudyInstanceUID, study.ReferencedSeriesSequence = ours.StudyInstanceUID, [of_series]
        ds.PredecessorDocumentsSequence = [study]
    return as_read(ds)


def by_slicer(series: CtSeries, masks: Mapping[str, Mask]) -> Dataset:
    """An edit as 3D Slicer stores it by dcmqi: codes where they were chosen, names as typed, empty frames left out."""
    codes = {"lunge li": SrCode("44029006", "SCT", "Left lung"), "lunge re": SrCode("3341006", "SCT", "Right lung")}
    named = dict(zip(("lunge li", "lunge re", "luft"), masks.values(), strict=True))
    return drawn_seg(series, named, codes, maker="QIICR", category=STRUCTURE, omit_empty_frames=True)


def edited(series: CtSeries) -> dict[str, Mask]:
    """The organs after a person cut the left lung's upper part off and left the others alone."""
    masks = organs(series)
    masks["lung_left"] = masks["lung_left"].copy()
    masks["lung_left"][15:] = False
    return masks


def write(folder: Path, *objects: Dataset) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for ds in objects:
        ds.save_as(folder / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder
