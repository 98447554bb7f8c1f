"""Coded concepts: anatomy, features and units as scheme, value, meaning (PS3.3 8.8).

The model cards hold the codes of structures, and `radiomics.feature_codes` those of features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 Table 8.8-1)."""

    value: Annotated[str, Field(min_length=1)]
    scheme: Annotated[str, Field(min_length=1)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]


ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
ENTIRE_BODY = Code("38266002", "SCT", "Entire body")
LUNG = Code("39607008", "SCT", "Lung")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
BILATERAL = Code("51440002", "SCT", "Bilateral")
TOP = Code("421812003", "SCT", "Top")
BOTTOM = Code("421610009", "SCT", "Bottom")
CENTER = Code("111010", "DCM", "Center")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
MORPHOLOGICAL_OPERATIONS = Code("123104", "DCM", "Morphological Operations")
HISTOGRAM_ANALYSIS = Code("123105", "DCM", "Histogram Analysis")

UNITY = "1"
"""UCUM's code for a number without a unit, as features and checks name it."""
UNITLESS = "{unitless}"
"""The same with an annotation, as reports store it: OHIF shows the code, and a `1` reads as part of the number."""

PRIVATE_SCHEME = "99AIE"
REPORT_TITLE = Code("AIENRICH", PRIVATE_SCHEME, "AI Enrichment Report")
SEG_INSTANCE = Code("SEG_INSTANCE", PRIVATE_SCHEME, "SOP Instance UID of the segmentation")
SEG_NUMBER = Code("SEG_NUMBER", PRIVATE_SCHEME, "Segment Number in the segmentation")
NOT_MEASURED = Code("NOT_MEASURED", PRIVATE_SCHEME, "Features that have no value, and why")
