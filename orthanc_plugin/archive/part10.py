"""DICOM instances from a disk or an archive, read with bounds.

No damage ends a command, and no lie about a length takes the memory.

pydicom reads what stands in a file. This module looks first: whether it is DICOM at all (with or without preamble),
whether its deflated part stays within bounds, and whether the elements asked for are whole.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

LARGEST_FILE_BYTES = 2**31
LARGEST_SERIES_BYTES = 2**32
"""Of one retrieval; the largest series that is read takes half of that uncompressed (`series/limits.py`)."""

LARGEST_INFLATED_BYTES = 2**28
"""A CT slice of 4096 x 4096 pixels takes 2**25 bytes."""

MOST_INFLATED_ELEMENTS = 50_000
"""No header has so many at its top level. Zeros unfold to millions, and each costs microseconds."""

BROKEN = (
    InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, LookupError, AttributeError,
    NotImplementedError, ArithmeticError, RecursionError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom and zlib raise for damaged content; the kind depends on where the damage lies."""

DAMAGE = (*BROKEN, MemoryError, OSError)

_PIXEL_DATA, _LAST_TAG, _UNDEFINED_LENGTH = 0x7FE00010, 0xFFFFFFFF, 0xFFFFFFFF
_PIXEL_TAGS = tuple(struct.pack(f"{order}HH", 0x7FE0, element) for order in "<>" for element in (8, 9, 0x10))
_PREAMBLE_BYTES, _PREFIX = 128, b"DICM"
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_CHUNK_BYTES = 1 << 16
_HEADER_BYTES = 1 << 16
"""Hold the header of almost every CT instance, also one with an overlay of 512 x 512 pixels."""


class Damaged(Exception):
    """A file that is DICOM, or was, and cannot be read. `seen` holds what could be read of it."""

    def __init__(self, seen: Dataset | None = None) -> None:
        super().__init__("the file cannot be read")
        self.seen = Dataset() if seen is None else seen


class NotDicom(Exception):
    """A file that is not a DICOM instance: another format, or a DICOMDIR."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The bytes of a file. is_cut_off: whether it goes on behind them."""

    content: bytes
    has_prefix: bool
    meta: FileMetaDataset
    is_cut_off: bool = False


def parse_instance(content: bytes) -> Dataset:
    """Read one instance that came over the network.

    Raises
    ------
    NotDicom, Damaged
        As `read_instance`.
    """
    return _read(_opened(content), [], stop_before_pixels=False)


def read_instance(file: Path, *, tags: Sequence[str] = (), stop_before_pixels: bool = False) -> Dataset:
    """Read one file.

    Parameters
    ----------
    file : Path
    tags : sequence of str
        Keywords to read; none reads all.
    stop_before_pixels : bool
        Leave pixel data in the file. Mostly, only the first bytes are read: a network share delivers pixels slowly.

    Raises
    ------
    NotDicom
        The file is something else.
    Damaged
        It is DICOM, but it, or one of `tags`, cannot be read whole.
    """
    if stop_before_pixels:
        with suppress(Damaged):  # or the header is longer
            return _read(_open(file, _HEADER_BYTES), list(tags), stop_before_pixels)
    return _read(_open(file), list(tags), stop_before_pixels)


def _read(opened: _Opened, tags: list[str], stop_before_pixels: bool) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # texts may quote values; the loader judges these
            ds = _parse(opened, tags, stop_before_pixels)
            for keyword in ("MediaStorageSOPClassUID", "TransferSyntaxUID"):
                ds.file_meta.get(keyword)  # parsed only now
            for tag in tags:
                ds.get(tag)
            last = [] if tags or not ds else [max(ds.keys())]
            is_cut = any(_is_cut(ds, tag) for tag in tags or last)
    except DAMAGE:
        raise Damaged(_seen(opened)) from None
    if is_cut:
        raise Damaged(_seen(opened))
    return ds


def _open(file: Path, most: int = -1) -> _Opened:
    """Read a file, or its first `most` bytes."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_PREAMBLE_BYTES + len(_PREFIX))
            _has_prefix(head)
            size = os.fstat(stream.fileno()).st_size
            if size > LARGEST_FILE_BYTES:
                raise Damaged
            content = head + stream.read(-1 if most < 0 else most - len(head))
    except OSError:
        raise Damaged from None
    return _opened(content, is_cut_off=0 <= most < size)


def _opened(content: bytes, *, is_cut_off: bool = False) -> _Opened:
    has_prefix = _has_prefix(content)
    return _Opened(content, has_prefix, _meta(content) if has_prefix else FileMetaDataset(), is_cut_off)


def _has_prefix(content: bytes) -> bool:
    """Tell whether bytes begin as a DICOM file with preamble; raise NotDicom if not even as one without."""
    if content[_PREAMBLE_BYTES : _PREAMBLE_BYTES + len(_PREFIX)] == _PREFIX:
        return True
    if content[:2] not in _FIRST_GROUPS:
        raise NotDicom
    return False


def _meta(content: bytes) -> FileMetaDataset:
    """Read the file meta information only: pydicom's own functions inflate what follows."""
    stream = BytesIO(content)
    stream.seek(_PREAMBLE_BYTES + len(_PREFIX))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != 2))
            meta.get("TransferSyntaxUID")  # pydicom parses it only now, and may not know what the damage made of it
            return meta
    except DAMAGE:
        return FileMetaDataset()


