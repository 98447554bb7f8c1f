"""Stored pixels of one slice to Hounsfield units.

Values that a CT cannot have (padding, the corners outside the scan field) become air at -1024 HU.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from orthanc_plugin.domain.hounsfield import HOUNSFIELD, rescale_unit
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.series.codestream import stated_size
from orthanc_plugin.series.decoders import decoder_of

Stored = NDArray[np.integer]

AIR_HU = -1024.0
TISSUE_HU = (-500.0, 3000.0)
"""Between these a declared padding value is not believed: real pixels have it (0 is declared where water is 0)."""

_GREY = ("MONOCHROME1", "MONOCHROME2")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_SEND = "send the CT reconstruction"
_SLOPES = (1e-3, 1000.0)
_DECODER_ERRORS = (
    RuntimeError, ValueError, AttributeError, LookupError, TypeError, EOFError, ArithmeticError, MemoryError,
    BytesLengthException, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rescale:
    """HU = stored * slope + intercept."""

    slope: float
    intercept: float


class _Panics:
    """Turn the panic of a decoder in Rust into a ValueError: its class is no Exception, and cannot be imported."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None and kind.__name__ == "PanicException":
            raise ValueError("the decoder panicked") from None


def decode(ds: Dataset) -> Stored:
    """Pixels of one single-frame instance as stored, before rescaling.

    Returns
    -------
    ndarray, shape (rows, columns), integer

    Raises
    ------
    InputError
        NO_PIXELS, UNREADABLE (missing syntax, broken stream, no decoder, more or fewer pixels than Rows x Columns),
        NOT_HU (not one plain grey channel).
    """
    if "PixelData" not in ds or not ds.PixelData:
        raise InputError(Refusal.NO_PIXELS, "an instance has no pixel data; send the series again")
    syntax = getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID")
    try:
        if ds.get("SamplesPerPixel") != 1 or ds.get("PhotometricInterpretation") not in _GREY:
            raise InputError(
                Refusal.NOT_HU, f"an instance is not a grey image (MONOCHROME2): it holds no CT values; {_SEND}"
            )
        _check_length(ds, uid.UID(str(syntax or "")))
        with _Panics():
            decoder, plugin = decoder_of(syntax)
            stored, _ = decoder.as_array(ds, decoding_plugin=plugin)
    except _DECODER_ERRORS as error:
        # What decoders raise depends on the library and the damage; their texts may quote header values.
        name = getattr(syntax, "name", "unknown transfer syntax")
        message = f"a slice cannot be decoded ({name}, {type(error).__name__}); send the series again uncompressed"
        raise InputError(Refusal.UNREADABLE, message) from None
    _check_bits(ds, uid.UID(str(syntax)))
    if stored.shape != (ds.Rows, ds.Columns) or not np.issubdtype(stored.dtype, np.integer):
        raise InputError(Refusal.UNREADABLE, "decoded pixels are not Rows x Columns integers; export the series again")
    return stored


