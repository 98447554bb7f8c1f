"""Read the masks of a SEG of any maker: BINARY, FRACTIONAL or LABELMAP, frames in any order, empty ones left out.

Frames are placed by their position in the patient. They may be turned or mirrored within the plane and cover a part of
the image, but must lie on the slices and the pixels of the CT: nothing is resampled.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless
from rle.rle import decode_segment  # type: ignore[import-not-found]  # compiled, without stubs

from orthanc_plugin.domain.found_masks import FoundMasks, Layers, Structure
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.results.foreign import (
    Grid,
    check_frame_of_reference,
    check_numbers,
    check_series,
    code_of,
    label_of,
    made_by,
)
from orthanc_plugin.results.seg.reader import frame_pixels
from orthanc_plugin.results.source_text import whole_number

_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression (PS3.5 A.4.14), which pydicom 3.0 does not know."""
_RLE_HEADER = 64
_TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
_GIVES_EACH_ITS_OWN_FRAME = "pydicom-seg"
"""The Manufacturer that pydicom-seg 0.4.1 states. What it reads from its source slices names them frame by frame."""
_OTHER_FRAME = (
    "the masks have another frame of reference than the CT, and a frame does not name the slice where it lies"
)
_PIXEL_TOLERANCE = 0.1
"""How far, in pixels, a pixel of a mask may lie from one of the CT."""


def read_foreign_seg(seg: Dataset, series: CtSeries) -> FoundMasks:
    """Read the masks of a SEG onto the grid of a CT.

    Parameters
    ----------
    seg : Dataset
        With pixel data.
    series : CtSeries
        The CT on which the masks were drawn.

    Returns
    -------
    FoundMasks
        Segments without a voxel are refused there, one by one.

    Raises
    ------
    MaskError
        If frame of reference, series or grid are not those of the CT, or the object cannot be read.

    Source
    ------
    DICOM PS3.3 A.51, C.8.20.
    """
    own_frame = _has_own_frame_of_reference(seg, series)
    notes = [
        f"masks of a SEG ({seg.get('SegmentationType')}) made by {made_by(seg)}",
        *check_series(series_of_seg(seg), series),
    ]
    if seg.get("SegmentationType") == "FRACTIONAL":
        notes.append("fractional masks count from one half")
    if seg.get("SegmentationType") not in _TYPES:
        raise MaskError(Refusal.MASK_UNREADABLE, f"the SEG is of no type of {', '.join(_TYPES)}")
    structures = _structures(seg)
    if own_frame:
        notes.append("the masks have a frame of reference of their own; each frame names the slice on which it lies")
    planes = _planes(seg, Grid.of(series), _source_slices(series) if own_frame else None)
    if unknown := planes.keys() - structures.keys():
        raise MaskError(Refusal.MASK_UNREADABLE, f"the SEG does not describe segment {min(unknown)}, which it shows")
    layers = Layers(series.source_shape)
    for number in sorted(planes):
        layers.add(structures[number], planes[number])
    empty = [(one, "the segment has no voxel") for number, one in structures.items() if number not in planes]
    kept = (Segmentation(series.on_volume(labels), segments) for labels, segments in layers)
    return FoundMasks(tuple(kept), tuple(empty), tuple(notes))


def series_of_seg(seg: Dataset) -> set[str]:
    """Return the SeriesInstanceUIDs that a SEG names as its source."""
    return {str(item.get("SeriesInstanceUID")) for item in seg.get("ReferencedSeriesSequence") or ()}


def _structures(seg: Dataset) -> dict[int, Structure]:
    """Return what the SEG describes, by number, without a background.

    Raises
    ------
    MaskError
        If a segment has no number, or two have one: voxels of one would be taken for the other.
    """
    items = seg.get("SegmentSequence") or ()
    numbers = [whole_number(item, "SegmentNumber") for item in items]
    if None in numbers:
        raise MaskError(Refusal.MASK_UNREADABLE, "a segment of the SEG has no number")
    check_numbers([number for number in numbers if number is not None], "segments of the SEG")
    return {number: _structure(item, number) for item, number in zip(items, numbers, strict=True) if number}


