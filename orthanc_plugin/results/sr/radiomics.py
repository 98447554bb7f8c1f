"""Radiomics as a report: one group a segment and image, tied to the stored SEG and to the source series.

Segments of a BINARY SEG are referenced as TID 1411 has it. Segments of a LABELMAP are not: the validators and readers
of today take such a reference for an error (dciodvfy) or for the end of the report (dcmtk). Their groups are TID 1501,
tied by the segment's own TrackingUID, the UID of the SEG and the segment's number (decision 0011).

A group says with which parameters its numbers were measured (TID 4019): the model's digest first, for dcmqi keeps the
first alone, then those of the measurement, and on which filtered image, if on one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom import sr
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.codes import SEG_INSTANCE, SEG_NUMBER, Code
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.measures import ORIGINAL, SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.radiomics.parameters import parameter_texts
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import result_headers
from orthanc_plugin.results.provenance import Provenance, radiomics_equipment
from orthanc_plugin.results.sr.content import finding_site, number
from orthanc_plugin.results.sr.report import encode_report, separate

SERIES_NUMBER = 9802

_Group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations


def encode_radiomics_sr(
    provenance: Provenance,
    seg: Dataset,
    segmentation: Segmentation,
    features: Sequence[SegmentFeatures],
    *,
    title: Code,
    settings: RadiomicsSettings | str = "",
    image_library: bool = False,
) -> Dataset:
    """Features of the segments of a stored SEG (PS3.16 TID 1500; 1411, of a LABELMAP 1501).

    Parameters
    ----------
    segmentation : Segmentation
        As decoded from `seg`: its numbers are the stored SegmentNumbers.
    features : sequence of SegmentFeatures
        Of the original image and of filtered ones. Who has no feature gets no group; why, stands in the comments.
    settings : RadiomicsSettings or str
        Parameters of the measurement, recorded beside those of the model (TID 4019).
    image_library : bool
        List the source slices (TID 1600). A viewer of text prints a line for each.

    Raises
    ------
    EncodingError
        If no segment has a feature, a value is not finite, or a segment is not in the SEG.
    """
    segments = {segment.number: segment for segment in segmentation.segments}
    texts = _texts(settings)
    algorithms = {
        image: provenance.group_algorithm([*texts, *_image_text(image)])
        for image in {measured.image for measured in features}
    }
    series = provenance.series
    groups = [
        _group(seg, segments[measured.segment_number], measured, algorithms[measured.image], series)
        for measured in features
        if measured.features
    ]
    ds = encode_report(
        provenance,
        groups,
        title=title,
        description="radiomics",
        series_number=SERIES_NUMBER,
        notes=[*series.notes, *segmentation.notes, *named_notes(features, segmentation)],
        evidence=[seg],
        algorithms=[radiomics_equipment("; ".join(texts), provenance.created)],
    )
    if image_library:
        _list_images(ds, series)
    return ds


def _texts(settings: RadiomicsSettings | str) -> tuple[str, ...]:
    if isinstance(settings, RadiomicsSettings):
        return parameter_texts(settings)
    return (f"radiomics: {settings}",) if settings else ()


def _image_text(image: str) -> tuple[str, ...]:
    return () if image == ORIGINAL else (f"image={image}",)


def named_notes(features: Sequence[SegmentFeatures], segmentation: Segmentation) -> Iterator[str]:
    """The notes of all measurements, each with the name of its segment and image."""
    labels = {segment.number: segment.label for segment in segmentation.segments}
    for measured in features:
        for note in measured.notes:
            yield f"{_named(labels[measured.segment_number], measured.image)}: {note}"


def _named(label: str, image: str) -> str:
    return label if image == ORIGINAL else f"{label}, {image}"


def _group(
    seg: Dataset, segment: Segment, measured: SegmentFeatures, algorithm: sr.AlgorithmIdentification, series: CtSeries
) -> _Group:
    """Make the group of one segment and image."""
    group = _empty_group(seg, segment, measured.image, algorithm, series)
    numbers = [number(f.concept, f.value, f.unit, f.derivation) for f in measured.features]
    group[0].add_new("ContentSequence", "SQ", [*group[0].ContentSequence, *numbers])
    return group


def _empty_group(
    seg: Dataset, segment: Segment, image: str, algorithm: sr.AlgorithmIdentification, series: CtSeries
) -> _Group:
    tracking, site = _tracking(seg, segment, image), finding_site(segment.type, segment.modifier)
    category, kind = concept(segment.category), concept(segment.type)
    source = sr.SourceSeriesForSegmentation(series.identity.series_instance_uid)
    if seg.SegmentationType != "LABELMAP":
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking,
            # By hand: highdicom's own helper fails for a SEG of one segment.
            referenced_segment=sr.ReferencedSegment(
                seg.SOPClassUID, seg.SOPInstanceUID, segment.number, source_series=source
            ),
            finding_category=category,
            finding_type=kind,
            finding_sites=[site],
            algorithm_id=algorithm,
        )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking, finding_category=category, finding_type=kind, finding_sites=[site], algorithm_id=algorithm
    )
    contains = sr.RelationshipTypeValues.CONTAINS
    group[0].ContentSequence.extend(
        [
            sr.UIDRefContentItem(concept(SEG_INSTANCE), seg.SOPInstanceUID, contains),
            sr.TextContentItem(concept(SEG_NUMBER), str(segment.number), contains),
            source,
        ]
    )
    return group


def _tracking(seg: Dataset, segment: Segment, image: str) -> sr.TrackingIdentifier:
    """That of the segment; of a filtered image its own, since one UID is in one group."""
    stored = next((item for item in seg.SegmentSequence if item.SegmentNumber == segment.number), None)
    if stored is None:
        raise EncodingError(f"segment {segment.number} is not in the SEG {seg.SOPInstanceUID}")
    if image == ORIGINAL:
        return sr.TrackingIdentifier(uid=stored.TrackingUID, identifier=stored.TrackingID)
    uid = identity.tracking_uid(seg.SOPInstanceUID, f"{segment.number}:{image}")
    return sr.TrackingIdentifier(uid=uid, identifier=_named(stored.TrackingID, image))


def _list_images(ds: Dataset, series: CtSeries) -> None:
    (library,) = sr.ImageLibrary(result_headers(series))
    separate(library)
    *before, measurements = ds.ContentSequence
    ds.add_new("ContentSequence", "SQ", [*before, library, measurements])
