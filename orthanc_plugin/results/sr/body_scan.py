"""Report what body part regression says about a scan as a whole: one measurement group that its reports share.

The group states how well spacing and direction fit the scores of the slices, and how much of each region lies inside
the scan. No standard scheme has these concepts, so they are private.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from highdicom import sr

from orthanc_plugin import identity
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.body_codes import REGIONS
from orthanc_plugin.results.sr.content import measurement, yes_or_no

SCAN = Code("BPR_SCAN", PRIVATE_SCHEME, "Location of the scan in the body")
VALID_SPACING = Code("BPR_VALID", PRIVATE_SCHEME, "Slice spacing is consistent with the body part scores")
REVERSED = Code("BPR_REVERSED", PRIVATE_SCHEME, "Body part scores decrease toward the head")
SLOPE = Code("BPR_SLOPE", PRIVATE_SCHEME, "Slope of the body part scores")
SLOPE_RATIO = Code("BPR_RATIO", PRIVATE_SCHEME, "Slope of the body part scores relative to the model's mean")
EXPECTED_SPACING = Code("BPR_SPACING", PRIVATE_SCHEME, "Slice spacing expected from the body part scores")

COVERAGE: Mapping[Region, Code] = MappingProxyType(
    {
        Region.LEGS: Code("BPR_COV_LEGS", PRIVATE_SCHEME, "Fraction of the legs within the scan"),
        Region.PELVIS: Code("BPR_COV_PELVIS", PRIVATE_SCHEME, "Fraction of the pelvis within the scan"),
        Region.ABDOMEN: Code("BPR_COV_ABDOMEN", PRIVATE_SCHEME, "Fraction of the abdomen within the scan"),
        Region.CHEST: Code("BPR_COV_CHEST", PRIVATE_SCHEME, "Fraction of the chest within the scan"),
        Region.SHOULDER_NECK: Code("BPR_COV_NECK", PRIVATE_SCHEME, "Fraction of shoulders and neck within the scan"),
        Region.HEAD: Code("BPR_COV_HEAD", PRIVATE_SCHEME, "Fraction of the head within the scan"),
    }
)
"""One concept for each region: OHIF's text view shows the name of a number and not its finding site."""

MM = Code("mm", "UCUM", "millimeter")
_PER_MM = Code("/mm", "UCUM", "per millimeter")
_RATIO = Code("1", "UCUM", "no units")


def scan_group(
    location: BodyLocation, provenance: Provenance, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    """Make the group; its tracking identifier sums up the coverage."""
    numbers = (
        (SLOPE, location.slope_per_mm, _PER_MM),
        (SLOPE_RATIO, location.slope_ratio, _RATIO),
        (EXPECTED_SPACING, location.expected_spacing_mm, MM),
    )
    uid = identity.tracking_uid(provenance.sop_instance_uid, "scan")
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=uid, identifier=_in_words(location)),
        finding_type=concept(SCAN),
        algorithm_id=algorithm,
        qualitative_evaluations=[
            yes_or_no(VALID_SPACING, location.valid_spacing),
            yes_or_no(REVERSED, location.reversed),
        ],
        measurements=[
            *(measurement(name, value, unit) for name, value, unit in numbers if value is not None),
            *_coverages(location),
        ],
    )


def _coverages(location: BodyLocation) -> list[sr.Measurement]:
    return [
        measurement(COVERAGE[region], part, _RATIO, site=[sr.FindingSite(concept(code)) for code in REGIONS[region]])
        for region, part in location.coverage.items()
    ]


def _in_words(location: BodyLocation) -> str:
    parts = [f"{region} {part:.2f}" for region, part in location.coverage.items() if part > 0]
    return f"scan of {location.tag}; covers {', '.join(parts) or 'no known region'}"
