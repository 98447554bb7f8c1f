"""Report a patient over time as DICOM SR: a group for each value, with its point in time (PS3.16 TID 1500, 1501, 1502).

The report lies in the newest study. The reports that stated the values are its evidence, also those of earlier studies.
Groups of one structure and measure have one TrackingUID; the first study is the baseline from which days are counted.
No standard scheme has codes for a change against an earlier study, so these concepts are private.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin import identity
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.pipeline.foreign import measuring_card
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.listing import series_number
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.content import comment, finding_site, measurement
from orthanc_plugin.results.sr.report import encode_report
from orthanc_plugin.validation.timeline import TIMELINE, Change, Value, side_of

_PERCENT = Code("%", "UCUM", "Percent")
_PRIOR = Code("TML_PRIOR", PRIVATE_SCHEME, "Change against the study before")
_TOTAL = Code("TML_TOTAL", PRIVATE_SCHEME, "Change against the first study")
_PLACE = 80
"""Added to the SeriesNumber of quality checks: behind those and behind comparisons."""


def encode_timeline_sr(
    series: CtSeries, values: Sequence[Value], reports: Sequence[Dataset], *, title: Code, created: datetime
) -> Dataset:
    """Encode the values of a patient.

    Parameters
    ----------
    series : CtSeries
        The CT of the newest study, in which the report will lie.
    values : sequence of Value
        As `timeline` gives them.
    reports : sequence of Dataset
        The reports that state them.
    title : Code
        Document title.
    created : datetime
        Time that the report carries.

    Raises
    ------
    EncodingError
        If there are no values, a value has no code, or its report is not among `reports`.
    """
    if not values:
        raise EncodingError("there are no values over time to report")
    stated = sorted({value.report_sop_instance_uid for value in values})
    if gone := [uid for uid in stated if uid not in {str(ds.SOPInstanceUID) for ds in reports}]:
        raise EncodingError(f"the reports {', '.join(gone)} are gone from their archive")
    measures = sorted({value.measure for value in values})
    newest = max(values, key=lambda value: value.date)
    uid = identity.sr_uid(newest.report_sop_instance_uid, TIMELINE, " ".join((*stated, *measures)))
    card = replace(
        measuring_card(Dataset()),
        name=TIMELINE,
        intended_use="Values of several studies of one patient, and how they changed.",
        limits=("The values are those of the reports that are evidence of this one. Nobody checked them.",),
    )
    provenance = Provenance(series, card, uid, "", created)
    ds = encode_report(
        provenance, [*_groups(values)], title=title, kind=Output.CHECKS, notes=[*_conventions(values)],
        evidence=reports,
    )  # fmt: skip
    ds.SeriesNumber = series_number(Output.CHECKS, provenance.source, 0) + _PLACE
    ds.SeriesDescription = f"Timeline {str(ds.SeriesDescription).removeprefix('Checks ')}"[:64].rstrip()
    _sort_evidence(ds)
    return ds


def _sort_evidence(ds: Dataset) -> None:
    """Name reports of earlier studies as other evidence: they belong to no procedure of this study (PS3.3 C.17.2)."""
    evidence = list(ds.CurrentRequestedProcedureEvidenceSequence)
    others = [item for item in evidence if item.StudyInstanceUID != ds.StudyInstanceUID]
    if others:
        ds.CurrentRequestedProcedureEvidenceSequence = [item for item in evidence if item not in others]
        ds.PertinentOtherEvidenceSequence = [*(ds.get("PertinentOtherEvidenceSequence") or ()), *others]


def _conventions(values: Sequence[Value]) -> Iterator[str]:
    yield "Each group is one value in one study. Days are counted from the first study of the structure, the baseline."
    for source in sorted({value.limit_source for value in values if value.limit_source}):
        yield f"Changes are held against repeatability. Source of its limits: {source}"


def _groups(values: Sequence[Value]) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    order: dict[tuple[str, str, str], list[Value]] = {}
    for value in values:
        order.setdefault((value.structure, value.measure, value.model_digest or value.model), []).append(value)
    for key, series in order.items():
        tracking = identity.tracking_uid(series[0].report_sop_instance_uid, f"{TIMELINE} {' '.join(key)}")
        for number, value in enumerate(series, 1):
            yield _group(value, number, tracking)


def _group(value: Value, number: int, tracking_uid: str) -> sr.MeasurementsAndQualitativeEvaluations:
    if not (value.concept_code and value.structure_code):
        raise EncodingError(f"{value.structure} {value.measure}: the report of {value.date} gives no code for it")
    structure = Code(value.structure_code, value.structure_scheme, value.structure_meaning)
    side = side_of(value.structure_modifier)
    changes = ((_PRIOR, value.change_percent), (_TOTAL, value.total_percent))
    group = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=tracking_uid, identifier=f"{value.structure} {value.measure}"[:64]),
        time_point_context=_point(value, number),
        finding_type=concept(structure),
        finding_sites=[finding_site(structure, side)],
        measurements=[
            measurement(Code(value.concept_code, value.concept_scheme, value.concept_meaning), value.value,
                        Code(value.unit, "UCUM", value.unit)),
            *(measurement(name, percent, _PERCENT) for name, percent in changes if percent is not None),
        ],
    )  # fmt: skip
    words = [value.model, "" if value.change is Change.FIRST else str(value.change), value.note]
    group[0].ContentSequence.append(comment("; ".join(filter(None, words))))
    return group


def _point(value: Value, number: int) -> sr.TimePointContext:
    days = None
    if value.days is not None:
        days = sr.LongitudinalTemporalOffsetFromEvent(value.days, codes.UCUM.Day, codes.DCM.Baseline)
    return sr.TimePointContext(
        value.date or "no date",
        time_point_type=codes.DCM.Baseline if number == 1 else None,
        time_point_order=number,
        temporal_offset_from_event=days,
    )
