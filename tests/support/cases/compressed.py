"""Slices compressed in every lossless syntax that a CT may come in, by encoders of imagecodecs."""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

Plane = NDArray[np.integer]


def _jpeg(plane: Plane) -> bytes:
    return imagecodecs.jpeg8_encode(plane.view(np.uint16), lossless=True, predictor=1, bitspersample=16)


def _jpeg_ls(plane: Plane) -> bytes:
    return imagecodecs.jpegls_encode(plane.view(np.uint16))


def _jpeg_2000(plane: Plane) -> bytes:
    return imagecodecs.jpeg2k_encode(plane, codecformat="j2k", reversible=True, level=0)


_ENCODERS: dict[str, Callable[[Plane], bytes]] = {
    JPEGLossless: _jpeg,
    JPEGLosslessSV1: _jpeg,
    JPEGLSLossless: _jpeg_ls,
    JPEG2000Lossless: _jpeg_2000,
    HTJ2KLossless: imagecodecs.htj2k_encode,
    HTJ2KLosslessRPCL: imagecodecs.htj2k_encode,
    HTJ2K: imagecodecs.htj2k_encode,
}

LOSSLESS = (*_ENCODERS, RLELossless)


def compressed(ds: Dataset, syntax: str, plane: Plane | None = None) -> Dataset:
    """Compress the pixels of a native dataset in place, or other ones of the same size; without loss."""
    if syntax == RLELossless:
        ds.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        return ds
    native = np.frombuffer(ds.PixelData, "<i2" if ds.PixelRepresentation else "<u2").reshape(ds.Rows, ds.Columns)
    encoder = _ENCODERS.get(syntax, _jpeg_2000)
    ds.PixelData = encapsulate([encoder(native if plane is None else plane)])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds
