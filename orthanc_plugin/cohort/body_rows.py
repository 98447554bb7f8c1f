"""Rows of reports on where a scan lies in the body: landmarks, and regions gathered over the slices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from orthanc_plugin.cohort import items
from orthanc_plugin.cohort.items import Coded, name_of, number_of, text_in
from orthanc_plugin.cohort.report_rows import Group
from orthanc_plugin.cohort.seg_rows import coded_cells
from orthanc_plugin.cohort.unit import Row
from orthanc_plugin.results.sr.body_codes import LEVELS, REGIONS
from orthanc_plugin.results.sr.body_landmarks import POSITION
from orthanc_plugin.results.sr.body_regions import RANGE
from orthanc_plugin.results.sr.body_scan import COVERAGE, SCAN

_LEVEL = re.compile(r", z (-?\d+(?:\.\d+)?) mm")
_RANGE = re.compile(r", z (-?\d+(?:\.\d+)?) to (-?\d+(?:\.\d+)?) mm")
_NAME_OF_LEVEL = {
    (level.structure.value, level.modifier.value if level.modifier else ""): key for key, level in LEVELS.items()
}
_NAME_OF_REGION = {frozenset(code.value for code in codes): region for region, codes in REGIONS.items()}
_STANDARD_DEVIATION = ("386136009", "R-10047")
_NO_POSITION = "the report names a slice and no position"


def landmark_rows(groups: Sequence[Group], kind: str) -> Iterator[Row]:
    """Give a row for each group that marks a level of the body."""
    for group in groups:
        if _finding(group) == SCAN.value:
            continue
        structure, modifier = next(iter(group.regions), (Coded(), Coded()))
        position, sd = _position(group)
        missing = [str(group.row["reason"])] if not group.series else []
        missing += [] if structure.value else ["the landmark has no code"]
        missing += [] if position is not None else [_NO_POSITION]
        yield (
            group.row
            | coded_cells("structure", structure)
            | {
                "kind": kind,
                "landmark": _name(group, structure, modifier),
                "structure_modifier": modifier.meaning,
                "position_mm": position,
                "sd_mm": sd,
                "slice_sop_instance_uid": next(items.images_in(group.item), ""),
                "reason": "; ".join(missing),
            }
        )


def region_rows(groups: Sequence[Group]) -> Iterator[Row]:
    """Give a row for each region: in how many slices it shows, its range, and how much of it the scan covers."""
    slices = [group for group in groups if not _finding(group) and group.regions]
    shown = [{code.value: code for code, _ in group.regions} for group in slices]
    scan = next((group for group in groups if _finding(group) == SCAN.value), None)
    covered = {} if scan is None else _coverage(scan)
    ranges = {_codes(group): _ends(group) for group in groups if _finding(group) == RANGE.value}
    first = next(iter(groups), None)
    for codes, name, meaning in _regions(shown, ranges):
        count = sum(codes <= one.keys() for one in shown)
        bottom, top = ranges.get(codes, (None, None))
        coverage = covered.get(name)
        if not (count or coverage):
            continue
        yield (first.row if first is not None else {}) | {
            "region": name or meaning,
            "structure_code": "+".join(sorted(codes)),
            "slices": count,
            "slices_of_report": len(slices),
            "share": count / len(slices) if slices else None,
            "coverage": coverage,
            "bottom_mm": bottom,
            "top_mm": top,
        }


def is_landmarks(groups: Sequence[Group]) -> bool:
    """Tell whether groups that name places in the body mark levels: most of them say which part of a structure."""
    named = [any(modifier.value for _, modifier in group.regions) for group in groups if group.regions]
    return sum(named) * 2 > len(named)


def is_about_body(group: Group) -> bool:
    """Tell whether a group says where in the body a slice or the scan lies, and measures no structure."""
    if _finding(group) in (SCAN.value, RANGE.value):
        return True
    numbers = (name_of(item).value for item in items.children(group.item, kind="NUM"))
    return bool(group.regions) and all(number == POSITION.value for number in numbers)


def _finding(group: Group) -> str:
    return items.concept_in(group.item, items.FINDING).value


def _codes(group: Group) -> frozenset[str]:
    return frozenset(code.value for code, _ in group.regions)


def _regions(
    shown: Sequence[dict[str, Coded]], ranges: dict[frozenset[str], tuple[float, float] | tuple[None, None]]
) -> Iterator[tuple[frozenset[str], str, str]]:
    """Yield the codes of each region, its name if we have one, and its meaning."""
    meanings = {code: concept.meaning for one in shown for code, concept in one.items()}
    left = set(meanings)
    for codes, name in _NAME_OF_REGION.items():
        if codes <= meanings.keys() or codes in ranges:
            left -= codes
            yield codes, str(name), ""
    for code in sorted(left):
        yield frozenset({code}), "", meanings[code]


def _coverage(scan: Group) -> dict[str, float]:
    concepts = {code.value: str(region) for region, code in COVERAGE.items()}
    found = {}
    for item in items.children(scan.item, *concepts, kind="NUM"):
        if (value := _value(item)) is not None:
            found[concepts[name_of(item).value]] = value
    return found


def _position(group: Group) -> tuple[float | None, float | None]:
    """Return the position and its standard deviation: as a number, otherwise as our own label says in words."""
    for item in items.children(group.item, POSITION.value, kind="NUM"):
        deviation = next(iter(items.children(item, *_STANDARD_DEVIATION)), None)
        return _value(item), None if deviation is None else _value(deviation)
    said = _LEVEL.search(text_in(group.item, items.TRACKING_IDENTIFIER))
    return (float(said[1]), None) if said else (None, None)


def _ends(group: Group) -> tuple[float, float] | tuple[None, None]:
    said = _RANGE.search(text_in(group.item, items.TRACKING_IDENTIFIER))
    return (float(said[1]), float(said[2])) if said else (None, None)


def _value(item: Dataset) -> float | None:
    for measured in item.get("MeasuredValueSequence") or ():
        stated = measured.get("FloatingPointValue")
        return number_of(measured.get("NumericValue") if stated is None else stated)
    return None


def _name(group: Group, structure: Coded, modifier: Coded) -> str:
    """Name a landmark: our key by its codes, otherwise as the report does."""
    known = _NAME_OF_LEVEL.get((structure.value, modifier.value))
    said = text_in(group.item, items.TRACKING_IDENTIFIER).partition(", instance ")[0]
    key, _, _ = said.partition(" (")
    return key if key in LEVELS else known or said or ", ".join(filter(None, (structure.meaning, modifier.meaning)))
