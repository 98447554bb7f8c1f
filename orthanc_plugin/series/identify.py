"""Who a series is: its UIDs and its patient, checked before anything is made of it.

A result repeats these values as they are. A series whose values are invalid is refused here, since no valid result
could name it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import RE_VALID_UID

from orthanc_plugin.domain.instances import distinct_instances
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.identity import SeriesIdentity

_LONGEST = 64  # characters of a UID and of PatientID (PS3.5 6.2)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def identity_of(headers: Sequence[Dataset]) -> SeriesIdentity:
    """Tell who a series is.

    Parameters
    ----------
    headers : sequence of Dataset
        All instances of one series, or their WADO-RS metadata; pixel data is not looked at. An instance that comes
        twice with the same content counts once.

    Raises
    ------
    InputError
        GONE: there is no instance. MIXED_IDENTITY: PatientID, StudyInstanceUID or SeriesInstanceUID differ, or a
        SOPInstanceUID comes twice with different content. MISSING_IDENTITY: a UID is missing. INVALID_IDENTITY: a UID
        or PatientID that no valid result can carry.

    Source
    ------
    DICOM PS3.5 6.2 and 9.1.
    """
    if not headers:
        raise InputError(Refusal.GONE, "the series has no instances")
    instances = distinct_instances(headers)
    frames = {str(ds.get("FrameOfReferenceUID") or "") for ds in instances} - {""}
    for uid in frames:
        _check_uid("FrameOfReferenceUID", uid)
    return SeriesIdentity(
        patient_id=_only({_patient_id(ds) for ds in instances}, "PatientID"),
        study_instance_uid=_only({_uid(ds, "StudyInstanceUID") for ds in instances}, "StudyInstanceUID"),
        series_instance_uid=_only({_uid(ds, "SeriesInstanceUID") for ds in instances}, "SeriesInstanceUID"),
        sop_instance_uids=tuple(sorted(_uid(ds, "SOPInstanceUID") for ds in instances)),
        frame_of_reference_uids=tuple(sorted(frames)),
    )


def _patient_id(ds: Dataset) -> str:
    value = ds.get("PatientID") or ""
    if isinstance(value, MultiValue) or len(str(value)) > _LONGEST or _CONTROL.search(str(value)):
        message = f"PatientID is not one text of at most {_LONGEST} characters; correct it in the archive"
        raise InputError(Refusal.INVALID_IDENTITY, message)
    return str(value)


def _uid(ds: Dataset, keyword: str) -> str:
    value = str(ds.get(keyword) or "")
    if not value:
        raise InputError(Refusal.MISSING_IDENTITY, f"an instance has no {keyword}; de-identify again, keeping UIDs")
    _check_uid(keyword, value)
    return value


def _check_uid(keyword: str, value: str) -> None:
    if len(value) > _LONGEST or not re.fullmatch(RE_VALID_UID, value):
        quoted = f" {value[: 2 * _LONGEST]}" if re.fullmatch(r"[0-9.]+", value) else ""  # no free text in messages
        message = f"{keyword}{quoted} is not a valid UID (PS3.5 9.1); correct it in the archive"
        raise InputError(Refusal.INVALID_IDENTITY, message)


def _only(values: set[str], keyword: str) -> str:
    if len(values) > 1:
        raise InputError(Refusal.MIXED_IDENTITY, f"instances differ in {keyword}; split the series")
    return values.pop()
