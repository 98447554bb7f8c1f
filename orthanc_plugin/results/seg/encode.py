"""The SEG of one model: coded structures as bit planes or a label map, and the same structures read back.

No two segments overlap: the body is stored as what lies outside the other segments, and says so in its label. highdicom
writes the header and describes each slice; frames are our own (`seg_frames`), equal byte for byte to highdicom's.
Reading goes by the source slice each frame names, so that a measure is made of what the archive gives back and not of
what we meant to write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.domain.masks import Labels, Segment, Segmentation
from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.algorithm import (
    MANUFACTURER,
    PRODUCT,
    RESEARCH_USE,
    concept,
    model_equipment,
    segment_algorithm,
    series_description,
)
from orthanc_plugin.results.headers import CHARACTER_SET, complete, result_headers
from orthanc_plugin.results.seg import frames as seg_frames
from orthanc_plugin.results.seg.choice import choose, describe, is_binary
from orthanc_plugin.results.seg.frames import Occupancy
from orthanc_plugin.results.seg.labels import (
    comments,
    labels_by_name,
    not_found,
    remainder_label,
    segment_label,
)

__all__ = ["SERIES_NUMBER", "SETTINGS", "decode_seg", "describe", "encode_seg", "highdicom_seg", "is_binary"]

_DEFAULT = SegSettings()

SETTINGS = describe(_DEFAULT)
"""The default settings as they enter the SEG UID."""

SERIES_NUMBER = 9801
MOST_SEGMENTS = 255
_SOURCE_BITS = 16
_STANDIN = (1, 8)


def encode_seg(
    series: CtSeries,
    segmentation: Segmentation,
    card: ModelCard,
    *,
    sop_instance_uid: str,
    provider: str,
    created: datetime,
    settings: SegSettings = _DEFAULT,
) -> Dataset:
    """The structures of one model as one SEG in a series of its own.

    Segments never overlap: a structure that covers others is written without them, and its label says so. A LABELMAP
    cannot hold overlaps, and of an overlapping BINARY OHIF 3.13.2 drops frames without a word. SegmentNumbers are
    1, 2, ... in the order of the segments, whatever their numbers in the model. Structures of the card that were not
    found are named in ImageComments, after the notes of the segmentation.

    Returns
    -------
    Dataset
        With file meta. Its PerFrameFunctionalGroupsSequence is encoded already: saving copies it, reading parses it.

    Raises
    ------
    EncodingError
        If there is no segment, one of them has no voxel, there are more than 255, or BINARY is asked for where viewers
        would scramble it (see `seg_choice.choose`).
    """
    labels, counts = segmentation.labels, seg_frames.slice_counts(segmentation.labels)
    _refuse(segmentation.segments, counts.sum(axis=0))
    segments = _without_filled(segmentation.segments, counts.sum(axis=0))
    where = seg_frames.occupancy(_numbers(segments), counts)
    encoding = choose(settings, where.frames, labels.shape, int(series.headers[0].get("BitsAllocated") or _SOURCE_BITS))
    named = enumerate(_apart(segments), start=1)
    descriptions = [_description(number, s, card, sop_instance_uid, provider) for number, s in named]
    ds = highdicom_seg(
        _standin_headers(series), _standin_labels(where), descriptions[:2], encoding, card,
        sop_instance_uid=sop_instance_uid, provider=provider, created=created,
    )  # fmt: skip
    complete(ds, series, created)
    ds.SegmentSequence = descriptions  # and no item for the background
    if notes := (*segmentation.notes, *not_found(card, segmentation.segments)):
        ds.ImageComments = comments(notes)
    return _with_frames(ds, series, labels, where, encoding)


def highdicom_seg(
    headers: Sequence[Dataset],
    labels: Labels,
    descriptions: Sequence[SegmentDescription],
    encoding: SegEncoding,
    card: ModelCard,
    *,
    sop_instance_uid: str,
    provider: str,
    created: datetime,
) -> highdicom.seg.Segmentation:
    """highdicom's SEG of a label map of SegmentNumbers, uncompressed; `encode_seg` takes its header from one.

    Parameters
    ----------
    headers : sequence of Dataset
        One a slice.
    labels : ndarray, shape (z, y, x), uint8
        SegmentNumbers.
    descriptions : sequence of SegmentDescription
        Of SegmentNumbers 1, 2, ...
    encoding : SegEncoding
        Not AUTO.
    card, sop_instance_uid, provider, created
        As for `encode_seg`.
    """
    ds = highdicom.seg.Segmentation(
        headers,
        labels,
        "BINARY" if encoding is SegEncoding.BINARY else "LABELMAP",
        descriptions,
        series_instance_uid=identity.series_uid(sop_instance_uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        device_serial_number=card.digest,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[model_equipment(card, created, provider)],
        series_description=series_description("segmentation", card),
        content_label="AI_RESEARCH",
        content_description=RESEARCH_USE,
        content_qualification="RESEARCH",
        specific_character_set=CHARACTER_SET,
    )
    ds.ContentCreatorName = ""  # type 2 (PS3.3 Table 10-12); nobody did
    _derive_dimension_uid(ds)
    return ds


def decode_seg(seg: Dataset, series: CtSeries, card: ModelCard) -> Segmentation:
    """The segmentation that a stored SEG holds, on the grid of its series.

    Numbers are the stored SegmentNumbers. Frames are placed by the source instance they name, in any order.

    Raises
    ------
    EncodingError
        If the SEG does not fit the series or the card, or its segments overlap.
    """
    segments = _stored_segments(seg, card)
    labels = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    if [seg.Rows, seg.Columns] != [*labels.shape[1:]]:
        raise EncodingError(f"SEG {seg.SOPInstanceUID} has another image size than its series")
    for index, frame in _frames(seg, series):
        if np.any(labels[index][frame > 0]):
            raise EncodingError(f"SEG {seg.SOPInstanceUID} holds segments that overlap")
        labels[index] += frame
    return Segmentation(labels, segments, tuple(str(seg.get("ImageComments") or "").splitlines()))


def _refuse(segments: Sequence[Segment], counts: NDArray[np.intp]) -> None:
    if not segments:
        raise EncodingError("a SEG without a segment is never written")
    if len(segments) > MOST_SEGMENTS:
        raise EncodingError(
            f"{len(segments)} segments: a SEG of 8 bits holds {MOST_SEGMENTS}; split the model's labels"
        )
    for segment in segments:
        if not counts[list(segment.covers)].sum():
            raise EncodingError(f"segment {segment.key} has no voxel")


def _without_filled(segments: Sequence[Segment], counts: NDArray[np.intp]) -> tuple[Segment, ...]:
    """Without the structures of which those inside leave nothing."""
    seen = set(_numbers(segments)[counts > 0])
    return tuple(segment for number, segment in enumerate(segments, start=1) if number in seen)


def _breadth(segment: Segment) -> int:
    """Sorts structures that cover others before those that lie inside them."""
    return -len(segment.covers)


def _numbers(segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """SegmentNumber of each value of the label map: that of the innermost structure."""
    numbers = {segment.number: number for number, segment in enumerate(segments, start=1)}
    table = np.zeros(256, np.uint8)
    for segment in sorted(segments, key=_breadth):
        table[list(segment.covers)] = numbers[segment.number]
    return table


def _standin_headers(series: CtSeries) -> list[Dataset]:
    headers = result_headers(series)
    for header in headers:
        header.Rows, header.Columns = _STANDIN
    return headers


def _standin_labels(where: Occupancy) -> Labels:
    """Tiny slices, in which segment 1 shows wherever any segment does."""
    labels = np.zeros((len(where.there), *_STANDIN), np.uint8)
    labels[where.slices] = 1
    return labels


def _with_frames(ds: Dataset, series: CtSeries, labels: Labels, where: Occupancy, encoding: SegEncoding) -> Dataset:
    """The header with the frames of the label map in place of the stand-in's."""
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    slices = _slice_indices(series)
    order = [slices[_source_uid(group)] for group in groups]
    del ds.PerFrameFunctionalGroupsSequence, ds.PixelData
    whole = Dataset()  # not highdicom's: that keeps tables of the stand-in's frames
    whole.file_meta = ds.file_meta
    whole.update(ds)
    if encoding is SegEncoding.LABELMAP_RLE:
        whole.file_meta.TransferSyntaxUID = RLELossless
    _, whole.Rows, whole.Columns = labels.shape
    whole.NumberOfFrames = where.frames if encoding is SegEncoding.BINARY else len(order)
    correct_ambiguous_vr(whole, True)
    # Said to be read in the form in which it is written: else pydicom parses and encodes the groups again.
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
    """The segments without overlap: those that cover others say that they do not include them."""
    numbers = {segment.number for segment in segments}
    return tuple(
        replace(segment, label=remainder_label(segment.label))
        if numbers & {*segment.covers} - {segment.number}
        else replace(segment, label=segment_label(segment.label))
        for segment in segments
    )


