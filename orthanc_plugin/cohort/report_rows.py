"""Rows of a report of any maker (PS3.16 TID 1500): measurements, landmarks, regions, checks, input quality.

Each measurement group is read by what it says, so that ours and those of dcmqi, highdicom and IDC go the same way. A
group that says nothing that a table holds still is a row, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from orthanc_plugin.codes import NOT_MEASURED, SEG_INSTANCE, SEG_NUMBER
from orthanc_plugin.cohort import items
from orthanc_plugin.cohort.items import Coded, Evidence, concept_in, name_of, number_of, text_in, text_of, uid_of
from orthanc_plugin.cohort.seg_rows import NO_SOURCE, coded_cells
from orthanc_plugin.cohort.unit import Row
from orthanc_plugin.domain.measures import ORIGINAL
from orthanc_plugin.radiomics.feature_codes import names_by_concept
from orthanc_plugin.radiomics.parameters import AGGREGATION

_MODEL_PARAMETERS = ("model", "model_sha256", "provider", "results_version")
_EVALUATIONS_OF_TEMPLATE = (
    items.FINDING, "276214006", *items.SITE, *items.MODIFIER_CODES, *items.METHOD, items.TARGET_REGION, "111000",
)  # fmt: skip
"""CODE items of a group that describe it and are no answers."""


@dataclass(frozen=True, slots=True)
class Group:
    """One measurement group, with what all of its rows share.

    series: the CT that it is about; empty if it cannot be told. stated: parameters of the report and the group.
    """

    item: Dataset
    series: str
    model: str
    version: str
    stated: dict[str, str]

    @classmethod
    def of(cls, item: Dataset, evidence: Evidence, shared: dict[str, str], named: tuple[str, str]) -> Group:
        """Read one group of a report."""
        model, version = text_in(item, items.ALGORITHM_NAME), text_in(item, items.ALGORITHM_VERSION)
        stated = shared | items.parameters_in(item)
        return cls(item, _source(item, evidence), model or named[0], version or named[1], stated)

    @property
    def row(self) -> Row:
        """The cells that every row of the group has."""
        return {
            "series_instance_uid": self.series,
            "model": self.model,
            "model_version": self.version,
            "reason": "" if self.series else NO_SOURCE,
        }

    @property
    def regions(self) -> list[tuple[Coded, Coded]]:
        """The regions of the body that the group names, each with its part."""
        found = items.children(self.item, items.TARGET_REGION, kind="CODE")
        return [(items.concept_of(one), concept_in(one, *items.MODIFIER_CODES)) for one in found]

    @property
    def label(self) -> str:
        """The tracking identifier without what our reports add to it."""
        text = text_in(self.item, items.TRACKING_IDENTIFIER)
        for name in (AGGREGATION, "image"):
            if name in self.stated:
                text = text.removesuffix(f", {self.stated[name]}")
        return text


def measurement_rows(group: Group) -> Iterator[Row]:
    """Give a row for each number, each coded answer and each feature without a value; at least one."""
    common, number = _common(group), 0
    for item in items.children(group.item):
        kind, name = item.get("ValueType"), name_of(item)
        if kind == "NUM":
            yield common | _number_cells(item, name, str(common["reason"]))
        elif kind == "CODE" and name.value not in _EVALUATIONS_OF_TEMPLATE:
            yield (
                common
                | coded_cells("concept", name)
                | {
                    "feature": feature_of(name, ""),
                    "answer": items.concept_of(item).meaning,
                }
            )
        elif kind == "TEXT" and name.value == NOT_MEASURED.value:
            yield from _missing_rows(common, text_of(item.get("TextValue")))
        else:
            continue
        number += 1
    if not number:
        yield common | {"feature": "", "reason": _joined(common["reason"], "the group holds no measurement")}


def loose_rows(group: Group) -> Iterator[Row]:
    """Give a row for each number that stands outside the measurement groups, which would say what it is about."""
    for row in measurement_rows(group):
        yield row | {"reason": _joined(row["reason"], "the number stands in no measurement group")}


def feature_of(concept: Coded, derivation: str) -> str:
    """Name a feature: pyradiomics' name with its class where the concept has one, otherwise scheme and code."""
    if (known := names_by_concept().get((concept.scheme, concept.value))) is not None:
        return known
    return "_".join(part for part in (concept.scheme, concept.value, derivation) if part)


