"""Read the segmentation that a stored SEG holds.

Frames are placed by the source slice that each one names, so that a measurement is made of what the archive gives back
and not of what we meant to write.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.domain.masks import Labels, Segment, Segmentation
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.provenance import statements_of
from orthanc_plugin.results.seg.frames import slice_indices, source_slice
from orthanc_plugin.results.seg.labels import labels_by_name, segment_label


def decode_seg(seg: Dataset, series: CtSeries, card: ModelCard) -> Segmentation:
    """Read the segmentation that a stored SEG holds, on the grid of its volume.

    Numbers are the stored SegmentNumbers. Frames are placed by the source instance that they name, in any order. Notes
    are those of the run, without the statements of the card.

    Raises
    ------
    EncodingError
        If the SEG does not fit the series or the card, or its segments overlap.
    """
    segments = _stored_segments(seg, card)
    said = statements_of(card)
    notes = tuple(line for line in str(seg.get("ImageComments") or "").splitlines() if line not in said)
    return Segmentation(read_labels(seg, series), segments, notes)


def read_labels(seg: Dataset, series: CtSeries) -> Labels:
    """Read the SegmentNumbers of a stored SEG, (z, y, x) on the grid of the volume; raise as `decode_seg`."""
    labels = np.zeros(series.source_shape, np.uint8)
    if [seg.Rows, seg.Columns] != [*labels.shape[1:]]:
        raise EncodingError(f"SEG {seg.SOPInstanceUID} has another image size than its series")
    for index, frame in _frames(seg, series):
        if np.any(labels[index][frame > 0]):
            raise EncodingError(f"SEG {seg.SOPInstanceUID} holds segments that overlap")
        labels[index] += frame
    return series.on_volume(labels)


def described_segments(seg: Dataset) -> list[Dataset]:
    """List the items that describe the structures of a SEG, by SegmentNumber; 0 is the background of a LABELMAP."""
    described = [item for item in seg.SegmentSequence if item.SegmentNumber]
    return sorted(described, key=lambda item: int(item.SegmentNumber))


def _stored_segments(seg: Dataset, card: ModelCard) -> tuple[Segment, ...]:
    """List the segments by SegmentNumber; as stored, each covers only itself."""
    known = labels_by_name(card)
    items = described_segments(seg)
    try:
        labels = {int(item.SegmentNumber): (str(item.SegmentLabel), known[item.SegmentLabel]) for item in items}
    except KeyError as missing:
        raise EncodingError(f"SEG {seg.SOPInstanceUID} holds {missing}, which {card.name} does not know") from missing
    return tuple(_segment(number, name, label) for number, (name, label) in labels.items())


def _segment(number: int, name: str, label: CardLabel) -> Segment:
    key = label.key if name == segment_label(label.label) else f"{label.key}_remainder"
    return Segment(number, key, name, label.category, label.type, label.modifier, label.colour, (number,))


def _frames(seg: Dataset, series: CtSeries) -> Iterator[tuple[int, Labels]]:
    """Yield slice index and SegmentNumbers (y, x) of each frame."""
    slices = slice_indices(series)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for groups, pixels in zip(seg.PerFrameFunctionalGroupsSequence, frame_pixels(seg), strict=True):
        holder = groups if "DerivationImageSequence" in groups else shared
        index = slices.get(source_slice(holder)) if holder.get("DerivationImageSequence") else None
        if index is None:
            raise EncodingError(f"SEG {seg.SOPInstanceUID} has a frame that names no slice of its series")
        yield index, pixels * np.uint8(_segment_number(groups, shared)) if seg.BitsAllocated == 1 else pixels


def frame_pixels(seg: Dataset) -> Iterator[Labels]:
    """Yield frames as (y, x) uint8, one at a time."""
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