def _description(
    number: int, segment: Segment, card: ModelCard, sop_instance_uid: str, provider: str
) -> SegmentDescription:
    item = SegmentDescription(
        number,
        segment.label,
        concept(segment.category),
        concept(segment.type),
        "AUTOMATIC",
        segment_algorithm(card, provider),
        tracking_uid=identity.tracking_uid(sop_instance_uid, str(number)),
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


def _stored_segments(seg: Dataset, card: ModelCard) -> tuple[Segment, ...]:
    """Segments by SegmentNumber; as stored, each covers itself alone."""
    known = labels_by_name(card)
    items = sorted(seg.SegmentSequence, key=lambda item: int(item.SegmentNumber))
    try:
        labels = {int(item.SegmentNumber): (str(item.SegmentLabel), known[item.SegmentLabel]) for item in items}
    except KeyError as missing:
        raise EncodingError(f"SEG {seg.SOPInstanceUID} holds {missing}, which {card.name} does not know") from missing
    return tuple(_segment(number, name, label) for number, (name, label) in labels.items())


def _segment(number: int, name: str, label: CardLabel) -> Segment:
    key = label.key if name == segment_label(label.label) else f"{label.key}_remainder"
    return Segment(number, key, name, label.category, label.type, label.modifier, label.colour, (number,))


def _frames(seg: Dataset, series: CtSeries) -> Iterator[tuple[int, Labels]]:
    """Slice index and (y, x) SegmentNumbers of each frame."""
    slices = _slice_indices(series)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for groups, pixels in zip(seg.PerFrameFunctionalGroupsSequence, _pixels(seg), strict=True):
        sources = groups.get("DerivationImageSequence", shared.get("DerivationImageSequence"))
        index = slices.get(sources[0].SourceImageSequence[0].ReferencedSOPInstanceUID) if sources else None
        if index is None:
            raise EncodingError(f"SEG {seg.SOPInstanceUID} has a frame that names no slice of its series")
        yield index, pixels * np.uint8(_segment_number(groups, shared)) if seg.BitsAllocated == 1 else pixels


def _slice_indices(series: CtSeries) -> dict[str, int]:
    return {str(header.SOPInstanceUID): index for index, header in enumerate(series.headers)}


def _source_uid(groups: Dataset) -> str:
    return str(groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)


def _pixels(seg: Dataset) -> Iterator[Labels]:
    """Frames as (y, x) uint8, one at a time."""
    if seg.BitsAllocated != 1 or seg.file_meta.TransferSyntaxUID.is_encapsulated:
        syntax = seg.file_meta.TransferSyntaxUID
        yield from iter_pixels(seg, decoding_plugin="pylibjpeg" if syntax == RLELossless else "")
        return
    packed, size = np.frombuffer(seg.PixelData, np.uint8), seg.Rows * seg.Columns
    for start in range(0, int(seg.NumberOfFrames) * size, size):
        bits = np.unpackbits(packed[start // 8 : (start + size + 7) // 8], bitorder="little")
        yield bits[start % 8 : start % 8 + size].reshape(seg.Rows, seg.Columns)


def _segment_number(groups: Dataset, shared: Dataset) -> int:
    holder = groups if "SegmentIdentificationSequence" in groups else shared
    return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
