"""The row of a CT series, out of the header of one of its instances."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataset import Dataset

from orthanc_plugin.cohort.items import number_of, text_of, uid_of, whole_of
from orthanc_plugin.cohort.unit import Row, Unit

TAGS = (
    "SOPClassUID", "SOPInstanceUID", "StudyDate", "Modality", "Manufacturer", "SeriesDescription",
    "ManufacturerModelName", "PatientID", "PatientSex", "PatientAge", "ContrastBolusAgent", "BodyPartExamined",
    "SliceThickness", "KVP", "ConvolutionKernel", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "FrameOfReferenceUID", "PixelSpacing",
)  # fmt: skip
"""Elements of a CT instance that the row needs."""

_TEXTS = {
    "study_date": "StudyDate",
    "modality": "Modality",
    "series_description": "SeriesDescription",
    "manufacturer": "Manufacturer",
    "manufacturer_model_name": "ManufacturerModelName",
    "contrast_agent": "ContrastBolusAgent",
    "body_part_examined": "BodyPartExamined",
    "patient_sex": "PatientSex",
}
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def ct_unit(ds: Dataset, place: str, instances: int, patient: Callable[[str], str]) -> Unit:
    """Make the unit of a CT instance that stands for `instances` of its series."""
    series = uid_of(ds.get("SeriesInstanceUID"))
    study = uid_of(ds.get("StudyInstanceUID"))
    row: Row = {name: text_of(ds.get(keyword)) for name, keyword in _TEXTS.items()}
    spacing = [number_of(value) for value in ds.get("PixelSpacing") or ()]
    row |= {
        "series_instance_uid": series,
        "study_instance_uid": study,
        "patient": text_of(patient(str(ds.get("PatientID") or ""))),
        "series_number": whole_of(ds.get("SeriesNumber")),
        "convolution_kernel": "\\".join(_values(ds.get("ConvolutionKernel"))),
        "slice_thickness_mm": number_of(ds.get("SliceThickness")),
        "pixel_spacing_mm": max((value for value in spacing if value is not None), default=None),
        "kvp": number_of(ds.get("KVP")),
        "patient_age_y": _age(str(ds.get("PatientAge") or "")),
        "instances": instances,
        "frame_of_reference_uid": uid_of(ds.get("FrameOfReferenceUID")),
        "reason": "" if series and study else "the header has no valid StudyInstanceUID or SeriesInstanceUID",
    }
    sop = uid_of(ds.get("SOPInstanceUID"))
    return Unit(sop, study, series, is_source=True, modality="CT", place=place, rows={"series": [row]})


def _values(value: object) -> list[str]:
    many = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return [text for one in many if (text := text_of(one))]


def _age(text: str) -> float | None:
    number = number_of(text[:-1]) if text else None
    return round(number * _YEARS[text[-1]], 2) if number is not None and text[-1] in _YEARS else None
