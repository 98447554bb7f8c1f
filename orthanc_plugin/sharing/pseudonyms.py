"""What stands in the place of UIDs, PatientIDs and dates: derived by a key, so that all objects agree.

With the same key another export gives the same values, so that later studies of a patient join the earlier ones.
Nobody without the key can compute them, and nothing here keeps a list of pairs.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass
from datetime import date, timedelta

_DICOM_ROOT = "1.2.840.10008."
_MOST_DAYS = 3650
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Derives pseudonyms. key: secret; anything shorter than 16 bytes is refused."""

    key: bytes

    def __post_init__(self) -> None:
        """Refuse a key that can be guessed."""
        if len(self.key) < 16:
            raise ValueError("the key of pseudonyms must have 16 bytes or more")

    def uid(self, uid: str) -> str:
        """Return the UID that replaces another; those of the standard stay."""
        if not uid or uid.startswith(_DICOM_ROOT):
            return uid
        return f"2.25.{uuid.UUID(bytes=self._hash('uid', uid)[:16], version=4).int}"

    def patient(self, patient_id: str) -> str:
        """Return what a patient is called; 16 hexadecimal digits."""
        return self._hash("patient", patient_id.strip()).hex()[:_DIGITS]

    def days(self, patient_id: str) -> int:
        """Return by how many days all dates of a patient move back: 1 to 3650."""
        return 1 + int.from_bytes(self._hash("days", patient_id.strip())[:4], "big") % _MOST_DAYS

    def moved(self, text: str, patient_id: str) -> str:
        """Move a DA or DT back, and keep the time of a DT; empty if it is no date."""
        try:
            day = date(int(text[:4]), int(text[4:6]), int(text[6:8])) - timedelta(self.days(patient_id))
        except (ValueError, OverflowError):
            return ""
        return f"{day:%Y%m%d}{text[8:]}"

    def _hash(self, kind: str, text: str) -> bytes:
        return hmac.new(self.key, f"{kind}:{text}".encode(), hashlib.sha256).digest()
