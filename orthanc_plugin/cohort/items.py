"""Content items of a report of any maker (PS3.16 TID 1500), read without trust: what is not there reads as empty."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.results.source_text import plain_text

MEASUREMENTS, DERIVED, GROUP = "126010", "126011", "125007"
TRACKING_IDENTIFIER, TRACKING_UID = "112039", "112040"
FINDING, SITE, MODIFIER_CODES = "121071", ("363698007", "G-C0E3"), ("106233006", "272741003", "G-A1F8", "G-C171")
TARGET_REGION, DERIVATION, METHOD = "123014", ("121401",), ("370129005", "G-C036")
SEGMENT, SOURCE_SERIES = "121191", "121232"
ALGORITHM_NAME, ALGORITHM_VERSION, ALGORITHM_PARAMETERS = "111001", "111003", "111002"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LONGEST, _LARGEST = 1024, 2**53
_KEPT = "_named_children"


@dataclass(frozen=True, slots=True)
class Coded:
    """A coded concept as an object states it; all empty where it states none."""

    value: str = ""
    scheme: str = ""
    meaning: str = ""

    @property
    def cells(self) -> tuple[str, str, str]:
        """Code, scheme and meaning, as tables hold them."""
        return self.value, self.scheme, self.meaning


def text_of(value: object) -> str:
    """Return a text without control characters and what is not Unicode, cut to what a cell holds."""
    text = plain_text("" if value is None else str(value))[:_LONGEST].strip()
    return text.encode("utf-8", "replace").decode("utf-8")


def uid_of(value: object) -> str:
    """Return a UID; empty if it is not a valid one."""
    text = str(value or "")
    return text if is_uid(text) else ""


def number_of(value: object) -> float | None:
    """Return a finite number, or None; a decimal comma, digits of other scripts and `1_0` tell no number."""
    text = str(value).strip()
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None


def whole_of(value: object) -> int | None:
    """Return a whole number that any table can hold, or None."""
    number = number_of(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < _LARGEST else None


def coded_of(items: object) -> Coded:
    """Read the first concept of a sequence."""
    for item in items if isinstance(items, list) or hasattr(items, "__iter__") else ():
        value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
        return Coded(text_of(value), text_of(item.get("CodingSchemeDesignator")), text_of(item.get("CodeMeaning")))
    return Coded()


def name_of(item: Dataset) -> Coded:
    """Read the name of a content item."""
    return coded_of(item.get("ConceptNameCodeSequence"))


def concept_of(item: Dataset) -> Coded:
    """Read the answer of a CODE item."""
    return coded_of(item.get("ConceptCodeSequence"))


def children(item: Dataset, *codes: str, kind: str = "") -> Iterator[Dataset]:
    """Yield the items inside one that have one of the names, or all; only those of a value type, if it is named."""
    for child_kind, code, child in _named_children(item):
        if kind in ("", child_kind) and (not codes or code in codes):
            yield child


def _named_children(item: Dataset) -> list[tuple[str, str, Dataset]]:
    """List the items inside one with value type and code of the name; kept with the item, which is asked often."""
    known: list[tuple[str, str, Dataset]] | None = item.__dict__.get(_KEPT)
    if known is None:
        within = item.get("ContentSequence") or ()
        known = [(str(child.get("ValueType")), name_of(child).value, child) for child in within]
        item.__dict__[_KEPT] = known
    return known


def text_in(item: Dataset, code: str) -> str:
    """Return the text or the UID of the first item with that name."""
    found = next(children(item, code), None)
    return "" if found is None else text_of(found.get("TextValue") or found.get("UID"))


def concept_in(item: Dataset, *codes: str) -> Coded:
    """Return the answer of the first CODE item with one of the names."""
    found = next(children(item, *codes, kind="CODE"), None)
    return Coded() if found is None else concept_of(found)


def parameters_in(item: Dataset) -> dict[str, str]:
    """Read what an item states as `name=value`."""
    texts = (text_of(child.get("TextValue")) for child in children(item, ALGORITHM_PARAMETERS))
    return dict(text.split("=", 1) for text in texts if "=" in text)


def groups_of(report: Dataset) -> list[Dataset]:
    """List the measurement groups of a report."""
    return [group for part in _parts(report) for group in children(part, GROUP)]


def loose_numbers(report: Dataset) -> list[Dataset]:
    """List the numbers that stand beside the measurement groups, in none of them."""
    return [number for part in _parts(report) for number in _loose(part)]


def _parts(report: Dataset) -> Iterator[Dataset]:
    return children(report, MEASUREMENTS, DERIVED)


def _loose(item: Dataset) -> Iterator[Dataset]:
    for kind, code, child in _named_children(item):
        if kind == "NUM":
            yield child
        elif kind == "CONTAINER" and code != GROUP:
            yield from _loose(child)


def images_in(group: Dataset) -> Iterator[str]:
    """Yield the SOPInstanceUIDs of the images that a group refers to, also by a region on them; no segments."""
    for child in children(group):
        if child.get("ValueType") == "IMAGE":
            for reference in child.get("ReferencedSOPSequence") or ():
                if not reference.get("ReferencedSegmentNumber"):
                    yield str(reference.get("ReferencedSOPInstanceUID") or "")
        elif child.get("ValueType") in ("SCOORD", "NUM", "SCOORD3D"):
            yield from images_in(child)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a report says it was made of: the series of each instance, and the series that are no results."""

    series_of: dict[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, ds: Dataset) -> Evidence:
        """Read the evidence of a report (PS3.3 C.17.2)."""
        series_of: dict[str, str] = {}
        sources: dict[str, None] = {}
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
            for study in ds.get(keyword) or ():
                for series in study.get("ReferencedSeriesSequence") or ():
                    uid = uid_of(series.get("SeriesInstanceUID"))
                    classes = set()
                    for item in series.get("ReferencedSOPSequence") or ():
                        series_of[str(item.get("ReferencedSOPInstanceUID"))] = uid
                        classes.add(str(item.get("ReferencedSOPClassUID")))
                    if uid and not classes <= _RESULTS:
                        sources[uid] = None
        return cls(series_of, tuple(sources))


_RESULTS = {
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7",
    "1.2.840.10008.5.1.4.1.1.67",
    "1.2.840.10008.5.1.4.1.1.481.3",
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
}
"""SOP classes of objects that are never what was measured: SEG, RWVM, RTSTRUCT, SR."""
