"""Copy the source headers that a result may inherit, and repair them on the way.

A result takes patient and study attributes from its CT. Real CT series have ages without a unit, names in undeclared
scripts, missing type 2 attributes and a frame of reference per slice. This module lists what a result may carry. A
value that would make the result invalid is repaired if its meaning is plain, emptied if the standard allows that
(type 2), and left out otherwise. The log names the attribute, never the value. PatientID and the UIDs are identity:
they are copied unchanged, and a series with invalid ones gets no result. The source itself is never changed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache

import numpy as np
import pydicom.config
from highdicom.base import SOPClass
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import RE_VALID_UID
from pydicom.valuerep import DA, DT, TM, DSfloat, validate_value

from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.listing import series_time
from orthanc_plugin.results.provenance import CHARACTER_SET, Provenance
from orthanc_plugin.results.source_text import has_control_characters, plain_text, raw_text, whole_number

logger = logging.getLogger(__name__)

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
_REPAIRABLE = ("PatientName", *_TYPE_2, *_TYPE_3, "PositionReferenceIndicator", "SliceThickness")
_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "LongitudinalTemporalInformationModified": {"UNMODIFIED", "MODIFIED", "REMOVED"},
}
_SEXES = {"MALE": "M", "FEMALE": "F", "OTHER": "O"}
_LONG_STRING, _NAME_GROUPS, _NAME_COMPONENTS = 64, 3, 5  # PS3.5 6.2


def result_headers(series: CtSeries) -> list[Dataset]:
    """Make one small dataset per slice, in the order of the volume, from which a valid result can be built.

    Orientation and spacing are those of the volume, equal for all slices. The frame of reference is the series' own or
    the derived one. Positions are those of the slices. `complete` sets the patient's name later, because highdicom
    quotes a name without `^` in a warning and no log may hold a name.

    Raises
    ------
    EncodingError
        If PatientID or a UID is invalid. They must not be changed, and an archive would refuse a result with them.
    """
    return _result_headers(series, series.headers)


def first_header(series: CtSeries) -> Dataset:
    """Make the first dataset of `result_headers` alone, for results that need only what all slices share.

    Raises
    ------
    EncodingError
        As `result_headers`.
    """
    (header,) = _result_headers(series, series.headers[:1])
    return header


def _result_headers(series: CtSeries, sources: Sequence[Dataset]) -> list[Dataset]:
    check_identity(series)
    _log_repairs(series.identity.series_instance_uid, tuple(repaired(series.headers[0])))
    with pydicom.config.disable_value_validation():
        inherited = _inherited(series.headers[0])
        return [_slice_header(source, inherited, series) for source in sources]


def check_identity(series: CtSeries) -> None:
    """Refuse a series whose identity no valid result can carry.

    Raises
    ------
    EncodingError
        If PatientID has more than 64 characters, several values or control characters, or if a UID is not valid
        (PS3.5 6.2, 9.1). The message names the attribute.
    """
    for header in series.headers:
        if not _is_long_string(raw_text(header, "PatientID") or ""):
            raise EncodingError("PatientID is not a text of at most 64 characters; correct it in the archive")
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            _check_uid(keyword, raw_text(header, keyword))
    _check_uid("FrameOfReferenceUID", series.frame_of_reference_uid)


def _check_uid(keyword: str, uid: str | None) -> None:
    if not uid or len(uid) > _LONG_STRING or not re.fullmatch(RE_VALID_UID, uid):
        raise EncodingError(f"{keyword} is not a valid UID; correct it in the archive")


def repaired(source: Dataset) -> Iterator[str]:
    """List the keywords that a result inherits in another form than the source has, or not at all."""
    return (keyword for keyword in _REPAIRABLE if raw_text(source, keyword) != _sanitised(source, keyword))


@lru_cache(maxsize=256)
def _log_repairs(series_uid: str, keywords: tuple[str, ...]) -> None:
    """Log once per series, although each of its results calls this."""
    if keywords:
        logger.info("series %s: repaired or left out in results: %s", series_uid, ", ".join(keywords))


def complete(ds: SOPClass, provenance: Provenance, kind: Output) -> None:
    """Set the patient's name and the times, so that a rerun gives the same bytes.

    Dates are text, as in an object that was read, so that the two can be compared.
    """
    with pydicom.config.disable_value_validation():
        ds.PatientName = _sanitised(provenance.series.headers[0], "PatientName")
    for made in ("InstanceCreation", "Content"):
        _set_time(ds, made, provenance.created)
    _set_time(ds, "Series", series_time(kind, provenance.begun or provenance.created, provenance.order))
    for item in ds.ContributingEquipmentSequence:
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = DT(provenance.created)


def _set_time(ds: Dataset, what: str, when: datetime) -> None:
    setattr(ds, f"{what}Date", f"{when:%Y%m%d}")
    setattr(ds, f"{what}Time", f"{when:%H%M%S.%f}")


def image_references(headers: Sequence[Dataset]) -> list[Dataset]:
    """Refer to each instance once, to frames by their numbers (PS3.3 10.3, Image SOP Instance Reference Macro)."""
    items: dict[str, Dataset] = {}
    frames: dict[str, list[int]] = {}
    for header in headers:
        item = items.setdefault(header.SOPInstanceUID, Dataset())
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        if (frame := frame_number(header)) is not None:
            frames.setdefault(header.SOPInstanceUID, []).append(frame)
    for uid, numbers in frames.items():
        items[uid].ReferencedFrameNumber = sorted(numbers)
    return list(items.values())


def instance_number(header: Dataset) -> str:
    """Show the InstanceNumber of a source slice, or `?` if it has none, and the number of its frame if it has one."""
    value = whole_number(header, "InstanceNumber")
    number = "?" if value is None else str(value)
    frame = frame_number(header)
    return number if frame is None else f"{number} frame {frame}"


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
    """Check that PatientIdentityRemoved YES comes with its method, as PS3.3 C.7.1.1 requires; we carry it as text."""
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
    _, ds.Rows, ds.Columns = series.source_shape
    if (frame := frame_number(source)) is not None:
        ds.ReferencedFrameNumber = frame
    _set_grid(ds, source, series)
    return ds


def _set_grid(ds: Dataset, source: Dataset, series: CtSeries) -> None:
    step_mm, row_mm, column_mm = series.volume.spacing_mm
    axes = series.volume.affine[:3, :2]
    ds.ImageOrientationPatient = [_ds(value) for value in (axes / np.linalg.norm(axes, axis=0)).T.ravel()]
    ds.PixelSpacing = [_ds(row_mm), _ds(column_mm)]
    if series.placement is None or np.all(np.diff(series.placement.z) == 1):
        ds.SpacingBetweenSlices = _ds(step_mm)
    thickness = _sanitised(source, "SliceThickness")
    ds.SliceThickness = _ds(float(thickness) if thickness else step_mm)


def _ds(value: float) -> DSfloat:
    return DSfloat(float(value), auto_format=True)


def _sanitised(source: Dataset, keyword: str) -> str:
    """Read a value as text that fits its VR, repaired if possible; empty if there is none."""
    vr = dictionary_VR(keyword)
    repair = _REPAIRS.get(keyword) or _REPAIRS.get(vr, str)
    text = repair(raw_text(source, keyword) or "")
    return text if _fits(vr, text) and text in _ENUMERATED.get(keyword, {text}) else ""


def _fits(vr: str, text: str) -> bool:
    try:
        validate_value(vr, text, pydicom.config.RAISE)
        _PARSERS.get(vr, str)(text)
    except ValueError:
        return False
    return "\\" not in text


def _is_long_string(text: str) -> bool:
    return len(text) <= _LONG_STRING and "\\" not in text and not has_control_characters(text)


def _age(text: str) -> str:
    """Turn `45` and `45y` into 045Y."""
    match = re.fullmatch(r"(\d{1,3})([DWMY]?)", text.upper())
    return f"{int(match[1]):03d}{match[2] or 'Y'}" if match else ""


def _date(text: str) -> str:
    """Turn `2003.01.31` (ACR-NEMA) and `2003-01-31` into 20030131; years before 1000 are refused."""
    match = re.fullmatch(r"([12]\d{3})[.\-/]?(\d{2})[.\-/]?(\d{2})", text)
    return "".join(match.groups()) if match else ""


def _time(text: str) -> str:
    """Turn `10:20:30` (ACR-NEMA) into 102030, and a leap second into the one before: few readers know it."""
    return re.sub(r"^(\d{4})60", r"\g<1>59", text.replace(":", ""))


def _sex(text: str) -> str:
    """Turn `female` into F."""
    return _SEXES.get(text.upper(), text.upper())


def _positive(text: str) -> str:
    """Leave out a size or weight that nobody can have."""
    return text if _fits("DS", text) and text and float(text) > 0 else ""


def _long(text: str) -> str:
    return plain_text(text).replace("\\", "/")[:_LONG_STRING].rstrip()


def _name(text: str) -> str:
    """Take the first name, with at most three groups of at most five components each (PS3.5 6.2.1)."""
    groups = plain_text(text.split("\\")[0]).split("=")[:_NAME_GROUPS]
    return "=".join(_name_group(group) for group in groups).rstrip("=")


def _name_group(group: str) -> str:
    *first, last = group.split("^", _NAME_COMPONENTS - 1)
    return "^".join((*first, last.replace("^", " ")))[:_LONG_STRING].rstrip()


_REPAIRS: dict[str, Callable[[str], str]] = {
    "AS": _age,
    "DA": _date,
    "TM": _time,
    "LO": _long,
    "PN": _name,
    "SH": plain_text,
    "IssuerOfPatientID": plain_text,
    "PatientSex": _sex,
    "PatientSize": _positive,
    "PatientWeight": _positive,
    "SliceThickness": _positive,
}
_PARSERS: dict[str, Callable[[str], object]] = {"DA": DA, "TM": TM, "DS": float}
