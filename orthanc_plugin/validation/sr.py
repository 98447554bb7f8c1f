"""Report a comparison as DICOM SR: a group for each structure with its metrics (PS3.16 TID 1500, 1501).

No standard scheme has codes for Dice, Hausdorff or surface distances, so these concepts are private and say in words
what they are. Both objects are evidence of the report; each group carries the TrackingUID of the AI's segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from orthanc_plugin import identity
from orthanc_plugin.codes import PRIVATE_SCHEME, UNITLESS, Code
from orthanc_plugin.domain.masks import Segment
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.pipeline.foreign import measuring_card
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.listing import series_number
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.content import comment, finding_site, measurement
from orthanc_plugin.results.sr.report import encode_report
from orthanc_plugin.validation.cases import Case, Row, Status
from orthanc_plugin.validation.distances import PERCENTILE
from orthanc_plugin.validation.structures import Pair

_RATIO, _MM, _ML = (Code(value, "UCUM", value) for value in (UNITLESS, "mm", "mL"))
_PLACE = 4
"""Beside the place of quality checks in lists of viewers, so that both differ in number."""


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


METRICS: Mapping[str, tuple[Code, Code]] = MappingProxyType(
    {
        "dice": (_private("CMP_DICE", "Dice coefficient with the reference mask"), _RATIO),
        "surface_dice": (_private("CMP_NSD", "Surface Dice at the stated tolerance"), _RATIO),
        "hausdorff_mm": (_private("CMP_HD", "Hausdorff distance of the surfaces"), _MM),
        "hd95_mm": (_private("CMP_HD95", f"Hausdorff distance, {PERCENTILE:.0f}th percentile"), _MM),
        "mean_surface_mm": (_private("CMP_ASSD", "Mean surface distance, both ways together"), _MM),
        "volume_difference_ml": (_private("CMP_VOLUME", "Volume minus that of the reference mask"), _ML),
    }
)
"""Concept and unit of each metric, by its column."""


def encode_comparison_sr(case: Case, *, title: Code, created: datetime) -> Dataset:
    """Encode the rows of a case.

    Raises
    ------
    EncodingError
        If no structure was compared.
    """
    tolerance = next((row.tolerance_mm for row in case.rows if row.tolerance_mm is not None), None)
    uid = identity.sr_uid(str(case.ai.SOPInstanceUID), "comparison", f"{case.expert.SOPInstanceUID} {tolerance}")
    card = replace(
        measuring_card(case.ai),
        name="comparison",
        intended_use="Comparison of masks with those of an expert, or with a correction.",
        limits=("The reference mask is taken as it is. Nobody checked here whether it is right.",),
    )
    provenance = Provenance(case.series, card, uid, "", created)
    groups = [group for pair, row in zip(case.pairs, case.rows, strict=True) for group in _groups(pair, row, case)]
    if not groups:
        raise EncodingError("no structure was compared, so there is nothing to report")
    ds = encode_report(
        provenance, groups, title=title, kind=Output.CHECKS, notes=[*_conventions(tolerance, case)],
        evidence=[case.ai, case.expert],
    )  # fmt: skip
    ds.SeriesNumber = series_number(Output.CHECKS, provenance.source, 0) + _PLACE * 10
    ds.SeriesDescription = f"Comparison {str(ds.SeriesDescription).removeprefix('Checks ')}"[:64].rstrip()
    return ds


def _conventions(tolerance: float | None, case: Case) -> Iterator[str]:
    yield f"Compared with masks made by {case.rows[0].editor}; the evidence of this report names both objects."
    yield (
        "Surface: voxels that lack a face neighbour. Distances between voxel centres, both ways. "
        f"HD95: the greater of both 95th percentiles. Surface Dice: at {tolerance} mm."
    )


def _groups(pair: Pair, row: Row, case: Case) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    one = pair.ai or pair.expert
    if one is None or row.status not in (Status.BOTH, Status.MISSED, Status.EXTRA):
        return
    segment = one.segment
    values = {name: getattr(row, name) for name in METRICS}
    group = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=_tracking_uid(case, segment, pair), identifier=row.structure[:64]),
        finding_category=concept(segment.category),
        finding_type=concept(segment.type),
        finding_sites=[finding_site(segment.type, segment.modifier)],
        measurements=[measurement(METRICS[n][0], v, METRICS[n][1]) for n, v in values.items() if v is not None],
    )
    if row.status is not Status.BOTH:
        group[0].ContentSequence.append(comment(f"{row.status}: {row.reason or 'one side has no voxel of it'}"))
    yield group


def _tracking_uid(case: Case, segment: Segment, pair: Pair) -> str:
    if pair.ai is not None and case.ai.get("SOPClassUID") != RTStructureSetStorage:
        for item in case.ai.get("SegmentSequence") or ():
            if int(item.SegmentNumber) == segment.number and item.get("TrackingUID"):
                return str(item.TrackingUID)
    return identity.tracking_uid(str(case.ai.SOPInstanceUID), f"comparison {segment.number} {segment.label}")
