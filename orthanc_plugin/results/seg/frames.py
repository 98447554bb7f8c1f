"""Encode the frames of a SEG as bytes: their pixels, and the functional groups that describe them.

There is one frame per segment and slice (BINARY) or per slice (LABELMAP); empty frames are left out. Two frames of a
slice differ only in the number of their segment. highdicom therefore describes each slice once, and the number is
written into those bytes: a SEG of 100 structures has thousands of frames, and a dataset tree for each would be slow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence_item
from pydicom.tag import Tag
from rle.rle import encode_segment  # type: ignore[import-not-found]  # compiled, without stubs

from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.domain.volume import CtSeries

_PER_FRAME = Tag("PerFrameFunctionalGroupsSequence")
_DIMENSION_INDEX = struct.pack("<HH2sH", 0x0020, 0x9157, b"UL", 8)
_SEGMENT_NUMBER = struct.pack("<HH2sH", 0x0062, 0x000B, b"US", 2)
_RLE_HEADER = struct.pack("<16L", 1, 64, *[0] * 14)  # one segment, which starts after this header (PS3.5 G.5)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Where the segments of a label map lie.

    numbers: (256,) uint8, SegmentNumber of each value of the label map, 0 for none.
    there: (z, segments + 1) bool, True if a slice shows a segment; column 0 is unused.
    """

    numbers: NDArray[np.uint8]
    there: NDArray[np.bool_]

    @property
    def frames(self) -> int:
        """Number of frames of a BINARY SEG."""
        return int(self.there.sum())

    @property
    def slices(self) -> NDArray[np.intp]:
        """The slices that show anything, ascending."""
        return np.flatnonzero(self.there.any(axis=1))

    def values(self, number: int) -> NDArray[np.uint8]:
        """List the label map values of a segment, in the type of the map: other types compare three times as slowly."""
        return np.flatnonzero(self.numbers == number).astype(np.uint8)


def slice_indices(series: CtSeries) -> dict[tuple[str, int], int]:
    """Index each source slice of a series by its SOPInstanceUID and frame (0 where it is a single-frame instance)."""
    return {(str(ds.SOPInstanceUID), frame_number(ds) or 0): index for index, ds in enumerate(series.headers)}


def source_slice(groups: Dataset) -> tuple[str, int]:
    """Give the SOPInstanceUID and the frame that a frame of a SEG names as its source."""
    source = groups.DerivationImageSequence[0].SourceImageSequence[0]
    return str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 0)


def slice_counts(labels: Labels) -> NDArray[np.intp]:
    """Count the voxels of each value in each slice: (z, 256)."""
    return np.stack([np.bincount(plane.ravel(), minlength=256) for plane in labels])


def occupancy(numbers: NDArray[np.uint8], counts: NDArray[np.intp]) -> Occupancy:
    """Combine the SegmentNumber of each value with the `slice_counts` of the label map."""
    there = np.zeros((len(counts), int(numbers.max()) + 1), np.bool_)
    for value in np.flatnonzero(numbers):
        there[:, numbers[value]] |= counts[:, value] > 0
    return Occupancy(numbers, there)


def binary_pixels(labels: Labels, where: Occupancy, order: Sequence[int]) -> bytes:
    """Pack the frames of all segments, eight voxels per byte, least significant bit first (PS3.5 8.1.1, D.1).

    Parameters
    ----------
    labels : ndarray, shape (z, y, x), uint8
        y * x is a multiple of 8.
    where : Occupancy
        Of this label map.
    order : sequence of int
        Slices in the order of their frames.
    """
    masks = (_inside(labels[index], where.values(number)) for number, index in pairs(where, order))
    return _joined((np.packbits(mask.ravel(), bitorder="little") for mask in masks), where.frames * labels[0].size // 8)


def labelmap_pixels(labels: Labels, where: Occupancy, order: Sequence[int]) -> bytes:
    """Encode frames of SegmentNumbers, one byte per voxel, padded to an even number of bytes."""
    return _joined((where.numbers[labels[index]] for index in order), len(order) * labels[0].size)


def rle_pixels(labels: Labels, where: Occupancy, order: Sequence[int]) -> bytes:
    """Encode frames of SegmentNumbers as RLE Lossless (PS3.5 Annex G), encapsulated with a basic offset table.

    This calls the codec's function for one segment. Its function for a frame takes 5 ms instead of 0.5 ms for the same
    bytes, and gdcm, which pydicom prefers, ends the process on some small images.
    """
    return encapsulate([rle_frame(where.numbers[labels[index]]) for index in order])


def rle_frame(plane: NDArray[np.uint8]) -> bytes:
    """Encode a frame of bytes (y, x) as RLE Lossless, as `rle_pixels` says."""
    return _RLE_HEADER + bytes(encode_segment(plane.tobytes(), plane.shape[1]))


def per_frame_groups(groups: Sequence[Dataset], order: Sequence[int], where: Occupancy) -> RawDataElement:
    """Encode the PerFrameFunctionalGroupsSequence of a BINARY SEG; pydicom writes it unchanged and parses it on access.

    Parameters
    ----------
    groups : sequence of Dataset
        Groups of the frames of segment 1, one per slice in `order`, as if every slice showed it.
    order : sequence of int
        Their slices.
    where : Occupancy
        Which frames exist.
    """
    items = dict(zip(order, (_Item.of(group) for group in groups), strict=True))
    return _raw(b"".join(items[index].of_segment(number) for number, index in pairs(where, order)))


def per_slice_groups(groups: Sequence[Dataset]) -> RawDataElement:
    """Encode the PerFrameFunctionalGroupsSequence of a LABELMAP."""
    return _raw(b"".join(map(_encoded, groups)))


@dataclass(frozen=True, slots=True)
class _Item:
    """One encoded item, with the offsets of the segment's number: as dimension index, and as ReferencedSegmentNumber.

    A SEG of one segment has no second offset, because the number is in the shared groups.
    """

    encoded: bytes
    index_at: int
    number_at: int

    @classmethod
    def of(cls, group: Dataset) -> _Item:
        encoded = _encoded(group)
        return cls(encoded, _after(_DIMENSION_INDEX, encoded), _after(_SEGMENT_NUMBER, encoded))

    def of_segment(self, number: int) -> bytes:
        item = bytearray(self.encoded)
        struct.pack_into("<L", item, self.index_at, number)
        if self.number_at:
            struct.pack_into("<H", item, self.number_at, number)
        return bytes(item)


def _joined(frames: Iterable[NDArray[np.uint8]], size: int) -> bytes:
    """Join frames of `size` bytes in all, and pad them to an even number of bytes."""
    room = BytesIO(bytes(size + size % 2))  # written in place, because joining bytes needs the memory twice
    for frame in frames:
        room.write(frame.data)
    return room.getvalue()


def pairs(where: Occupancy, order: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield SegmentNumber and slice of each frame, in the order of the frames."""
    for number in range(1, where.there.shape[1]):
        yield from ((number, index) for index in order if where.there[index, number])


def _inside(plane: Labels, values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(reduce(np.logical_or, (plane == value for value in values)))


def _encoded(group: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_sequence_item(buffer, group, ["utf8"])
    return buffer.getvalue()


def _after(header: bytes, encoded: bytes) -> int:
    at = encoded.find(header)
    return at + len(header) if at >= 0 else 0


def _raw(value: bytes) -> RawDataElement:
    return RawDataElement(_PER_FRAME, "SQ", len(value), value, 0, False, True)
