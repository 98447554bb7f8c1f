"""The spellings of RescaleType that mean Hounsfield units.

RescaleType is a defined term (PS3.3 C.11.1.1.2), but senders write it as free text.
"""

from __future__ import annotations

import re

HOUNSFIELD = "HU"
_SPELLINGS = re.compile(r"HUS?|(UNIT(E|ES|A)?)?HOU?N?D?S?FI?E?I?LE?D(S|UNITS?|EINHEIT(EN)?)?|HNSFU|CTNUMBERS?")


def rescale_unit(text: str) -> str:
    """Give `HU` for every spelling that means Hounsfield units, and any other text as it is."""
    letters = re.sub(r"[^A-Z]", "", text.upper().replace("HU_MOD", "MODIFIED"))
    return HOUNSFIELD if _SPELLINGS.fullmatch(letters) else text.strip()