def _structure(item: Dataset, number: int) -> Structure:
    kinds = item.get("SegmentedPropertyTypeCodeSequence")
    category = code_of(item.get("SegmentedPropertyCategoryCodeSequence"))
    modifiers = (kinds[0] if kinds else item).get("SegmentedPropertyTypeModifierCodeSequence")
    modifier = code_of(modifiers) if modifiers else None
    return Structure(number, label_of(item, "SegmentLabel", number), category, code_of(kinds), modifier)


def _has_own_frame_of_reference(seg: Dataset, series: CtSeries) -> bool:
    """Tell whether the frame of reference is a new one, which pydicom-seg gives each SEG, whatever its source.

    Raises
    ------
    MaskError
        If it is that of another scan, or the SEG does not name this series.
    """
    try:
        check_frame_of_reference(str(seg.get("FrameOfReferenceUID") or ""), series)
    except MaskError:
        named = series.identity.series_instance_uid in series_of_seg(seg)
        if seg.get("Manufacturer") != _GIVES_EACH_ITS_OWN_FRAME or not named:
            raise
        return True
    return False


def _source_slices(series: CtSeries) -> tuple[str, ...]:
    """Return the SOPInstanceUIDs of the source slices, in the order of the grid."""
    return tuple(str(header.SOPInstanceUID) for header in series.headers)


def _planes(seg: Dataset, grid: Grid, source: tuple[str, ...] | None = None) -> dict[int, dict[int, NDArray[np.intp]]]:
    """Return the pixels of each segment on each slice, by flat index.

    source: the SOPInstanceUIDs of the slices, if each frame must name the one on which it lies.
    """
    found: dict[int, dict[int, list[NDArray[np.intp]]]] = defaultdict(lambda: defaultdict(list))
    try:
        for groups, values in _frames(seg):
            if not values.any():
                continue
            rows, columns = np.nonzero(values)
            index, pixels = _on_grid(groups, rows, columns, values.shape, grid)
            if source is not None and source[index] not in groups.sources():
                raise MaskError(Refusal.MASK_FRAME_OF_REFERENCE, _OTHER_FRAME)
            numbers = values[rows, columns]
            for number in np.unique(numbers).tolist():
                found[number][index].append(pixels[numbers == number])
    except (AttributeError, ValueError, KeyError, IndexError, NotImplementedError, RuntimeError, zlib.error) as error:
        # Odd headers and pixels, which pydicom finds only when they are read.
        syntax = getattr(seg, "file_meta", Dataset()).get("TransferSyntaxUID", "unknown")
        text = f"the SEG (transfer syntax {syntax}) cannot be read: {type(error).__name__}"
        raise MaskError(Refusal.MASK_UNREADABLE, text) from error
    return {
        number: {index: np.concatenate(parts) for index, parts in planes.items()} for number, planes in found.items()
    }