def _check_length(ds: Dataset, syntax: uid.UID) -> None:
    """Compare the pixel data with Rows x Columns, before a decoder allocates anything or shifts rows.

    Source
    ------
    DICOM PS3.5 8.1.1: native pixel data of one frame has exactly that length, padded to an even number of bytes.
    """
    rows, columns = int(ds.Rows), int(ds.Columns)
    if syntax.is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
        if ds.BitsAllocated not in (8, 16) or not 1 <= ds.BitsStored <= ds.BitsAllocated:  # gdcm ends the process
            raise InputError(Refusal.UNREADABLE, "BitsAllocated or BitsStored fits no CT; export the series again")
        stated = stated_size(ds.PixelData)
        if stated not in (None, (rows, columns)):
            message = f"a compressed slice has {stated[0]} x {stated[1]} pixels" if stated else ""
            raise InputError(Refusal.UNREADABLE, f"{message}, its header says {rows} x {columns}; export it again")
        return
    if ds["PixelData"].is_undefined_length:
        message = (
            "the pixel data is compressed, but the file does not say how: its meta information is missing or wrong"
        )
        raise InputError(Refusal.UNREADABLE, f"{message}; send DICOM files with preamble (PS3.10 7.1), or uncompressed")
    found, expected = len(ds.PixelData), rows * columns * (int(ds.BitsAllocated) // 8)
    if found not in (expected, expected + expected % 2):
        message = f"pixel data has {found} bytes, {rows} x {columns} pixels take {expected}; export the series again"
        raise InputError(Refusal.UNREADABLE, message)


def _check_bits(ds: Dataset, syntax: uid.UID) -> None:
    """Refuse native pixels that use bits beyond BitsStored: a decoder cuts them off, and bone becomes air.

    Bits above BitsStored may repeat the sign, hold one padding value, or an old overlay (OverlayBitPosition).
    """
    if syntax.is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
        return
    if ds.BitsAllocated != 16 or ds.BitsStored >= 16 or any(ds.get((group, 0x0102)) for group in _OVERLAY_GROUPS):
        return
    words = np.frombuffer(ds.PixelData, ">u2" if syntax == uid.ExplicitVRBigEndian else "<u2")
    signed, half = ds.PixelRepresentation == 1, 1 << (ds.BitsStored - 1)
    if words.max(initial=0) < 2 * half:
        return
    if signed and -half <= (values := words.view(words.dtype.str.replace("u", "i"))).min() and values.max() < half:
        return
    above = words >> ds.BitsStored
    top = (words >> (ds.BitsStored - 1)) & 1 == 1
    extended, empty = above == 0xFFFF >> ds.BitsStored, above == 0
    odd = ~(extended | empty) | (extended & ~top) if signed else ~empty
    if signed and (extended & top).any():
        odd |= empty & top  # some carry their sign upward: all do, and this one is too large
    beyond = words[odd]
    if len(beyond) and np.ptp(beyond):
        message = f"pixels use more than the {ds.BitsStored} bits that BitsStored says; export the series again"
        raise InputError(Refusal.UNREADABLE, message)


def rescale_of(ds: Dataset) -> Rescale:
    """Slope and intercept to HU.

    Raises
    ------
    InputError
        NOT_HU: RescaleType says otherwise, or slope and intercept are missing, no numbers, zero or absurd.

    Source
    ------
    DICOM PS3.3 C.8.2.1 (CT Image): both are required; RescaleType is, if absent, HU.
    """
    if rescale_unit(str(ds.get("RescaleType") or HOUNSFIELD)) != HOUNSFIELD:
        raise InputError(Refusal.NOT_HU, f"RescaleType is not HU: the values are a map, a dose or the like; {_SEND}")
    try:
        rescale = Rescale(float(ds["RescaleSlope"].value), float(ds["RescaleIntercept"].value))
    except (KeyError, TypeError, ValueError):
        raise InputError(
            Refusal.NOT_HU, f"RescaleSlope or RescaleIntercept is missing or not a number; {_SEND}"
        ) from None
    if not (_SLOPES[0] <= rescale.slope <= _SLOPES[1] and abs(rescale.intercept) < 1e5):
        raise InputError(
            Refusal.NOT_HU, f"RescaleSlope or RescaleIntercept is zero, negative or beyond any CT; {_SEND}"
        )
    return rescale


def padding_of(ds: Dataset, rescale: Rescale) -> tuple[int, int] | None:
    """Find the stored values (lowest, highest) that mean "outside the image", or None where there are none to believe.

    Source
    ------
    DICOM PS3.3 C.7.5.1.1.2.
    """
    ends = [_stored_value(ds, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    known = [value for value in ends if value is not None]
    if ends[0] is None or any(TISSUE_HU[0] < _hu(value, rescale) < TISSUE_HU[1] for value in known):
        return None
    return min(known), max(known)


def sample_hu(stored: Stored, rescale: Rescale, padding: tuple[int, int] | None) -> Voxels:
    """Give the values of some pixels in HU as they are, padding left out; (n,) float32."""
    values = stored.reshape(-1)
    if padding is not None:
        values = values[(values < padding[0]) | (values > padding[1])]
    return np.asarray(values * np.float32(rescale.slope) + np.float32(rescale.intercept), np.float32)


def fill_hu(stored: Stored, rescale: Rescale, padding: tuple[int, int] | None, out: Voxels) -> bool:
    """Write one slice in HU into `out` (rows, columns), air instead of padding; True where anything was replaced."""
    np.multiply(stored, np.float32(rescale.slope), out=out, casting="same_kind")
    out += np.float32(rescale.intercept)
    replaced = bool(out.min(initial=AIR_HU) < AIR_HU)
    np.maximum(out, np.float32(AIR_HU), out=out)
    if padding is None:
        return replaced
    padded = (stored >= padding[0]) & (stored <= padding[1])
    np.copyto(out, np.float32(AIR_HU), where=padded)
    return replaced or bool(padded.any())


def _stored_value(ds: Dataset, keyword: str) -> int | None:
    """Read a value in the representation of the pixels: headers write -2000 as 63536 and the other way round."""
    try:
        raw = ds.get(keyword)
    except (ValueError, BytesLengthException):
        return None
    if isinstance(raw, bytes):
        raw = int.from_bytes(raw[:2], "little")
    if not isinstance(raw, int):
        return None
    unsigned = raw & 0xFFFF
    return unsigned - 0x10000 if ds.get("PixelRepresentation") == 1 and unsigned >= 0x8000 else unsigned


def _hu(stored: int, rescale: Rescale) -> float:
    return stored * rescale.slope + rescale.intercept
