"""The SEG of one model: coded structures as bit planes, and the same structures read back from the stored object.

BINARY where every reader takes it; LABELMAP for the odd image sizes where OHIF scrambles BINARY without a message. No
two segments overlap: the body is stored as what lies outside the other segments, and says so in its label. Writing is
highdicom's. Reading is our own and goes by the source slice each frame names, so that a measure is made of what the
archive gives back and not of what we meant to write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.ct import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.masks import Labels, Segment, Segmentation, label_counts
from orthanc_plugin.results.algorithm import (
    MANUFACTURER,
    PRODUCT,
    RESEARCH_USE,
    concept,
    contributing_equipment,
    segment_algorithm,
)
from orthanc_plugin.results.headers import CHARACTER_SET, complete, result_headers

SETTINGS = "binary where columns % 8 = 0, else labelmap; no overlaps; empty frames omitted"
"""What decides the stored pixels beside source and model; enters the SEG UID."""

SERIES_NUMBER = 9801


def is_binary(columns: int) -> bool:
    """Whether the SEG of images of that width is BINARY.

    Two readers pack bits their own way: Orthanc's frame routes want whole bytes a row (Columns % 8 = 0), OHIF whole
    bytes a frame (Rows * Columns % 8 = 0). The first implies the second. BINARY is preferred because reports can
    reference it without a validator's complaint.
    """
    return columns % 8 == 0


def encode_seg(
    series: CtSeries,
    segmentation: Segmentation,
    card: ModelCard,
    *,
    sop_instance_uid: str,
    provider: str,
    created: datetime,
) -> Dataset:
    """The structures of one model as one SEG in a series of its own.

    Segments never overlap: a structure that covers others is written without them, and its label says so. A LABELMAP
    cannot hold overlaps, and of an overlapping BINARY OHIF 3.13.2 drops frames without a word. SegmentNumbers are
    1, 2, ... in the order of the segments, whatever their numbers in the model.

    Raises
    ------
    EncodingError
        If there is no segment, or one of them has no voxel.
    """
    _refuse_empty(segmentation)
    segmentation = _without_filled(segmentation)
    binary = is_binary(segmentation.labels.shape[2])
    segments = _apart(segmentation.segments)
    ds = highdicom.seg.Segmentation(
        result_headers(series),
        _consecutive(segmentation),
        "BINARY" if binary else "LABELMAP",
        [_description(n, s, card, sop_instance_uid, provider) for n, s in enumerate(segments, start=1)],
        series_instance_uid=identity.series_uid(sop_instance_uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        device_serial_number=card.digest,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[contributing_equipment(card, created)],
        series_description=f"AI research: {card.name} {card.version} segmentation"[:64],
        content_label="AI_RESEARCH",
        content_description=RESEARCH_USE,
        content_qualification="RESEARCH",
        specific_character_set=CHARACTER_SET,
    )
    complete(ds, series, created)
    if segmentation.notes:
        ds.ImageComments = "\n".join(segmentation.notes)
    ds.ContentCreatorName = ""  # type 2 (PS3.3 Table 10-12); nobody did
    _drop_background(ds)
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


def _refuse_empty(segmentation: Segmentation) -> None:
    if not segmentation.segments:
        raise EncodingError("a SEG without a segment is never written")
    for segment, voxels in zip(segmentation.segments, segmentation.voxels(), strict=True):
        if not voxels:
            raise EncodingError(f"segment {segment.key} has no voxel")


def _without_filled(segmentation: Segmentation) -> Segmentation:
    """Without the structures of which those inside leave nothing."""
    seen = _numbers(segmentation.segments)[label_counts(segmentation.labels) > 0]
    kept = tuple(segment for number, segment in enumerate(segmentation.segments, start=1) if number in seen)
    return replace(segmentation, segments=kept)


def _breadth(segment: Segment) -> int:
    """Sorts structures that cover others before those that lie inside them."""
    return -len(segment.covers)


def _consecutive(segmentation: Segmentation) -> Labels:
    """Label map of the stored SegmentNumbers, every voxel with the innermost of its structures."""
    return _looked_up(_numbers(segmentation.segments), segmentation.labels)


def _numbers(segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """SegmentNumber of each value of the label map."""
    numbers = {segment.number: number for number, segment in enumerate(segments, start=1)}
    table = np.zeros(256, np.uint8)
    for segment in sorted(segments, key=_breadth):
        table[list(segment.covers)] = numbers[segment.number]
    return table


def _looked_up(table: NDArray[np.uint8], labels: Labels) -> Labels:
    """`table[labels]` slice by slice: numpy widens indices to 8 bytes (600 MiB for 275 x 512 x 512)."""
    looked_up = np.empty_like(labels)
    for index, plane in enumerate(labels):
        looked_up[index] = table[plane]
    return looked_up


def _apart(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments without overlap: those that cover others say that they do not include them."""
    numbers = {segment.number for segment in segments}
    return tuple(
        replace(segment, label=_remainder_label(segment.label))
        if numbers & {*segment.covers} - {segment.number}
        else segment
        for segment in segments
    )


