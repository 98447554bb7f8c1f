"""Source headers as results may inherit them: repaired copies, never the source itself.

A result takes patient and study attributes from its CT, and the CT of the real world has ages without a unit, names
in undeclared scripts, missing type 2 attributes and a frame of reference per slice. What a result may carry is listed
here; a value that would make it invalid is repaired where the meaning is plain, emptied where the standard allows
(type 2) and left out otherwise. PatientID and the UIDs are identity and are copied as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pydicom.config
from highdicom.base import SOPClass
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, DT, TM, DSfloat, validate_value

from orthanc_plugin.ct import CtSeries

CHARACTER_SET = "ISO_IR 192"
"""UTF-8 for every result: it holds any name, whatever the source declared or failed to declare."""

_TYPE_2 = (
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_TYPE_3 = (
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "Manufacturer",
    "ManufacturerModelName",
)
_IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")


def result_headers(series: CtSeries) -> list[Dataset]:
    """One small dataset a slice, in the order of the volume, from which a valid result can be built.

    Orientation and spacing are those of the volume (one for all slices), the frame of reference is the series' own
    or the derived one; positions stay those of the slices. Nothing of the source is changed. The patient's name comes
    later (`complete`): highdicom quotes a name without `^` in a warning, and no log may hold one.
    """
    with pydicom.config.disable_value_validation():
        inherited = _inherited(series.headers[0])
        return [_slice_header(source, inherited, series) for source in series.headers]


def complete(ds: SOPClass, series: CtSeries, created: datetime) -> None:
    """Give a built result its patient's name, and replace highdicom's clock readings by `created` (equal reruns).

    Dates are text, as they are in an object that was read: the two can be compared.
    """
    with pydicom.config.disable_value_validation():
        ds.PatientName = _sanitised(series.headers[0], "PatientName")
    for kind in ("InstanceCreation", "Content"):
        setattr(ds, f"{kind}Date", f"{created:%Y%m%d}")
        setattr(ds, f"{kind}Time", f"{created:%H%M%S.%f}")
    for item in ds.ContributingEquipmentSequence:
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = DT(created)


def instance_number(header: Dataset) -> str:
    """InstanceNumber of a source slice for people to read, `?` where it has none."""
    value = header.get("InstanceNumber")
    return "?" if value is None else str(value)


def _inherited(source: Dataset) -> Dataset:
    ds = Dataset()
    ds.PatientName = ""
    for keyword in _TYPE_2:
        setattr(ds, keyword, _sanitised(source, keyword) or "")
    for keyword in _TYPE_3:
        if value := _sanitised(source, keyword):
            setattr(ds, keyword, value)
    if not _is_deidentification_stated(ds):
        ds.pop("PatientIdentityRemoved", None)
    return ds


def _is_deidentification_stated(ds: Dataset) -> bool:
    """PS3.3 C.7.1.1: PatientIdentityRemoved YES asks for the method; we carry it as text."""
    return ds.get("PatientIdentityRemoved") != "YES" or "DeidentificationMethod" in ds


def _slice_header(source: Dataset, inherited: Dataset, series: CtSeries) -> Dataset:
    ds = Dataset()
    ds.update(inherited)
    ds.SpecificCharacterSet = CHARACTER_SET
    for keyword in _IDENTITY:
        setattr(ds, keyword, str(source.get(keyword) or ""))
    ds.Modality = "CT"
    ds.FrameOfReferenceUID = series.frame_of_reference_uid
    ds.PositionReferenceIndicator = _sanitised(source, "PositionReferenceIndicator") or ""
    ds.ImagePositionPatient = [_ds(value) for value in source.ImagePositionPatient]
    _, ds.Rows, ds.Columns = series.volume.voxels_hu.shape
    _set_grid(ds, source, series)
    return ds


def _set_grid(ds: Dataset, source: Dataset, series: CtSeries) -> None:
    step_mm, row_mm, column_mm = series.volume.spacing_mm
    axes = series.volume.affine[:3, :2]
    ds.ImageOrientationPatient = [_ds(value) for value in (axes / np.linalg.norm(axes, axis=0)).T.ravel()]
    ds.PixelSpacing = [_ds(row_mm), _ds(column_mm)]
    ds.SpacingBetweenSlices = _ds(step_mm)
    thickness = _sanitised(source, "SliceThickness")
    ds.SliceThickness = _ds(float(thickness) if thickness and float(thickness) > 0 else step_mm)


def _ds(value: float) -> DSfloat:
    return DSfloat(float(value), auto_format=True)


def _sanitised(source: Dataset, keyword: str) -> str:
    """The value as text that fits its VR, repaired where possible; empty where there is none."""
    vr = dictionary_VR(keyword)
    try:
        value = source.get(keyword)
    except ValueError:  # a DS that is no number
        return ""
    whole = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")
    text = _REPAIRS.get(vr, str)(whole.strip())
    return _REPAIRS.get(keyword, str)(text) if _fits(vr, text) else ""


def _fits(vr: str, text: str) -> bool:
    try:
        validate_value(vr, text, pydicom.config.RAISE)
        _PARSERS.get(vr, str)(text)
    except ValueError:
        return False
    return "\\" not in text


def _age(text: str) -> str:
    """`45` and `45y` are 045Y."""
    match = re.fullmatch(r"(\d{1,3})([DWMY]?)", text.upper())
    return f"{int(match[1]):03d}{match[2] or 'Y'}" if match else ""


def _date(text: str) -> str:
    """`2003.01.31` (ACR-NEMA) and `2003-01-31` are 20030131."""
    match = re.fullmatch(r"(\d{4})[.\-/](\d{2})[.\-/](\d{2})", text)
    return "".join(match.groups()) if match else text


def _time(text: str) -> str:
    """`10:20:30` (ACR-NEMA) is 102030."""
    return text.replace(":", "")


def _sex(text: str) -> str:
    return text if text in {"M", "F", "O"} else ""


def _long(text: str) -> str:
    return text.replace("\\", "/")[:64]


_REPAIRS: dict[str, Callable[[str], str]] = {"AS": _age, "DA": _date, "TM": _time, "LO": _long, "PatientSex": _sex}
_PARSERS: dict[str, Callable[[str], object]] = {"DA": DA, "TM": TM, "DS": float}