def _parse(opened: _Opened, tags: list[str], stop_before_pixels: bool) -> Dataset:
    if opened.meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflated, whole = _inflated(opened.content[_meta_end(opened) :])
        if not whole:
            raise ValueError("the deflated part is damaged or too large")
        return _inflated_dataset(opened, inflated, tags, stop_before_pixels)
    stream = BytesIO(opened.content)
    ds = dcmread(
        stream,
        force=not opened.has_prefix,
        specific_tags=list(tags) or None,
        stop_before_pixels=stop_before_pixels,
    )
    if opened.is_cut_off and stream.read(len(_PIXEL_TAGS[0])) not in _PIXEL_TAGS:
        raise ValueError("the header goes on behind the bytes that were read")
    if not opened.has_prefix:
        _name_syntax(ds)
    return ds


def _name_syntax(ds: FileDataset) -> None:
    """Give a file without preamble the transfer syntax that its bytes show, so that its pixels can be decoded."""
    if "SOPClassUID" not in ds and "SOPInstanceUID" not in ds and "SeriesInstanceUID" not in ds:
        raise ValueError("no DICOM instance")
    if not ds.file_meta.get("TransferSyntaxUID"):
        implicit, little = ds.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _meta_end(opened: _Opened) -> int:
    """Where the file meta information ends: its first element says its length (PS3.10 7.1)."""
    return _PREAMBLE_BYTES + 4 + 12 + int(opened.meta.FileMetaInformationGroupLength)


def _inflated(deflated: bytes) -> tuple[bytes, bool]:
    """Inflate as far as possible within bounds; also tell whether that is the whole."""
    inflater, out = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    for start in range(0, len(deflated), _CHUNK_BYTES):
        chunk = deflated[start : start + _CHUNK_BYTES]
        while chunk:
            try:
                out += inflater.decompress(chunk, _CHUNK_BYTES * 16)
            except zlib.error:
                return bytes(out), False
            if len(out) > LARGEST_INFLATED_BYTES:
                return bytes(out[:_CHUNK_BYTES]), False
            chunk = inflater.unconsumed_tail
    return bytes(out), inflater.eof


def _inflated_dataset(opened: _Opened, inflated: bytes, tags: list[str], stop_before_pixels: bool) -> FileDataset:
    last = _PIXEL_DATA - 1 if stop_before_pixels else _LAST_TAG
    ds = read_dataset(
        BytesIO(inflated),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=_behind(last),
        specific_tags=[Tag(keyword) for keyword in tags] or None,
    )
    return FileDataset(
        "", ds, opened.content[:_PREAMBLE_BYTES], opened.meta, is_implicit_VR=False, is_little_endian=True
    )


def _is_cut(ds: Dataset, tag: str | BaseTag) -> bool:
    """Tell whether the file ends within this element; pydicom keeps what there is of the value."""
    element: object = ds.get_item(tag)
    if isinstance(element, RawDataElement) and element.length == _UNDEFINED_LENGTH:
        return False
    return isinstance(element, RawDataElement) and len(element.value or b"") != element.length


def _seen(opened: _Opened) -> Dataset:
    """Read what tells to which series a damaged file belongs, as far as it goes."""
    seen = Dataset()
    seen.file_meta = opened.meta
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _head(opened)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
                if keyword in found and not _is_cut(found, keyword):
                    setattr(seen, keyword, str(found[keyword].value))
    except DAMAGE:
        pass  # then the neighbours of the file have to tell
    return seen


def _head(opened: _Opened) -> Dataset:
    """Read up to SeriesInstanceUID and no further: damage mostly lies behind it."""
    deflated = opened.meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if deflated:
        inflated, _ = _inflated(opened.content[_meta_end(opened) :])
        stream, implicit, little = BytesIO(inflated), False, True
    else:
        stream = BytesIO(opened.content)
        stream.seek(_meta_end(opened) if opened.has_prefix else 0)
        implicit = opened.meta.get("TransferSyntaxUID") == ImplicitVRLittleEndian
        little = opened.meta.get("TransferSyntaxUID") != ExplicitVRBigEndian
    return read_dataset(stream, implicit, little, stop_when=_behind(0x0020000E))


def _behind(last: int) -> Callable[[BaseTag, str | None, int], bool]:
    """Stop behind this tag; raise ValueError if too many elements come before it."""
    elements = count()

    def stop(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        if next(elements) > MOST_INFLATED_ELEMENTS:
            raise ValueError("more elements than an instance has")
        return bool(tag > last)

    return stop
