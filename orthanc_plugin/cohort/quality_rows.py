"""Rows of our reports on the quality of masks and of the input: an answer, a number and a sentence for each check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from orthanc_plugin.codes import Code
from orthanc_plugin.cohort import items
from orthanc_plugin.cohort.items import Coded, concept_in, concept_of, number_of, text_in, text_of, uid_of
from orthanc_plugin.cohort.report_rows import Group
from orthanc_plugin.cohort.seg_rows import coded_cells
from orthanc_plugin.cohort.unit import Row
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.input_quality import InputCheck
from orthanc_plugin.results.sr.checks import CONCEPTS as MASK_CHECKS
from orthanc_plugin.results.sr.input_quality import CONCEPTS as INPUT_CHECKS
from orthanc_plugin.results.sr.input_quality import SCAN

CheckName = TypeVar("CheckName", Check, InputCheck)
_COMMENT, _YES, _NO = "121106", "373066001", "373067005"
_MODEL = "model"


def is_checks(group: Group) -> bool:
    """Tell whether a group holds results of our checks of a mask."""
    answers = {answer.value for answer, _ in MASK_CHECKS.values()}
    return any(items.children(group.item, *answers, kind="CODE"))


def is_input(group: Group) -> bool:
    """Tell whether a group holds our figures on the input."""
    return concept_in(group.item, items.FINDING).value == SCAN.value


def check_rows(group: Group) -> Iterator[Row]:
    """Give a row for each check of one structure."""
    site = next(items.children(group.item, *items.SITE, kind="CODE"), None)
    side = concept_in(site, *items.MODIFIER_CODES) if site is not None else Coded()
    label = text_in(group.item, items.TRACKING_IDENTIFIER)
    model = group.stated.get(_MODEL, "")
    common = (
        group.row
        | coded_cells("structure", concept_in(group.item, items.FINDING))
        | {
            "model": model or label.partition(": ")[0],
            "tracking_uid": uid_of(text_in(group.item, items.TRACKING_UID)),
            "label": label.rpartition(": ")[2],
            "structure_modifier": side.meaning,
        }
    )
    for row, sentence in _results(group, MASK_CHECKS):
        yield common | row | {"detail": sentence}


def input_rows(group: Group) -> Iterator[Row]:
    """Give a row for each figure on the input."""
    for row, sentence in _results(group, INPUT_CHECKS, "input "):
        yield group.row | row | {"note": sentence}


def _results(
    group: Group, concepts: Mapping[CheckName, tuple[Code, Code]], before: str = ""
) -> Iterator[tuple[Row, str]]:
    """Yield name, answer, number and unit of each check that the group holds, and its sentence."""
    sentences = [text_of(item.get("TextValue")) for item in items.children(group.item, _COMMENT)]
    for check, (question, figure) in concepts.items():
        answer = next((concept_of(one).value for one in items.children(group.item, question.value, kind="CODE")), "")
        number = next(items.children(group.item, figure.value, kind="NUM"), None)
        sentence = next((s for s in sentences if _speaks_of(s, f"{before}{check}")), "")
        if not answer and number is None and not sentence:
            continue
        measured = next(iter(number.get("MeasuredValueSequence") or ()), None) if number is not None else None
        stated = None if measured is None else measured.get("FloatingPointValue", measured.get("NumericValue"))
        value = None if stated is None else number_of(stated)
        unit = "" if measured is None else items.coded_of(measured.get("MeasurementUnitsCodeSequence")).value
        passed = {_YES: True, _NO: False}.get(answer)
        yield {"check": str(check), "passed": passed, "value": value, "unit": unit}, sentence


def _speaks_of(sentence: str, check: str) -> bool:
    return sentence.startswith((f"{check}:", f"{check} "))
