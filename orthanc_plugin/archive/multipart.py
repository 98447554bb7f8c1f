"""The parts of a multipart answer, one at a time, whole and within bounds.

dicomweb_client parses parts too, but takes an answer that breaks off for a complete one and parses each part without
looking at its size.

Source
------
RFC 2046 5.1.1; DICOM PS3.18 8.6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

_HEADER_END = b"\r\n\r\n"
_LARGEST_HEADER_BYTES = 1 << 16


class BrokenOff(Exception):
    """The answer ended before its closing delimiter."""


class TooLong(Exception):
    """A part, or all of them together, are longer than allowed."""


def boundary_of(content_type: str) -> bytes | None:
    """Read the boundary from a Content-Type; None where the answer is not multipart."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    return boundary.encode() if boundary and message.get_content_maintype() == "multipart" else None


def parts(chunks: Iterable[bytes], boundary: bytes, largest_bytes: int) -> Iterator[bytes]:
    """Yield the content of each part, without its header.

    Memory holds one part and one chunk.

    Raises
    ------
    BrokenOff
        The closing delimiter did not come.
    TooLong
        A part is longer than `largest_bytes`.
    ValueError
        A part has no header.
    """
    delimiter = b"\r\n--" + boundary
    held, searched, in_preamble = bytearray(b"\r\n"), 0, True  # the first delimiter may open the answer
    for chunk in chunks:
        held += chunk
        while (end := held.find(delimiter, searched)) >= 0 and len(held) >= end + len(delimiter) + 2:
            if not in_preamble:
                yield _content(held[:end])
            in_preamble = False
            del held[: end + len(delimiter)]
            searched = 0
            if held.startswith(b"--"):
                return
        searched = max(0, len(held) - len(delimiter) - 2)
        if len(held) > largest_bytes + _LARGEST_HEADER_BYTES:
            raise TooLong
    raise BrokenOff


def _content(part: bytearray) -> bytes:
    if part.startswith(b"\r\n\r\n"):  # a part without header fields
        return bytes(part[4:])
    end = part.find(_HEADER_END, 0, _LARGEST_HEADER_BYTES)
    if end < 0:
        raise ValueError("a part has no header")
    return bytes(part[end + len(_HEADER_END) :])
