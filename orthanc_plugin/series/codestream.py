"""The size that a compressed frame tells of itself, read from its own header without decoding.

A decoder allocates what the stream says, so the stream is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.encaps import generate_fragments

_J2K_SIZE = b"\xff\x4f\xff\x51"
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Start of frame of JPEG and JPEG-LS; the three left out are tables. Source: ITU-T T.81 table B.1, T.87 C.1.1."""

_MARKER_BYTES_SEARCHED = 1 << 20


def stated_size(encapsulated: bytes) -> tuple[int, int] | None:
    """Give rows and columns that the first frame of encapsulated pixel data states; None where it states none (RLE).

    Raises
    ------
    ValueError
        The data holds no fragments.
    """
    head = _first_bytes(encapsulated)
    if head.startswith(_J2K_SIZE):
        return _j2k_size(head)
    return _jpeg_size(head) if head.startswith(b"\xff\xd8") else None


def _first_bytes(encapsulated: bytes) -> bytes:
    try:
        fragments: Iterator[bytes] = generate_fragments(encapsulated)
        next(fragments)  # the offset table
        return next(fragments)[:_MARKER_BYTES_SEARCHED]
    except (StopIteration, EOFError):
        raise ValueError("no frame in the compressed pixel data") from None


def _j2k_size(head: bytes) -> tuple[int, int] | None:
    """From the SIZ marker: the image area of the reference grid (ITU-T T.800 A.5.1)."""
    if len(head) < 24:
        return None
    width, height, left, top = (int.from_bytes(head[at : at + 4]) for at in (8, 12, 16, 20))
    return height - top, width - left


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        if head[at + 1] == 0xFF:  # fill byte
            at += 1
        elif head[at + 1] in _FRAME_MARKERS:
            return int.from_bytes(head[at + 5 : at + 7]), int.from_bytes(head[at + 7 : at + 9])
        else:
            at += 2 + int.from_bytes(head[at + 2 : at + 4])
    return None
