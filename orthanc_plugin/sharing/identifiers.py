"""The words that name a patient in an object: they must not stand anywhere in what is exported."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from pydicom.dataset import Dataset

from orthanc_plugin.results.rt.tg263 import PRIMARY_NAMES

_NAMING = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "AccessionNumber", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansOfRecord", "RequestingPhysician", "InstitutionName", "InstitutionAddress", "StationName",
    "PatientAddress", "PatientTelephoneNumbers", "ContentCreatorName", "IssuerOfPatientID", "MilitaryRank",
)  # fmt: skip
_SHORTEST = 4
_PARTS = re.compile(r"[\W_]+")
_COMMON = frozenset(
    (
        *("none", "name", "unknown", "anonymous", "anonymized", "patient", "hospital", "phantom", "chest"),
        *("left", "right", "center", "upper", "lower", "bottom", "volume", "removed"),
        *(part for name in PRIMARY_NAMES.values() for part in _PARTS.split(name.casefold())),
    )
)
"""Words that name nobody, and stand in codes and names of structures."""


def identifiers(ds: Dataset) -> frozenset[str]:
    """Return the words of the attributes that name people and places, at any depth; in lower case."""
    return frozenset(_words(ds))


def names_somebody(text: str, words: Collection[str]) -> bool:
    """Tell whether a text holds one of the words; a number counts only where it stands alone, not within a code."""
    lower = text.casefold()
    alone = set(_PARTS.split(lower))
    return any(word in alone if word.isdigit() else word in lower for word in words)


def _words(ds: Dataset) -> Iterator[str]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from _words(item)
        elif element.keyword in _NAMING:
            for word in _PARTS.split(str(element.value).casefold()):
                if len(word) >= _SHORTEST and word not in _COMMON:
                    yield word