def _number_cells(item: Dataset, name: Coded, before: str) -> Row:
    derivation = concept_in(item, *items.DERIVATION)
    measured = next(iter(item.get("MeasuredValueSequence") or ()), None)
    value, unit, why = None, Coded(), ""
    if measured is None:
        qualifier = items.coded_of(item.get("NumericValueQualifierCodeSequence")).meaning
        why = qualifier or "the report states no value"
    else:
        stated = measured.get("FloatingPointValue")
        value = number_of(measured.get("NumericValue") if stated is None else stated)
        unit = items.coded_of(measured.get("MeasurementUnitsCodeSequence"))
        whys = [(value is None, "the value is not a finite number"), (not unit.value, "the value has no unit")]
        why = _joined(*(text for is_so, text in whys if is_so))
    return coded_cells("concept", name) | {
        "feature": feature_of(name, derivation.value),
        "derivation": derivation.meaning,
        "method": concept_in(item, *items.METHOD).meaning,
        "value": value,
        "unit": unit.value,
        "reason": _joined(before, why, "" if name.value else "the measurement has no name"),
    }


def _missing_rows(common: Row, text: str) -> Iterator[Row]:
    names, _, reason = text.partition(": ")
    for name in names.split(", "):
        yield common | {"feature": name, "reason": _joined(common["reason"], reason or "not measured")}


def _joined(*reasons: object) -> str:
    return "; ".join(str(reason) for reason in reasons if reason)


def _common(group: Group) -> Row:
    item = group.item
    seg, number = _segment(item)
    finding, site = concept_in(item, items.FINDING), next(items.children(item, *items.SITE, kind="CODE"), None)
    place = items.concept_of(site) if site is not None else Coded()
    side = concept_in(site, *items.MODIFIER_CODES) if site is not None else Coded()
    told = {name: value for name, value in group.stated.items() if name not in (*_MODEL_PARAMETERS, "image")}
    return group.row | coded_cells("structure", finding if finding.value else place) | {
        "seg_sop_instance_uid": seg,
        "segment_number": number,
        "tracking_uid": uid_of(text_in(item, items.TRACKING_UID)),
        "label": group.label,
        "structure_modifier": side.meaning,
        "site_meaning": place.meaning,
        "image": group.stated.get("image", ORIGINAL),
        "conditions": "; ".join(f"{name}={value}" for name, value in told.items()),
        "method": concept_in(item, *items.METHOD).meaning,
        "derivation": "", "unit": "", "answer": "",
    }  # fmt: skip


def _segment(item: Dataset) -> tuple[str, int | None]:
    """Read the SEG and the number of the segment that was measured."""
    for one in items.children(item, items.SEGMENT):
        for reference in one.get("ReferencedSOPSequence") or ():
            number = reference.get("ReferencedSegmentNumber")
            first = number[0] if hasattr(number, "__getitem__") and number else number
            return uid_of(reference.get("ReferencedSOPInstanceUID")), items.whole_of(first)
    stated = text_in(item, SEG_NUMBER.value)
    return uid_of(text_in(item, SEG_INSTANCE.value)), items.whole_of(stated)


def _source(item: Dataset, evidence: Evidence) -> str:
    """Return the series that a group is about: the one it names, that of its images, or the only one there is."""
    if named := uid_of(text_in(item, items.SOURCE_SERIES)):
        return named
    for image in items.images_in(item):
        if found := evidence.series_of.get(image):
            return found
    return evidence.sources[0] if len(evidence.sources) == 1 else ""
