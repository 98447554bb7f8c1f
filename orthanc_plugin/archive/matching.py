"""Match headers with a query, for archives that have no search of their own (DICOM PS3.4 C.2.2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_OF_THE_SERIES = {"ModalitiesInStudy": "Modality", "SOPClassesInStudy": "SOPClassUID"}
"""Keys that an archive computes; here a study matches if one of its series does."""


def matches(ds: Dataset, query: Mapping[str, str]) -> bool:
    """Tell whether a header has all wanted values: one of several, within a range of dates or times, or by * and ?."""
    return all(_has(ds, _OF_THE_SERIES.get(key, key), wanted) for key, wanted in query.items())


def _has(ds: Dataset, key: str, wanted: str) -> bool:
    value = ds.get(key)
    found = [str(v) for v in value] if isinstance(value, MultiValue) else [str(value)] if value is not None else [""]
    tag = tag_for_keyword(key)
    if "-" in wanted and tag is not None and dictionary_VR(tag) in ("DA", "TM", "DT"):
        first, _, last = wanted.partition("-")
        return any(text and first <= text and (not last or text <= last) for text in found)
    return any(fnmatchcase(text, choice.replace("[", "[[]")) for text in found for choice in wanted.split("\\"))
