"""The decoder of each transfer syntax, named once, so that speed and result do not depend on what else is installed.

All are those of imagecodecs, which let other threads run meanwhile (docs/figures.md has the figures, decision 0020 the
reasons). The functions of this module are a plugin of pydicom's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder

from orthanc_plugin.series.htj2k import htj2k_decode

_OURS = "imagecodecs"

_JPEG_SPECTRAL_12 = uid.UID("1.2.840.10008.1.2.4.53")
_JPEG_PROGRESSIVE_12 = uid.UID("1.2.840.10008.1.2.4.55")
"""Retired, and unknown to pydicom's decoders; archives still hold them."""

_CODECS: dict[str, Callable[[bytes], NDArray[np.integer]]] = {
    uid.JPEGBaseline8Bit: imagecodecs.jpeg8_decode,
    uid.JPEGExtended12Bit: imagecodecs.jpeg8_decode,
    _JPEG_SPECTRAL_12: imagecodecs.jpeg8_decode,
    _JPEG_PROGRESSIVE_12: imagecodecs.jpeg8_decode,
    uid.JPEGLossless: imagecodecs.jpeg8_decode,
    uid.JPEGLosslessSV1: imagecodecs.jpeg8_decode,
    uid.JPEGLSLossless: imagecodecs.jpegls_decode,
    uid.JPEGLSNearLossless: imagecodecs.jpegls_decode,
    uid.JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    uid.JPEG2000: imagecodecs.jpeg2k_decode,
    uid.HTJ2KLossless: htj2k_decode,
    uid.HTJ2KLosslessRPCL: htj2k_decode,
    uid.HTJ2K: htj2k_decode,
}

MAY_LOSE = frozenset(
    {
        uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, _JPEG_SPECTRAL_12, _JPEG_PROGRESSIVE_12, uid.JPEGLSNearLossless,
        uid.JPEG2000, uid.HTJ2K,
    }
)  # fmt: skip
"""Transfer syntaxes that allow loss (PS3.5 10)."""

_FILL_UP = frozenset(syntax for syntax, codec in _CODECS.items() if codec in (imagecodecs.jpeg8_decode, htj2k_decode))
_END = b"\xff\xd9"
"""Ends a JPEG and a JPEG 2000 stream, and stands nowhere in coded pixels (ITU-T T.81 B.1.1.2, T.800 A.1.3)."""

_TRAILER_BYTES = 64

_SYNTAXES = frozenset({*_CODECS, uid.RLELossless})

DECODER_DEPENDENCIES = {uid.UID(syntax): (_OURS,) for syntax in _SYNTAXES}


def is_available(syntax: str) -> bool:
    """Tell pydicom that the plugin decodes this transfer syntax."""
    return syntax in _SYNTAXES


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame for pydicom, which corrects signs and checks the size.

    Raises
    ------
    ValueError
        The stream was cut, and its decoder would fill up the missing rows without a word.
    """
    if runner.transfer_syntax in _FILL_UP and _END not in frame.rstrip(b"\0")[-_TRAILER_BYTES:]:
        raise ValueError("the compressed frame does not end")
    if runner.transfer_syntax == uid.RLELossless:
        return bytearray(imagecodecs.dicomrle_decode(frame, f"<u{runner.bits_allocated // 8}"))
    pixels = _CODECS[runner.transfer_syntax](frame)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)  # small pixels come in a byte each
    return bytearray(pixels.tobytes())


@cache
def _decoder(syntax: uid.UID) -> Decoder:
    decoder = Decoder(syntax)
    decoder.add_plugin(_OURS, (__name__, decode_frame.__name__))
    return decoder


def decoder_of(syntax: str) -> tuple[Decoder, str]:
    """Give the decoder of a transfer syntax, and the plugin to name to it; empty for what pydicom reads itself.

    Raises
    ------
    NotImplementedError
        Nobody decodes it.
    """
    if syntax in _SYNTAXES:
        return _decoder(uid.UID(syntax)), _OURS
    return get_decoder(syntax), ""
