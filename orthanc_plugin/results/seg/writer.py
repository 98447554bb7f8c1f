"""Write the SEG of one model: coded structures as bit planes or as a label map.

No two segments overlap: the body is stored as what lies outside the other segments, and its label says so. highdicom
writes the header and describes each slice. The frames are our own (`seg.frames`), equal byte for byte to highdicom's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from orthanc_plugin import identity
from orthanc_plugin.codes import ENTIRE_BODY
from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.masks import Labels, Segment, Segmentation, label_counts
from orthanc_plugin.domain.plan import DEFAULT_SEG, Output, SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import complete, image_references, result_headers
from orthanc_plugin.results.provenance import CHARACTER_SET, Provenance, statements_of, warning_of
from orthanc_plugin.results.seg import frames as seg_frames
from orthanc_plugin.results.seg.choice import choose, describe
from orthanc_plugin.results.seg.frames import Occupancy
from orthanc_plugin.results.seg.labels import comments, not_found, remainder_label, segment_label

SETTINGS = describe(DEFAULT_SEG)
"""The default settings as they enter the SEG UID."""

MOST_SEGMENTS = 255
_SOURCE_BITS = 16
_STANDIN = (1, 8)
_STANDIN_UID = "2.25.1"


def encode_seg(provenance: Provenance, segmentation: Segmentation, settings: SegSettings = DEFAULT_SEG) -> Dataset:
    """Encode the structures of one model as one SEG in a series of its own.

    Segments never overlap: a structure that covers others is written without them, and its label says so. A LABELMAP
    cannot hold overlaps, and OHIF 3.13.2 drops frames of a BINARY SEG with overlaps without a message. SegmentNumbers
    are 1, 2, ... in the order of the segments, whatever their numbers in the model; structures that cover others come
    last. What a body has outside the other segments is stored only if the settings ask for it, because it paints the
    whole patient. ImageComments names the structures
    of the card that were not found, after the limits of the model and the notes of the segmentation.

    Returns
    -------
    Dataset
        With file meta. Its PerFrameFunctionalGroupsSequence is already encoded: saving copies it, access parses it.

    Raises
    ------
    EncodingError
        If there is no segment, if one has no voxel, if there are more than 255, or if the settings ask for BINARY and
        viewers would scramble it (see `seg.choice.choose`).
    """
    series, card = provenance.series, provenance.card
    segmentation = _on_source(segmentation, series)
    labels, counts = segmentation.labels, seg_frames.slice_counts(segmentation.labels)
    _refuse(segmentation.segments, counts.sum(axis=0))
    segments = _without_filled(_organs_first(segmentation.segments, settings.body), counts.sum(axis=0))
    where = seg_frames.occupancy(_numbers(segments), counts)
    encoding = choose(settings, where.frames, labels.shape, int(series.headers[0].get("BitsAllocated") or _SOURCE_BITS))
    named = enumerate(_apart(segments), start=1)
    descriptions = [description(number, segment, provenance) for number, segment in named]
    ds = highdicom_seg(standin_headers(series), standin_labels(where), descriptions[:2], encoding, provenance)
    complete(ds, provenance, Output.SEG)
    # highdicom's item for the background, which PS3.3 C.8.20.2.3.3 requires of a LABELMAP, comes last: OHIF 3.13.2
    # takes the colour of segment n from the n-th item.
    background = [item for item in ds.SegmentSequence if item.SegmentNumber == 0]
    ds.SegmentSequence = [*descriptions, *background]
    ds.ImageComments = comments((*statements_of(card), *segmentation.notes, *not_found(card, segmentation.segments)))
    return _with_frames(ds, series, labels, where, encoding)


def highdicom_seg(
    headers: Sequence[Dataset],
    labels: Labels,
    descriptions: Sequence[SegmentDescription],
    encoding: SegEncoding,
    provenance: Provenance,
) -> highdicom.seg.Segmentation:
    """Highdicom's SEG of a label map of SegmentNumbers, uncompressed; `encode_seg` takes its header from one.

    Parameters
    ----------
    headers : sequence of Dataset
        One per slice.
    labels : ndarray, shape (z, y, x), uint8
        SegmentNumbers.
    descriptions : sequence of SegmentDescription
        Of SegmentNumbers 1, 2, ...
    encoding : SegEncoding
        Not AUTO.
    provenance : Provenance
        As for `encode_seg`.
    """
    return shell(
        headers,
        labels,
        descriptions,
        "BINARY" if encoding is SegEncoding.BINARY else "LABELMAP",
        provenance,
        Output.SEG,
    )


def shell(
    headers: Sequence[Dataset],
    labels: Labels,
    descriptions: Sequence[SegmentDescription],
    kind: str,
    provenance: Provenance,
    output: Output,
) -> highdicom.seg.Segmentation:
    """Make highdicom's SEG of a SegmentationType; parameters as in `highdicom_seg`."""
    ds = highdicom.seg.Segmentation(
        headers,
        labels,
        kind,
        descriptions,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[provenance.equipment()],
        content_label="AI_RESEARCH",
        content_description=warning_of(provenance.card),
        **provenance.sop_arguments(output),
    )
    ds.ContentCreatorName = ""  # type 2 (PS3.3 Table 10-12)
    _derive_dimension_uid(ds)
    return ds


