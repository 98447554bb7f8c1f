"""Multi-frame CT as single frames, so that the loader knows slices only.

Enhanced CT and Legacy Converted Enhanced CT keep what a classic slice says of itself in functional groups, shared or
for each frame (PS3.3 C.7.6.16). A frame becomes a dataset of the attributes of its instance and of its groups, with its
own pixels and its number. Parts of a concatenation are read like any other instances of their series, if all are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.errors import BytesLengthException

from orthanc_plugin.domain.instances import MULTI_FRAME_CT, frame_count
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.series.limits import check_voxels

_PIXEL_DATA_GROUP = 0x7FE00000
_MACROS = (
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "FrameContentSequence",
    "CTImageFrameTypeSequence",
    "CTAcquisitionDetailsSequence",
    "CTReconstructionSequence",
    "TemporalPositionSequence",
    "CardiacSynchronizationSequence",
    "RespiratorySynchronizationSequence",
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
)
"""Those that hold what the loader or a result asks for; a later one wins. Attributes that a converter could not assign
come first."""

_OF_THE_INSTANCE = (
    "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID",
    "InstanceNumber", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation",
)  # fmt: skip
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_ODD_VALUES = (
    ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ArithmeticError, EOFError, RecursionError,
    BytesLengthException, struct.error,
)  # fmt: skip


def image_types(ds: Dataset) -> Iterator[str]:
    """Give the values of Frame Type of all frames; none where the groups cannot be read."""
    try:
        for keyword in _GROUPS:
            for item in ds.get(keyword) or ():
                for macro in item.get("CTImageFrameTypeSequence") or ():
                    yield from map(str, macro.get("FrameType") or ())
    except _ODD_VALUES:
        return  # single_frames says what is wrong


def single_frames(ds: Dataset) -> Iterator[Dataset]:
    """Take one multi-frame instance apart.

    Yields
    ------
    Dataset
        One for each frame, in the order of the frames: as if it were a classic slice, with `ReferencedFrameNumber`.

    Raises
    ------
    InputError
        UNREADABLE: frames, functional groups and pixel data do not fit together. NO_PIXELS. TOO_LARGE.
    """
    count = frame_count(ds)
    try:
        check_voxels(count * int(ds.Rows) * int(ds.Columns))
        shared, per_frame = (_items(ds, keyword) for keyword in _GROUPS)
        if len(per_frame) != count:
            raise _unreadable(f"{count} frames but {len(per_frame)} functional groups")
        base = _base(ds)
        for number, (item, pixels) in enumerate(zip(per_frame, _pixels(ds, count), strict=True), start=1):
            yield _frame(ds, base, [*shared[:1], item], number, pixels)
    except _ODD_VALUES as error:  # pydicom finds out when values are asked for; its texts may quote them
        raise _unreadable(f"its functional groups or frames are damaged ({type(error).__name__})") from None


def check_concatenations(instances: Sequence[Dataset]) -> None:
    """Refuse a concatenation of which a part is missing (PS3.3 C.7.6.16.1.2); raises MISSING_SLICE."""
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for ds in instances:
        if uid := str(ds.get("ConcatenationUID") or ""):
            number, total = (_count(ds, f"InConcatenation{name}") for name in ("Number", "TotalNumber"))
            parts.setdefault(uid, set()).add(number)
            totals[uid] = max(totals.get(uid, 0), total)
    for uid, numbers in parts.items():
        wanted = max(totals[uid], *numbers)
        if numbers != set(range(1, wanted + 1)):
            message = f"{len(numbers)} of {wanted} parts of a concatenated image are here; send them all again"
            raise InputError(Refusal.MISSING_SLICE, message)


def _count(ds: Dataset, keyword: str) -> int:
    try:
        return int(ds.get(keyword) or 0)
    except _ODD_VALUES:
        raise _unreadable(f"{keyword} is not a number") from None


def is_multi_frame(ds: Dataset) -> bool:
    """Tell whether it is an instance of a multi-frame CT."""
    return str(ds.get("SOPClassUID") or "") in MULTI_FRAME_CT  # a damaged one may hold several values


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    return [item for item in ds.get(keyword) or () if isinstance(item, Dataset)]


def _base(ds: Dataset) -> Dataset:
    base = ds[:_PIXEL_DATA_GROUP]
    for keyword in (*_GROUPS, "NumberOfFrames"):
        base.pop(keyword, None)
    return base


def _frame(ds: Dataset, base: Dataset, groups: Sequence[Dataset], number: int, pixels: bytes) -> Dataset:
    frame = Dataset()
    frame.update(base)
    for keyword in _MACROS:
        for item in groups:
            for macro in (item.get(keyword) or ())[:1]:  # more than one item is not allowed; rules ask the first, too
                frame.update(macro)
    for keyword in _OF_THE_INSTANCE:
        frame.pop(keyword, None)
        if keyword in base:
            frame[keyword] = base[keyword]
    if "FrameType" in frame:
        frame.ImageType = frame.FrameType
    frame.ReferencedFrameNumber = number
    frame.add_new("PixelData", ds["PixelData"].VR, pixels)
    frame.file_meta = ds.file_meta
    return frame


def _pixels(ds: Dataset, count: int) -> Iterator[bytes]:
    """Give the pixel data of each frame, as that of a single-frame instance."""
    if "PixelData" not in ds or not ds.PixelData:
        raise InputError(Refusal.NO_PIXELS, "an instance has no pixel data; send the series again")
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        table = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths) if "ExtendedOffsetTable" in ds else None
        frames = generate_frames(ds.PixelData, number_of_frames=count, extended_offsets=table)
        yield from (encapsulate([frame], has_bot=False) for frame in frames)
        return
    size = int(ds.Rows) * int(ds.Columns) * int(ds.BitsAllocated) // 8
    found, expected = len(ds.PixelData), size * count
    if found not in (expected, expected + expected % 2):
        raise _unreadable(f"pixel data has {found} bytes, {count} frames take {expected}")
    data = memoryview(ds.PixelData)
    yield from (bytes(data[start : start + size]) for start in range(0, expected, size))


def _unreadable(found: str) -> InputError:
    return InputError(Refusal.UNREADABLE, f"a multi-frame instance cannot be read: {found}; export the series again")
