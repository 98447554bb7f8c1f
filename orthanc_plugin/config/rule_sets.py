"""Published selections of series, which a rule names in `Use`.

A set gives values to criteria of `Match`. A criterion that the rule writes itself replaces that of the set; a criterion
that neither writes keeps its default, so the guards of the default rule stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class RuleSet(StrEnum):
    """Names of the published selections."""

    SCI_DATA_2024_NLST = "sci_data_2024_nlst"
    SCI_DATA_2024_NSCLC = "sci_data_2024_nsclc"


# Krishnaswamy et al., Enrichment of lung cancer computed tomography collections with AI-derived annotations,
# Scientific Data 2024: the selection from NLST, and from NSCLC-Radiomics without thickness and number of instances.
_ONE_REGULAR_VOLUME: Mapping[str, Any] = {
    "Slices": None,
    "SliceThickness": None,
    "Spacing": None,
    "Axial": True,
    "Localizers": {"Max": 0},
    "ImagesPerPosition": {"Max": 1},
    "Orientations": {"Max": 1},
    "PixelSpacings": {"Max": 1},
    "StepRatioBelow": 2,
}

RULE_SETS: Mapping[RuleSet, Mapping[str, Any]] = {
    RuleSet.SCI_DATA_2024_NLST: {
        **_ONE_REGULAR_VOLUME,
        "Slices": {"Min": 101},
        "SliceThickness": {"Min": 1.5, "Max": 3.5},
    },
    RuleSet.SCI_DATA_2024_NSCLC: _ONE_REGULAR_VOLUME,
}
"""Criteria of each set, as orthanc.json writes them."""


def with_rule_set(rule: Any) -> Any:
    """Fill `Match` of a rule from the set that it names; the schema judges names and values."""
    if not isinstance(rule, Mapping) or rule.get("Use") not in list(RuleSet):
        return rule
    match = rule.get("Match", {})
    return {**rule, "Match": {**RULE_SETS[RuleSet(rule["Use"])], **match}} if isinstance(match, Mapping) else rule