def _refuse(segments: Sequence[Segment], counts: NDArray[np.intp]) -> None:
    if not segments:
        raise EncodingError("a SEG without a segment is never written")
    if len(segments) > MOST_SEGMENTS:
        raise EncodingError(
            f"{len(segments)} segments: a SEG of 8 bits holds at most {MOST_SEGMENTS}; split the model's labels"
        )
    for segment in segments:
        if not counts[list(segment.covers)].sum():
            raise EncodingError(f"segment {segment.key} has no voxel")


def _without_filled(segments: Sequence[Segment], counts: NDArray[np.intp]) -> tuple[Segment, ...]:
    """Leave out structures that are completely filled by those inside them."""
    seen = set(_numbers(segments)[counts > 0])
    return tuple(segment for number, segment in enumerate(segments, start=1) if number in seen)


def _organs_first(segments: Sequence[Segment], body: bool) -> tuple[Segment, ...]:
    """Put structures that cover others last, and leave out the rest of the body unless it is asked for."""
    numbers = {segment.number for segment in segments}
    covering = [segment for segment in segments if numbers & {*segment.covers} - {segment.number}]
    kept = [segment for segment in covering if body or segment.type.value != ENTIRE_BODY.value]
    return (*(segment for segment in segments if segment not in covering), *kept)


def _breadth(segment: Segment) -> int:
    """Sort key that puts structures that cover others before those inside them."""
    return -len(segment.covers)


