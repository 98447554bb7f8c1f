"""Report radiomics: one group per segment and image, tied to the stored SEG and to the source series.

Segments of a BINARY SEG are referenced as in TID 1411. Segments of a LABELMAP are not, because today's validators and
readers take such a reference for an error (dciodvfy) or for the end of the report (dcmtk). Their groups follow TID 1501
and are tied by the segment's TrackingUID, the UID of the SEG and the segment's number (decision 0011). So are the ROIs
of an RT structure set that somebody else made.

The report states the parameters of model and measurement once, before its groups. A group states what was done
differently for its segment and image, such as its filter, its bins and its classes (TID 4019), and which features have
no value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from orthanc_plugin import identity
from orthanc_plugin.codes import NOT_MEASURED, SEG_INSTANCE, SEG_NUMBER, Code
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.measures import ORIGINAL, Missing, SegmentFeatures
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.radiomics.parameters import (
    AGGREGATION,
    condition_texts,
    describe,
    filter_text,
    parameter_texts,
    spacing_text,
)
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import image_references, result_headers
from orthanc_plugin.results.provenance import Provenance, radiomics_equipment
from orthanc_plugin.results.sr.content import finding_site, number
from orthanc_plugin.results.sr.report import encode_report, separate

_REFERENCED = ("BINARY", "FRACTIONAL")
_Group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations


def encode_radiomics_sr(
    provenance: Provenance,
    seg: Dataset,
    segmentation: Segmentation,
    features: Sequence[SegmentFeatures],
    *,
    title: Code,
    settings: RadiomicsSettings,
    image_library: bool = False,
) -> Dataset:
    """Encode the features of the segments of a stored SEG (PS3.16 TID 1500; 1411, or 1501 for a LABELMAP).

    Parameters
    ----------
    seg : Dataset
        The stored SEG, or an RT structure set.
    segmentation : Segmentation
        As decoded from `seg`: its numbers are the stored SegmentNumbers (ROINumbers).
    features : sequence of SegmentFeatures
        For the original image and for filtered ones. Those without features and without missing ones get no group.
    settings : RadiomicsSettings
        Parameters of the measurement, recorded beside those of the model (TID 4019).
    image_library : bool
        List the source slices (TID 1600). Text viewers print a line for each.

    Raises
    ------
    EncodingError
        If there is no group, a value is not finite, or a segment is not in the SEG.
    """
    segments = {segment.number: segment for segment in segmentation.segments}
    texts = (*parameter_texts(settings), *_shared_spacing(features))

    @cache
    def algorithm(own: tuple[str, ...]) -> sr.AlgorithmIdentification:
        return provenance.group_algorithm(own)

    series = provenance.series
    groups = [
        _group(seg, segments[one.segment_number], one, algorithm(_own_texts(one, settings, texts)), series)
        for one in features
        if one.features or one.missing
    ]
    ds = encode_report(
        provenance,
        groups,
        title=title,
        kind=Output.RADIOMICS,
        notes=[*series.notes, *segmentation.notes, *named_notes(features, segmentation)],
        evidence=[seg],
        algorithms=[radiomics_equipment(describe(settings), provenance.created)],
        parameters=texts,
    )
    if image_library:
        _list_images(ds, series)
    return ds


def _shared_spacing(features: Sequence[SegmentFeatures]) -> tuple[str, ...]:
    """Return the spacing at which the first segment was measured; it is usually that of all."""
    conditions = next((one.conditions for one in features if one.conditions is not None), None)
    return () if conditions is None else (spacing_text(conditions),)


def _own_texts(measured: SegmentFeatures, settings: RadiomicsSettings, shared: Sequence[str]) -> tuple[str, ...]:
    """Return what a group states beside what the report states for all."""
    image = measured.image
    filtered = () if image == ORIGINAL else (f"image={image}", f"filter={filter_text(image, settings)}")
    further = (f"{AGGREGATION}={measured.aggregation}",) if measured.aggregation else ()
    done = () if measured.conditions is None else condition_texts(measured.conditions)
    return (*filtered, *further, *(text for text in done if text not in shared))


def named_notes(features: Sequence[SegmentFeatures], segmentation: Segmentation) -> Iterator[str]:
    """Yield the notes of all measurements, each with the name of its segment and image."""
    labels = {segment.number: segment.label for segment in segmentation.segments}
    for measured in features:
        for note in measured.notes:
            yield f"{_named(labels[measured.segment_number], measured)}: {note}"


def _named(label: str, measured: SegmentFeatures) -> str:
    return ", ".join([label, *_variant(measured)])


def _variant(measured: SegmentFeatures) -> tuple[str, ...]:
    """Return what tells a group from the main one of its segment."""
    image = () if measured.image == ORIGINAL else (measured.image,)
    return (*image, measured.aggregation) if measured.aggregation else image


def _group(
    seg: Dataset, segment: Segment, measured: SegmentFeatures, algorithm: sr.AlgorithmIdentification, series: CtSeries
) -> _Group:
    """Make the group of one segment and image."""
    group = _empty_group(seg, segment, measured, algorithm, series)
    numbers = [number(f.concept, f.value, f.unit, f.derivation) for f in measured.features]
    missing = [_missing(one) for one in measured.missing]
    group[0].add_new("ContentSequence", "SQ", [*group[0].ContentSequence, *numbers, *missing])
    return group


def _missing(missing: Missing) -> Dataset:
    text = f"{', '.join(missing.names)}: {missing.reason}"
    item: Dataset = sr.TextContentItem(concept(NOT_MEASURED), text, sr.RelationshipTypeValues.CONTAINS)
    return item


def _empty_group(
    seg: Dataset, segment: Segment, measured: SegmentFeatures, algorithm: sr.AlgorithmIdentification, series: CtSeries
) -> _Group:
    tracking, site = _tracking(seg, segment, measured), finding_site(segment.type, segment.modifier)
    category, kind = concept(segment.category), concept(segment.type)
    source = sr.SourceSeriesForSegmentation(series.identity.series_instance_uid)
    if seg.get("SegmentationType") in _REFERENCED:
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


def _tracking(seg: Dataset, segment: Segment, measured: SegmentFeatures) -> sr.TrackingIdentifier:
    """Identify the segment; any further group gets a UID of its own, because one UID belongs to one group."""
    if seg.SOPClassUID == RTStructureSetStorage:
        stored: Dataset | None = Dataset()
    else:
        stored = next((item for item in seg.SegmentSequence if item.SegmentNumber == segment.number), None)
    if stored is None:
        raise EncodingError(f"segment {segment.number} is not in the SEG {seg.SOPInstanceUID}")
    identifier, variant = _named(str(stored.get("TrackingID") or segment.label), measured), _variant(measured)
    if not variant and stored.get("TrackingUID"):
        return sr.TrackingIdentifier(uid=stored.TrackingUID, identifier=identifier)
    uid = identity.tracking_uid(seg.SOPInstanceUID, ":".join([str(segment.number), *variant]))
    return sr.TrackingIdentifier(uid=uid, identifier=identifier)


def _list_images(ds: Dataset, series: CtSeries) -> None:
    headers = result_headers(series)
    (library,) = sr.ImageLibrary(headers)
    images = [item for group in library.ContentSequence for item in group.ContentSequence if item.ValueType == "IMAGE"]
    for image, header in zip(images, headers, strict=True):
        image.ReferencedSOPSequence = image_references([header])
    separate(library)
    *before, measurements = ds.ContentSequence
    ds.add_new("ContentSequence", "SQ", [*before, library, measurements])
