"""Choose which kind of SEG a series gets.

Every reader takes BINARY, and reports can reference its segments without complaints from validators. It is chosen if
rows fill whole bytes and the object stays small beside its source. Everything else becomes a LABELMAP with RLE: every
reader that we tried decodes it, and it stays far below a tenth of its source for any number of structures.
"""

from __future__ import annotations

from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.errors import EncodingError


def describe(settings: SegSettings) -> str:
    """Describe as text what decides the stored pixels beside source and model; it enters the SEG's UID."""
    ceiling = f"; ceiling={settings.ceiling:g}" if settings.encoding is SegEncoding.AUTO else ""
    body = "; rest of the body" if settings.body else ""
    return f"encoding={settings.encoding}{ceiling}; no overlaps; empty frames omitted{body}"


def is_binary(columns: int) -> bool:
    """Tell whether images of that width may be BINARY.

    Two readers pack bits in their own way. Orthanc's frame routes need whole bytes per row (Columns % 8 = 0), OHIF
    needs whole bytes per frame (Rows * Columns % 8 = 0). The first implies the second.
    """
    return columns % 8 == 0


def choose(settings: SegSettings, frames: int, shape: tuple[int, ...], source_bits: int) -> SegEncoding:
    """Choose the encoding of one series; the result is never AUTO.

    Parameters
    ----------
    settings : SegSettings
        AUTO means BINARY if rows fill whole bytes and its pixels stay within the ceiling, otherwise LABELMAP_RLE.
    frames : int
        Frames a BINARY SEG would have.
    shape : (z, y, x)
        Of the volume.
    source_bits : int
        BitsAllocated of the source; its pixels count uncompressed.

    Raises
    ------
    EncodingError
        If the settings ask for BINARY and viewers would scramble it.
    """
    slices, _, columns = shape
    if settings.encoding is SegEncoding.BINARY and not is_binary(columns):
        raise EncodingError(
            f"viewers scramble a BINARY SEG with {columns} columns: set the encoding to auto or labelmap"
        )
    if settings.encoding is not SegEncoding.AUTO:
        return settings.encoding
    fits = frames <= settings.ceiling * slices * source_bits  # rows * columns stand on both sides
    return SegEncoding.BINARY if is_binary(columns) and fits else SegEncoding.LABELMAP_RLE
