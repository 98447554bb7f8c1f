"""An event as a DICOM audit message (PS3.15 A.5), in the frame of syslog (RFC 5424)."""

from __future__ import annotations

import os
import re
import socket
from xml.etree import ElementTree as Xml

from orthanc_plugin import __version__
from orthanc_plugin.audit.event import Event, Outcome, What
from orthanc_plugin.audit.trail import Entry, Head
from orthanc_plugin.codes import PRIVATE_SCHEME

_PRIORITY = 10 * 8 + 5
"""Facility authpriv, severity notice, as IHE ATNA asks."""
_NAME = "orthanc-enrich"
_IDS = {
    What.START: ("110100", "Application Activity"), What.STOP: ("110100", "Application Activity"),
    What.LOGIN: ("110114", "User Authentication"), What.DENIED: ("110113", "Security Alert"),
    What.VIEW: ("110103", "DICOM Instances Accessed"), What.SEARCH: ("110112", "Query"),
    What.EXPORT: ("110106", "Export"), What.PATIENT: ("110110", "Patient Record"),
    What.ACT: ("110111", "Procedure Record"), What.STORE: ("110107", "Import"),
    What.DELETE: ("110105", "DICOM Study Deleted"), What.SETTINGS: ("110113", "Security Alert"),
    What.AUDIT: ("110101", "Audit Log Used"),
}  # fmt: skip
"""PS3.16 CID 400."""
_TYPES = {
    What.START: ("110120", "Application Start"), What.STOP: ("110121", "Application Stop"),
    What.LOGIN: ("110122", "Login"),
    What.SETTINGS: ("110129", "Use of Restricted Function"),
}  # fmt: skip
_ACTIONS = {
    What.START: "E", What.STOP: "E", What.LOGIN: "E", What.DENIED: "E", What.SEARCH: "E", What.ACT: "U",
    What.STORE: "C", What.DELETE: "D", What.SETTINGS: "E",
}  # fmt: skip
_INVALID_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def audit_message(event: Event, head: Head, site: str = "") -> str:
    """Write the event as XML.

    Source
    ------
    DICOM PS3.15 A.5.1 (schema) and A.5.3; codes of PS3.16 CID 400, 401 and 402.
    """
    message = Xml.Element("AuditMessage")
    identification = Xml.SubElement(message, "EventIdentification", {
        "EventActionCode": _ACTIONS.get(event.what, "R"),
        "EventDateTime": event.at.isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": "0" if event.outcome is Outcome.SUCCESS else "4",
    })  # fmt: skip
    _code(identification, "EventID", *_IDS[event.what], "DCM")
    if event.what in _TYPES:
        _code(identification, "EventTypeCode", *_TYPES[event.what], "DCM")
    _code(identification, "EventTypeCode", event.what, event.what, PRIVATE_SCHEME)
    if event.outcome is Outcome.FAILURE:
        Xml.SubElement(identification, "EventOutcomeDescription").text = _clean(event.detail)
    caller = {"UserID": _clean(event.who) or "nobody", "UserIsRequestor": "true"}
    if event.address:
        caller |= {"NetworkAccessPointID": _clean(event.address), "NetworkAccessPointTypeCode": "2"}
    Xml.SubElement(message, "ActiveParticipant", caller)
    ours = {"UserID": _NAME, "AlternativeUserID": str(os.getpid()), "UserIsRequestor": "false"}
    Xml.SubElement(message, "ActiveParticipant", ours)
    source = Xml.SubElement(message, "AuditSourceIdentification", {"AuditSourceID": socket.gethostname()})
    if site:
        source.set("AuditEnterpriseSiteID", _clean(site))
    _code(source, "AuditSourceTypeCode", "4", "Application Server Process", "DCM")
    _objects(message, event, head)
    return Xml.tostring(message, encoding="unicode")


def syslog_frame(entry: Entry, site: str = "") -> bytes:
    """Write the message in the frame of RFC 5424, without the length that TCP needs."""
    text = audit_message(entry.event, entry.head, site)
    at = entry.event.at.isoformat(timespec="milliseconds")
    head = f"<{_PRIORITY}>1 {at} {socket.gethostname()[:255]} {_NAME} {os.getpid()} DICOM+RFC3881 - "
    return head.encode() + b"\xef\xbb\xbf" + text.encode()


def _objects(message: Xml.Element, event: Event, head: Head) -> None:
    if event.study:
        study = _object(message, event.study, "3", "110180", "Study Instance UID")
        for series in event.series:
            _detail(study, "SeriesInstanceUID", series)
    else:
        for series in event.series:
            _object(message, series, "3", "113014", "Series Instance UID")
    if event.job:
        _object(message, event.job, "20", "job", "Job of orthanc-enrich", PRIVATE_SCHEME)
    line = _object(message, str(head), "13", "110182", "Node ID")
    details = {"detail": event.detail, "archive": event.archive, "way": event.way, "version": __version__}
    for name, value in details.items():
        if value:
            _detail(line, name, value)


def _object(message: Xml.Element, name: str, role: str, code: str, meaning: str, scheme: str = "DCM") -> Xml.Element:
    made = Xml.SubElement(message, "ParticipantObjectIdentification", {
        "ParticipantObjectID": _clean(name), "ParticipantObjectTypeCode": "2", "ParticipantObjectTypeCodeRole": role,
    })  # fmt: skip
    _code(made, "ParticipantObjectIDTypeCode", code, meaning, scheme)
    Xml.SubElement(made, "ParticipantObjectName").text = _clean(name)  # the schema wants a name or a query
    return made


def _detail(of: Xml.Element, name: str, value: str) -> None:
    from base64 import b64encode

    encoded = b64encode(_clean(value).encode()).decode()
    Xml.SubElement(of, "ParticipantObjectDetail", {"type": name, "value": encoded})


def _code(of: Xml.Element, name: str, code: str, meaning: str, scheme: str) -> None:
    Xml.SubElement(of, name, {"csd-code": code, "codeSystemName": scheme, "originalText": meaning})


def _clean(text: str) -> str:
    """Return the text in one line, as syslog wants it, without what XML 1.0 cannot hold."""
    return _INVALID_IN_XML.sub("?", re.sub(r"[\t\n\r]", " ", text))
