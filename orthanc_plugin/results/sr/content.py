"""Content items that several reports share: comment, finding site, target region, slice, number, yes or no.

highdicom takes milliseconds for a number and copies what it is given. A report of thousands of numbers therefore
makes each number from what all numbers of its concept share (`number`).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from highdicom import sr
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from orthanc_plugin.codes import BILATERAL, LEFT, RIGHT, UNITLESS, UNITY, Code
from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.concepts import concept

_COMMENT = CodedConcept("121106", "DCM", "Comment")
_DIGITS, _COUNT, _LEAST_PLAIN, _MOST_PLAIN = 4, 1_000_000, 1e-4, 1e10
_LATERALITIES = {LEFT.value, RIGHT.value, BILATERAL.value}
_TARGET_REGION = CodedConcept("123014", "DCM", "Target Region")
_TOPOGRAPHICAL_MODIFIER = CodedConcept("106233006", "SCT", "Topographical modifier")


def comment(text: str) -> sr.TextContentItem:
    """Make a comment for a report or a group."""
    return sr.TextContentItem(_COMMENT, text, sr.RelationshipTypeValues.CONTAINS)


def finding_site(structure: Code, modifier: Code | None) -> sr.FindingSite:
    """Say where a finding lies; a side becomes a laterality, any other modifier a topographical one."""
    coded = concept(modifier) if modifier else None
    if modifier and modifier.value not in _LATERALITIES:
        return sr.FindingSite(concept(structure), topographical_modifier=coded)
    return sr.FindingSite(concept(structure), laterality=coded)


def target_region(structure: Code, modifier: Code | None = None) -> sr.QualitativeEvaluation:
    """State what part of the body an image shows; `modifier` says which part of the structure."""
    evaluation = sr.QualitativeEvaluation(_TARGET_REGION, concept(structure))
    if modifier is not None:
        item = sr.CodeContentItem(_TOPOGRAPHICAL_MODIFIER, concept(modifier), sr.RelationshipTypeValues.HAS_CONCEPT_MOD)
        evaluation[0].ContentSequence = sr.ContentSequence([item])
    return evaluation


def source_image(header: Dataset) -> sr.SourceImageForMeasurementGroup:
    """Refer to the slice that a group describes."""
    return sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID, frame_numbers(header))


def frame_numbers(header: Dataset) -> list[int] | None:
    """Give the frame that a header was made of, as references name it; None for a single-frame instance."""
    number = frame_number(header)
    return None if number is None else [number]


def measurement(
    name: Code,
    value: float,
    unit: Code,
    *,
    site: list[sr.FindingSite] | None = None,
    properties: sr.MeasurementProperties | None = None,
) -> sr.Measurement:
    """Make a number with its unit (UCUM); `site` says where it was measured.

    Raises
    ------
    EncodingError
        If the value is not finite.
    """
    if not math.isfinite(value):
        raise EncodingError(f"{name.meaning} is not a finite number")
    found = sr.Measurement(concept(name), value, concept(_stored_unit(unit)), finding_sites=site, properties=properties)
    store_as_read(found[0])
    return found


def number(name: Code, value: float, unit: Code, derivation: Code | None = None) -> Dataset:
    """Make the content item of a number as `measurement` does, in a fraction of the time.

    Parameters
    ----------
    derivation : Code, optional
        Which statistic the number is (PS3.16 CID 7464).

    Raises
    ------
    EncodingError
        If the value is not finite.
    """
    if not math.isfinite(value):
        raise EncodingError(f"{name.meaning} is not a finite number")
    shared = _shared(name, unit, derivation)
    measured = Dataset()
    measured.update(shared.MeasuredValueSequence[0])
    measured.add_new("NumericValue", "DS", shown(value))
    measured.add_new("FloatingPointValue", "FD", value)
    item = Dataset()
    item.update(shared)
    item.add_new("MeasuredValueSequence", "SQ", [measured])
    return item


@lru_cache(maxsize=1024)
def _shared(name: Code, unit: Code, derivation: Code | None) -> Dataset:
    derived = concept(derivation) if derivation is not None else None
    item: Dataset = sr.Measurement(concept(name), 0.0, concept(_stored_unit(unit)), derivation=derived)[0]
    return item


def _stored_unit(unit: Code) -> Code:
    return Code(UNITLESS, unit.scheme, UNITLESS.strip("{}")) if unit.value == UNITY else unit


def store_as_read(number: Dataset) -> None:
    """Write NumericValue for people; FloatingPointValue has all digits (PS3.3 C.18.1)."""
    measured = number.MeasuredValueSequence[0]
    value = float(measured.get("FloatingPointValue", measured.NumericValue))
    measured.NumericValue, measured.FloatingPointValue = shown(value), value


def shown(value: float) -> str:
    """Write a number for people, as a DS: four significant digits, and whole numbers below a million in full."""
    if value == int(value) and abs(value) < _COUNT:
        return str(int(value))
    rounded = float(f"{value:.{_DIGITS}g}")
    if not math.isfinite(rounded):  # rounded up beyond the greatest number
        return str(DSfloat(value, auto_format=True))
    if _LEAST_PLAIN <= abs(rounded) < _MOST_PLAIN:
        return np.format_float_positional(rounded, trim="-")
    return f"{rounded:.{_DIGITS - 1}e}"


def yes_or_no(name: Code, value: bool) -> sr.QualitativeEvaluation:
    """Answer a statement with Yes or No (CID 230)."""
    return sr.QualitativeEvaluation(concept(name), codes.SCT.Yes if value else codes.SCT.No)
