"""Radiomics as a report: one volumetric group a segment, tied to the stored SEG and to the source series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from highdicom import sr
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import BILATERAL, LEFT, RIGHT, Code
from orthanc_plugin.ct import CtSeries
from orthanc_plugin.masks import Segment, Segmentation
from orthanc_plugin.measures import SegmentFeatures
from orthanc_plugin.results.algorithm import concept, group_algorithm
from orthanc_plugin.results.group_parts import measurement
from orthanc_plugin.results.report import encode_report

SERIES_NUMBER = 9802

_LATERALITIES = {LEFT.value, RIGHT.value, BILATERAL.value}


def encode_radiomics_sr(
    series: CtSeries,
    seg: Dataset,
    segmentation: Segmentation,
    features: Sequence[SegmentFeatures],
    card: ModelCard,
    *,
    sop_instance_uid: str,
    provider: str,
    created: datetime,
    title: Code,
    settings: str = "",
) -> Dataset:
    """Features of the segments of a stored SEG (PS3.16 TID 1500, 1411).

    Parameters
    ----------
    segmentation : Segmentation
        As decoded from `seg`: its numbers are the stored SegmentNumbers.
    features : sequence of SegmentFeatures
        Segments without a feature get no group; why, stands in the comments.
    settings : str
        Parameters of the measurement, recorded beside those of the model (TID 4019).

    Raises
    ------
    EncodingError
        If no segment has a feature, a value is not finite, or a segment is not in the SEG.
    """
    segments = {segment.number: segment for segment in segmentation.segments}
    algorithm = group_algorithm(card, provider, [f"radiomics: {settings}"] if settings else [])
    groups = [
        _group(seg, segments[measured.segment_number], measured, algorithm, series)
        for measured in features
        if measured.features
    ]
    return encode_report(
        series,
        seg,
        groups,
        card,
        sop_instance_uid=sop_instance_uid,
        created=created,
        title=title,
        description="radiomics",
        series_number=SERIES_NUMBER,
        notes=[*series.notes, *segmentation.notes, *_notes(features, segments)],
    )


def _notes(features: Sequence[SegmentFeatures], segments: dict[int, Segment]) -> Iterator[str]:
    for measured in features:
        for note in measured.notes:
            yield f"{segments[measured.segment_number].label}: {note}"


def _group(
    seg: Dataset, segment: Segment, measured: SegmentFeatures, algorithm: sr.AlgorithmIdentification, series: CtSeries
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    stored = next(item for item in seg.SegmentSequence if item.SegmentNumber == segment.number)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=stored.TrackingUID, identifier=stored.TrackingID),
        referenced_segment=_referenced_segment(seg, segment, series),
        finding_category=concept(segment.category),
        finding_type=concept(segment.type),
        finding_sites=[_site(segment)],
        algorithm_id=algorithm,
        measurements=[measurement(feature.concept, feature.value, feature.unit) for feature in measured.features],
    )


def _referenced_segment(seg: Dataset, segment: Segment, series: CtSeries) -> sr.ReferencedSegment:
    """By hand: highdicom's own helper fails for a LABELMAP and for a SEG of one segment."""
    return sr.ReferencedSegment(
        seg.SOPClassUID,
        seg.SOPInstanceUID,
        segment.number,
        source_series=sr.SourceSeriesForSegmentation(series.identity.series_instance_uid),
    )


def _site(segment: Segment) -> sr.FindingSite:
    modifier = concept(segment.modifier) if segment.modifier else None
    if modifier is not None and modifier.value not in _LATERALITIES:
        return sr.FindingSite(concept(segment.type), topographical_modifier=modifier)
    return sr.FindingSite(concept(segment.type), laterality=modifier)
