"""Which kind of SEG a series gets.

BINARY is what every reader takes and reports can reference without a validator's complaint, so it is the choice where
rows fill whole bytes and the object stays small beside its source. Everything else becomes a LABELMAP with RLE, which
every reader tried decodes and which stays far below a tenth of its source whatever the number of structures.
"""

from __future__ import annotations

from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.errors import EncodingError


def describe(settings: SegSettings) -> str:
    """What decides the stored pixels beside source and model, as text; enters the SEG's UID."""
    ceiling = f"; ceiling={settings.ceiling:g}" if settings.encoding is SegEncoding.AUTO else ""
    return f"encoding={settings.encoding}{ceiling}; no overlaps; empty frames omitted"


def is_binary(columns: int) -> bool:
    """Whether images of that width may be BINARY.

    Two readers pack bits their own way: Orthanc's frame routes want whole bytes a row (Columns % 8 = 0), OHIF whole
    bytes a frame (Rows * Columns % 8 = 0). The first implies the second.
    """
    return columns % 8 == 0


def choose(settings: SegSettings, frames: int, shape: tuple[int, ...], source_bits: int) -> SegEncoding:
    """The encoding of one series, never AUTO.

    Parameters
    ----------
    settings : SegSettings
        With AUTO, BINARY where rows fill whole bytes and its pixels stay at or below the ceiling; else LABELMAP_RLE.
    frames : int
        Frames a BINARY SEG would have.
    shape : (z, y, x)
        Of the volume.
    source_bits : int
        BitsAllocated of the source; its pixels count uncompressed.

    Raises
    ------
    EncodingError
        If BINARY is asked for where viewers would scramble it.
    """
    slices, _, columns = shape
    if settings.encoding is SegEncoding.BINARY and not is_binary(columns):
        raise EncodingError(f"viewers scramble a BINARY SEG of {columns} columns: set the encoding to auto or labelmap")
    if settings.encoding is not SegEncoding.AUTO:
        return settings.encoding
    fits = frames <= settings.ceiling * slices * source_bits  # rows * columns stand on both sides
    return SegEncoding.BINARY if is_binary(columns) and fits else SegEncoding.LABELMAP_RLE