def _frames(seg: Dataset) -> Iterator[tuple[_Groups, NDArray[np.integer]]]:
    """Yield the functional groups of each frame, and the SegmentNumber of each of its pixels, 0 for none."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    half = int(seg.get("MaximumFractionalValue") or 1) / 2
    for own, pixels in zip(seg.PerFrameFunctionalGroupsSequence, _pixels(seg), strict=True):
        groups = _Groups(own, shared)
        if seg.SegmentationType != "LABELMAP":
            number = int(groups.of("SegmentIdentificationSequence").ReferencedSegmentNumber)
            inside = pixels >= half if seg.SegmentationType == "FRACTIONAL" else pixels > 0
            yield groups, np.where(inside, np.uint16(number), np.uint16(0))
        else:
            yield groups, pixels


def _pixels(seg: Dataset) -> Iterator[NDArray[np.integer]]:
    """Yield frames as (y, x); also those whose packed bits are compressed in a way that pydicom does not decode."""
    syntax, bits = seg.file_meta.TransferSyntaxUID, int(seg.BitsAllocated)
    if syntax == _DEFLATED_FRAMES or (syntax == RLELossless and bits == 1):
        decode = _inflated if syntax == _DEFLATED_FRAMES else _run_lengths
        for frame in generate_frames(seg.PixelData, number_of_frames=int(seg.NumberOfFrames)):
            yield _unpacked(decode(frame), seg.Rows, seg.Columns, bits)
    elif bits == 1 and not syntax.is_little_endian:
        yield from iter_pixels(seg)
    else:
        yield from frame_pixels(seg)


def _inflated(frame: bytes) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame)


def _run_lengths(frame: bytes) -> bytes:
    """Decode the only segment of a frame of packed bits (PS3.5 Annex G)."""
    return bytes(decode_segment(frame[_RLE_HEADER:]))


def _unpacked(data: bytes, rows: int, columns: int, bits: int) -> NDArray[np.integer]:
    values = np.frombuffer(data, "<u2" if bits == 16 else np.uint8)
    if bits == 1:
        values = np.unpackbits(values, bitorder="little")
    return values[: rows * columns].reshape(rows, columns)


@dataclass(frozen=True, slots=True)
class _Groups:
    """The functional groups of one frame: its own, and those that all frames share."""

    own: Dataset
    shared: Dataset

    def of(self, keyword: str) -> Dataset:
        """Return the item of a functional group."""
        item: Dataset = (self.own if keyword in self.own else self.shared)[keyword].value[0]
        return item

    def sources(self) -> set[str]:
        """Return the SOPInstanceUIDs of the images that the frame was derived from."""
        items = self.own.get("DerivationImageSequence") or self.shared.get("DerivationImageSequence") or ()
        images = (image for item in items for image in item.get("SourceImageSequence") or ())
        return {str(image.get("ReferencedSOPInstanceUID")) for image in images}


def _on_grid(
    groups: _Groups, rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, ...], grid: Grid
) -> tuple[int, NDArray[np.intp]]:
    """Return the slice of a frame, and the flat indices on it of some of its pixels.

    Raises
    ------
    MaskError
        If the frame lies between slices, or its pixels beyond or between those of the CT.
    """
    position = np.array([float(v) for v in groups.of("PlanePositionSequence").ImagePositionPatient])
    orientation = np.array([float(v) for v in groups.of("PlaneOrientationSequence").ImageOrientationPatient])
    row_mm, column_mm = (float(v) for v in groups.of("PixelMeasuresSequence").PixelSpacing)
    steps = np.stack((orientation[:3] * column_mm, orientation[3:] * row_mm))
    last = np.array([shape[1] - 1, shape[0] - 1])
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * last
    slices = {grid.slice_at(corner) for corner in position + corners @ steps}
    index = next(iter(slices))
    if len(slices) > 1 or index is None:
        raise MaskError(Refusal.MASK_GRID, "a frame with voxels lies on no slice of the CT")
    exact = grid.pixels(position + corners @ steps, index)
    origin = np.rint(exact[0])
    turn = np.rint(grid.pixels(position + np.eye(2) @ steps, index) - exact[0])
    if np.abs(exact - (origin + corners @ turn)).max() > _PIXEL_TOLERANCE or abs(np.linalg.det(turn)) != 1:
        raise MaskError(Refusal.MASK_GRID, "the pixels of a frame are not those of the CT")
    column, row = (origin + np.stack((columns, rows), axis=1) @ turn).astype(np.intp).T
    _, height, width = grid.shape
    if min(row.min(), column.min()) < 0 or row.max() >= height or column.max() >= width:
        raise MaskError(Refusal.MASK_GRID, "a frame has voxels beyond the image of the CT")
    return index, row * width + column
