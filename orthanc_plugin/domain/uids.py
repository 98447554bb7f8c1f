"""UIDs as DICOM allows them. Others must not reach an address: `x?_method=DELETE` there could delete a study."""

from __future__ import annotations

import re

from orthanc_plugin.errors import InputError, Refusal

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
UID_LENGTH = 64
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


def is_uid(text: str) -> bool:
    """Return whether a text is a UID.

    Source
    ------
    DICOM PS3.5 9.1.
    """
    return len(text) <= UID_LENGTH and _UID.fullmatch(text) is not None


def loggable_uid(uid: str) -> str:
    """Return a UID as a log may hold it: any other text could be a value of a patient, or forge a line."""
    return uid if is_uid(uid) or not uid else "(not a valid UID)"


def check_uids(*uids: str) -> None:
    """Raise InputError (`bad-uid`) unless all texts are UIDs; its message does not repeat them."""
    if not all(map(is_uid, uids)):
        raise InputError(Refusal.BAD_UID, "a UID of the series is not valid (DICOM PS3.5 9.1)")