def _numbers(segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Map each value of the label map to the SegmentNumber of the innermost structure."""
    numbers = {segment.number: number for number, segment in enumerate(segments, start=1)}
    table = np.zeros(256, np.uint8)
    for segment in sorted(segments, key=_breadth):
        table[list(segment.covers)] = numbers[segment.number]
    return table


def _on_source(segmentation: Segmentation, series: CtSeries) -> Segmentation:
    """Put masks onto the source slices; a structure so thin that no slice shows it is left out with a note."""
    if series.placement is None:
        return segmentation
    labels = series.on_source(segmentation.labels)
    shown = set(np.flatnonzero(label_counts(labels)).tolist())
    kept = tuple(segment for segment in segmentation.segments if shown & set(segment.covers))
    lost = [segment.label for segment in segmentation.segments if segment not in kept]
    notes = (f"no source slice shows: {', '.join(lost)}",) * bool(lost)
    return Segmentation(labels, kept, (*segmentation.notes, *notes))


def standin_headers(series: CtSeries) -> list[Dataset]:
    """Make a small image of each slice: of multi-frame sources, highdicom takes one only, and all its frames."""
    headers = result_headers(series)
    for index, header in enumerate(headers):
        header.Rows, header.Columns = _STANDIN
        if header.pop("ReferencedFrameNumber", None) is not None:
            header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"{_STANDIN_UID}.{index}"
    return headers


def name_frames(ds: Dataset, groups: Sequence[Dataset], series: CtSeries) -> None:
    """Name the frames of multi-frame sources in the place of their stand-ins."""
    named = {
        f"{_STANDIN_UID}.{index}": header
        for index, header in enumerate(series.headers)
        if frame_number(header) is not None
    }
    if not named:
        return
    for group in groups:
        for source in group.DerivationImageSequence[0].SourceImageSequence:
            if (header := named.get(source.ReferencedSOPInstanceUID)) is not None:
                source.update(image_references([header])[0])
    for item in ds.ReferencedSeriesSequence:
        instances = {
            _named(reference, named).ReferencedSOPInstanceUID: reference
            for reference in item.ReferencedInstanceSequence
        }
        item.ReferencedInstanceSequence = list(instances.values())


def _named(reference: Dataset, named: Mapping[str, Dataset]) -> Dataset:
    """Point a reference to the instance whose frame its stand-in is."""
    if (header := named.get(reference.ReferencedSOPInstanceUID)) is not None:
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


def standin_labels(where: Occupancy) -> Labels:
    """Make tiny slices in which segment 1 is present wherever any segment is."""
    labels = np.zeros((len(where.there), *_STANDIN), np.uint8)
    labels[where.slices] = 1
    return labels


def _with_frames(ds: Dataset, series: CtSeries, labels: Labels, where: Occupancy, encoding: SegEncoding) -> Dataset:
    """Replace the stand-in's frames by those of the label map."""
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    name_frames(ds, groups, series)
    slices = seg_frames.slice_indices(series)
    order = [slices[seg_frames.source_slice(group)] for group in groups]
    del ds.PerFrameFunctionalGroupsSequence, ds.PixelData
    whole = Dataset()  # not highdicom's class, which keeps tables of the stand-in's frames
    whole.file_meta = ds.file_meta
    whole.update(ds)
    if encoding is SegEncoding.LABELMAP_RLE:
        whole.file_meta.TransferSyntaxUID = RLELossless
    _, whole.Rows, whole.Columns = labels.shape
    whole.NumberOfFrames = where.frames if encoding is SegEncoding.BINARY else len(order)
    correct_ambiguous_vr(whole, True)
    # Without this, pydicom parses the groups and encodes them again on saving.
    whole.set_original_encoding(False, True, convert_encodings(CHARACTER_SET))
    if encoding is SegEncoding.BINARY:
        element = seg_frames.per_frame_groups(groups, order, where)
    else:
        element = seg_frames.per_slice_groups(groups)
    whole[element.tag] = element
    whole.add_new("PixelData", "OB", _PIXELS[encoding](labels, where, order))
    return whole


_PIXELS = {
    SegEncoding.BINARY: seg_frames.binary_pixels,
    SegEncoding.LABELMAP: seg_frames.labelmap_pixels,
    SegEncoding.LABELMAP_RLE: seg_frames.rle_pixels,
}


def _apart(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Label the segments as stored: those that cover others say that they do not include them."""
    numbers = {segment.number for segment in segments}
    return tuple(
        replace(segment, label=remainder_label(segment.label))
        if numbers & {*segment.covers} - {segment.number}
        else replace(segment, label=segment_label(segment.label))
        for segment in segments
    )


def description(number: int, segment: Segment, provenance: Provenance) -> SegmentDescription:
    """Describe a segment under its number in the object."""
    item = SegmentDescription(
        number,
        segment.label,
        concept(segment.category),
        concept(segment.type),
        "AUTOMATIC",
        provenance.segment_algorithm(),
        tracking_uid=identity.tracking_uid(provenance.sop_instance_uid, str(number)),
        tracking_id=segment.label,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.modifier is not None:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(segment.modifier)]
    return item


def _derive_dimension_uid(ds: Dataset) -> None:
    uid = identity.dimension_organization_uid(ds.SOPInstanceUID)
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
