"""The body of a STOW-RS request with one instance, and what the answer says of it.

Archives answer in many ways: 200, 202 and 409 with a list of failures, a text of their own, or no body at all.

Source
------
DICOM PS3.18 10.5.3 and I.2.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO

import requests
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from orthanc_plugin.archive.refusal import refusal
from orthanc_plugin.errors import EnrichError, NotSupportedError, StoreError, TransientError

AWAY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY,
                  HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})  # fmt: skip

_ANSWER_CHARACTERS = 200
_PATIENT_GROUP, _SHORTEST = 0x0010, 3
_IDENTIFYING = (
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyDescription",
    "InstitutionName",
)  # fmt: skip
_KNOWN = frozenset(HTTPStatus)
_REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "check User and Password, or Token, of this archive",
    HTTPStatus.FORBIDDEN: "its account needs the right to do this there",
    HTTPStatus.NOT_FOUND: "check its Url",
    HTTPStatus.METHOD_NOT_ALLOWED: "check its Url",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "raise the limit of a request there, or of the proxy before it",
    HTTPStatus.INSUFFICIENT_STORAGE: "make room there, then try again",
}
_REASONS = {
    0x0110: "processing failure",
    0x0111: "it has another object of this UID",
    0x0122: "it does not support this kind of object",
    0x0124: "its account may not store this",
    0xA700: "it has no room or memory left",
    0xA900: "the object does not fit its SOP class",
    0xC000: "it does not understand the object",
}
"""PS3.4 Table B.2-1 and PS3.18 Table I.2-2."""
_STORED, _FAILED = "00081199", "00081198"
_REFERENCED, _FAILURE, _WARNING = "00081155", "00081197", "00081196"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StowRequest:
    """Body and header fields of the request."""

    body: BytesIO
    headers: Mapping[str, str]


def stow_request(ds: Dataset) -> StowRequest:
    """Encode one instance."""
    # Without a preamble pydicom writes no file header. Orthanc 1.10.1 stores such a file, but nobody can read it.
    ds.preamble = getattr(ds, "preamble", None) or bytes(128)
    boundary, body = uuid.uuid4().hex, BytesIO()
    body.write(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode())
    dcmwrite(body, ds)
    body.write(f"\r\n--{boundary}--\r\n".encode())
    body.seek(0)
    content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return StowRequest(body, {"Content-Type": content_type, "Accept": "application/dicom+json"})


def is_confirmed(archive: str, ds: Dataset, answer: requests.Response) -> bool:
    """Return whether the answer lists the instance as stored; False if it says nothing of any instance.

    Raises
    ------
    NotSupportedError
        The archive does not support this kind of object.
    StoreError
        It refuses the instance otherwise, or lists others only.
    TransientError
        It cannot store now.
    """
    said = _said(answer)
    failed = _items(said, _FAILED)
    if not answer.ok or failed:
        raise _refused(archive, ds, answer, said)
    if said is None:
        return False
    stored = {_value(item, _REFERENCED): item for item in _items(said, _STORED)}
    if (mine := stored.get(str(ds.SOPInstanceUID))) is None:
        raise StoreError(f"archive {archive} does not list {ds.SOPInstanceUID} as stored")
    if warning := _code(mine, _WARNING):
        logger.warning("archive %s stored %s with warning reason 0x%04X", archive, ds.SOPInstanceUID, warning)
    return True


def _refused(archive: str, ds: Dataset, answer: requests.Response, said: Mapping[str, object] | None) -> EnrichError:
    status = status_of(answer.status_code)
    if answer.status_code in AWAY or answer.is_redirect:
        return TransientError(f"archive {archive} answered {status}")
    codes = [_code(item, _FAILURE) for item in _items(said, _FAILED)]
    reasons = ", ".join(map(_reason, codes))
    if codes:
        sop_class = str(ds.get("SOPClassUID") or "")
        return refusal(archive, sop_class, codes[0], f"answered {status}: {reasons} for {ds.SOPInstanceUID}")
    text = f"archive {archive} answered {status}{_explanation(said, ds)}{remedy(answer.status_code)}"
    is_media_type = answer.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    return NotSupportedError(text) if is_media_type else StoreError(text)


def _said(answer: requests.Response) -> Mapping[str, object] | None:
    """Return the answer as an object; None where there is none, or where it is not JSON."""
    if "json" not in answer.headers.get("Content-Type", ""):
        return None
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return None
    if isinstance(body, list):  # some archives put the one object into a list
        body = body[0] if body else {}
    return body if isinstance(body, dict) else None


def _explanation(said: Mapping[str, object] | None, ds: Dataset) -> str:
    """Extract Orthanc's own error fields, without values of the patient: the job database keeps the text."""
    said = said or {}
    text = " ".join(str(said[key]) for key in ("OrthancError", "Message", "Details") if said.get(key))
    return f": {without_patient(text[:_ANSWER_CHARACTERS], ds)}" if text else ""


def without_patient(text: str, ds: Dataset) -> str:
    """Mask what a text quotes of the patient and of the study in the header of an instance."""
    elements = [element for element in ds if element.tag.group == _PATIENT_GROUP or element.keyword in _IDENTIFYING]
    values = {str(element.value) for element in elements if element.VR != "SQ"}
    words = values | {word for value in values for word in re.split(r"[\^=\\\s,]+", value)}
    for word in sorted((word for word in words if len(word) >= _SHORTEST), key=len, reverse=True):
        text = re.sub(re.escape(word), "***", text, flags=re.IGNORECASE)
    return text


def remedy(code: int) -> str:
    """Say what to do about a status, after `: `; empty where only the archive knows."""
    return f": {_REMEDIES[code]}" if code in _REMEDIES else ""


def _reason(code: int) -> str:
    known = _REASONS.get(code & 0xFF00 if code & 0xF000 in (0xA000, 0xC000) else code)
    return f"failure reason 0x{code:04X}" + (f" ({known})" if known else "")


def status_of(code: int) -> str:
    """Name a status in the words of the standard; an archive's own words may be anything."""
    return f"{code} {HTTPStatus(code).phrase}" if code in _KNOWN else str(code)


def _items(said: Mapping[str, object] | None, tag: str) -> list[Mapping[str, object]]:
    """Return the items of a sequence in the DICOM JSON model (PS3.18 F.2)."""
    element = said.get(tag) if said else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def _value(item: Mapping[str, object], tag: str) -> str:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _code(item: Mapping[str, object], tag: str) -> int:
    """Return a reason code; 0 if it is missing."""
    text = _value(item, tag)
    return int(text) if text.isdigit() else 0
