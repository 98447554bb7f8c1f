"""Parts of measurement groups (PS3.16 TID 300, 1501) that several reports share: target region, slice, number, yes."""

from __future__ import annotations

import math

from highdicom import sr
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin.codes import Code
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.algorithm import concept

_TARGET_REGION = CodedConcept("123014", "DCM", "Target Region")
_TOPOGRAPHICAL_MODIFIER = CodedConcept("106233006", "SCT", "Topographical modifier")


def target_region(structure: Code, modifier: Code | None = None) -> sr.QualitativeEvaluation:
    """What of the body an image shows; `modifier`: which part of the structure."""
    evaluation = sr.QualitativeEvaluation(_TARGET_REGION, concept(structure))
    if modifier is not None:
        item = sr.CodeContentItem(_TOPOGRAPHICAL_MODIFIER, concept(modifier), sr.RelationshipTypeValues.HAS_CONCEPT_MOD)
        evaluation[0].ContentSequence = sr.ContentSequence([item])
    return evaluation


def source_image(header: Dataset) -> sr.SourceImageForMeasurementGroup:
    """The slice that a group speaks of."""
    return sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)


def measurement(
    name: Code,
    value: float,
    unit: Code,
    *,
    site: list[sr.FindingSite] | None = None,
    properties: sr.MeasurementProperties | None = None,
) -> sr.Measurement:
    """A number with its unit (UCUM), `site` where it was measured.

    Raises
    ------
    EncodingError
        If the value is not finite.
    """
    if not math.isfinite(value):
        raise EncodingError(f"{name.meaning} is not a finite number")
    found = sr.Measurement(concept(name), value, concept(unit), finding_sites=site, properties=properties)
    store_as_read(found[0])
    return found


def store_as_read(number: Dataset) -> None:
    """NumericValue as the 16 characters that are stored; all digits stand in FloatingPointValue."""
    measured = number.MeasuredValueSequence[0]
    measured.NumericValue = str(measured.NumericValue)


def yes_or_no(name: Code, value: bool) -> sr.QualitativeEvaluation:
    """A statement that holds or not (CID 230)."""
    return sr.QualitativeEvaluation(concept(name), codes.SCT.Yes if value else codes.SCT.No)