def _remainder_label(label: str) -> str:
    return f"{label[:34]} outside the other segments"


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


def _drop_background(ds: Dataset) -> None:
    """highdicom's item for SegmentNumber 0 shifts OHIF's colours by one; PixelPaddingValue 0 stays."""
    ds.SegmentSequence = [item for item in ds.SegmentSequence if item.SegmentNumber != 0]


def _derive_dimension_uid(ds: Dataset) -> None:
    uid = identity.dimension_organization_uid(ds.SOPInstanceUID)
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _stored_segments(seg: Dataset, card: ModelCard) -> tuple[Segment, ...]:
    """Segments by SegmentNumber; as stored, each covers itself alone."""
    known = {name: label for label in card.labels for name in (label.label, _remainder_label(label.label))}
    items = sorted(seg.SegmentSequence, key=lambda item: int(item.SegmentNumber))
    try:
        labels = {int(item.SegmentNumber): (str(item.SegmentLabel), known[item.SegmentLabel]) for item in items}
    except KeyError as missing:
        raise EncodingError(f"SEG {seg.SOPInstanceUID} holds {missing}, which {card.name} does not know") from missing
    return tuple(_segment(number, name, label) for number, (name, label) in labels.items())


def _segment(number: int, name: str, label: CardLabel) -> Segment:
    key = label.key if name == label.label else f"{label.key}_remainder"
    return Segment(number, key, name, label.category, label.type, label.modifier, label.colour, (number,))


def _frames(seg: Dataset, series: CtSeries) -> Iterator[tuple[int, Labels]]:
    """Slice index and (y, x) SegmentNumbers of each frame."""
    slices = {str(header.SOPInstanceUID): index for index, header in enumerate(series.headers)}
    shared = seg.SharedFunctionalGroupsSequence[0]
    for groups, pixels in zip(seg.PerFrameFunctionalGroupsSequence, _pixels(seg), strict=True):
        sources = groups.get("DerivationImageSequence", shared.get("DerivationImageSequence"))
        index = slices.get(sources[0].SourceImageSequence[0].ReferencedSOPInstanceUID) if sources else None
        if index is None:
            raise EncodingError(f"SEG {seg.SOPInstanceUID} has a frame that names no slice of its series")
        yield index, pixels * np.uint8(_segment_number(groups, shared)) if seg.BitsAllocated == 1 else pixels


def _pixels(seg: Dataset) -> Iterator[Labels]:
    """Frames as (y, x) uint8, one at a time."""
    if seg.BitsAllocated != 1 or seg.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from iter_pixels(seg)
        return
    packed, size = np.frombuffer(seg.PixelData, np.uint8), seg.Rows * seg.Columns
    for start in range(0, int(seg.NumberOfFrames) * size, size):
        bits = np.unpackbits(packed[start // 8 : (start + size + 7) // 8], bitorder="little")
        yield bits[start % 8 : start % 8 + size].reshape(seg.Rows, seg.Columns)


def _segment_number(groups: Dataset, shared: Dataset) -> int:
    holder = groups if "SegmentIdentificationSequence" in groups else shared
    return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
