"""Faults of CT values, injected into a volume in HU, and the series to inject them into.

The limits of `series/plausibility.py` were chosen with the faults of FITTED in sight. Those of HELD_OUT were written
afterwards, of other kinds and amounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.phantoms.thorax import make_thorax_phantom
from tests.support.phantoms.body import make_body_phantom

Values = NDArray[np.float32]

SERIES = (
    "cip_ct64/dicom", "lidc_0314_chest/dicom", "ts_example_ct/example_ct_dicom", "gantry_tilt/philips_tilt",
    "gantry_tilt/ge_irregular_tilt", "enhanced_4d_ct/dicom_enhanced",
)  # fmt: skip


def stored_values(folder: Path, step: int = 4) -> list[Values]:
    """Every slice of a series in HU as stored, one pixel in `step` along rows and columns."""
    files = sorted(file for file in folder.iterdir() if file.name != "DIRFILE" and file.suffix not in (".md", ".txt"))
    slices = [ds for ds in map(dcmread, files) if "NumberOfFrames" not in ds]
    return [
        (ds.pixel_array[::step, ::step].ravel() * float(ds.RescaleSlope) + float(ds.RescaleIntercept)).astype("f4")
        for ds in slices
    ]


def planning_ct(folder: Path) -> Iterator[tuple[str, Values]]:
    """Every patient of open_kbp in HU, (z, y, x), air outside the body."""
    for file in sorted(folder.rglob("*.npz")):
        with np.load(file) as patient:
            yield file.stem, np.clip(patient["v"], 0, 4095).astype(np.float32) - 1024


def phantoms() -> dict[str, Values]:
    """Made volumes in HU, (z, y, x)."""
    return {
        "chest phantom": make_phantom((56, 64, 64), (3, 3.2, 3.2)).volume.voxels_hu,
        "thorax phantom": make_thorax_phantom((40, 96, 96)).volume.voxels_hu,
        "body phantom": make_body_phantom(1, spacing_mm=(15, 7, 7)).phantom.volume.voxels_hu,
    }


def _stored(hu: Values) -> NDArray[np.int64]:
    return np.rint(hu + 1024).astype(np.int64)


def _signed(values: NDArray[np.int64], bits: int) -> Values:
    top = 1 << (bits - 1)
    return (((values + top) & (2 * top - 1)) - top).astype(np.float32)


def _window(hu: Values, centre: float, width: float) -> Values:
    return np.rint(np.clip((hu - centre + width / 2) / width * 255, 0, 255)).astype(np.float32)


def _mr(hu: Values) -> Values:
    """Air dark with noise, fat bright, soft tissue grey, bone dark: T1-like, 0 to about 900."""
    noise = np.random.default_rng(3).rayleigh(8, hu.shape)
    signal = np.interp(hu, [-1000, -700, -150, -80, 0, 60, 300, 1500], [0, 10, 700, 800, 250, 400, 150, 20])
    return np.rint(signal + noise).astype(np.float32)


def _pet(hu: Values) -> Values:
    """Counts: nothing in air, little in lung, some in tissue, a few hot spots."""
    rng = np.random.default_rng(4)
    return np.rint(np.interp(hu, [-900, -500, 0, 100], [0, 300, 900, 1200]) * rng.gamma(4, 0.25, hu.shape)).astype("f4")


def _padded(hu: Values) -> Values:
    out = hu.copy()
    out[: len(out) // 8] = -2000
    return out


Fault = Callable[[Values], Values]

FITTED: dict[str, Fault] = {
    "intercept lost": lambda v: np.clip(v + 1024, 0, 4095),
    "8 bits, window -600/1500": lambda v: _window(v, -600, 1500),
    "slope 1000": lambda v: v * 1000,
    "slope 10": lambda v: v * 10,
    "unsigned": lambda v: np.where(v < 0, v + 65536, v),
    "inverted": lambda v: 3071 - v,
    "intercept applied twice": lambda v: v - 1024,
    "offset +500 HU": lambda v: v + 500,
    "offset -500 HU": lambda v: v - 500,
}

HELD_OUT: dict[str, Fault] = {
    "slope 0.5, intercept 0": lambda v: v * 0.5,
    "slope 0.5, intercept -1024": lambda v: (v + 1024) * 0.5 - 1024,
    "slope 2, intercept 0": lambda v: v * 2,
    "slope 2, intercept -1024": lambda v: (v + 1024) * 2 - 1024,
    "bone wraps at 12 bits, signed": lambda v: _signed(np.rint(v).astype(np.int64), 12),
    "bone wraps at 11 bits, signed": lambda v: _signed(np.rint(v).astype(np.int64), 11),
    "bone wraps at 11 bits, unsigned": lambda v: ((_stored(v) & 2047) - 1024).astype(np.float32),
    "12 bits unsigned read as signed": lambda v: _signed(_stored(v), 12) - 1024,
    "16 bits, air wraps": lambda v: np.where(v < -950, v + 65536, v),
    "byte-swapped": lambda v: _stored(v).astype(np.int16).byteswap().astype(np.float32) - 1024,
    "offset +150 HU": lambda v: v + 150,
    "offset -150 HU": lambda v: v - 150,
    "offset +400 HU": lambda v: v + 400,
    "offset -400 HU": lambda v: v - 400,
    "8 bits, window 40/400": lambda v: _window(v, 40, 400),
    "8 bits, window 40/80": lambda v: _window(v, 40, 80),
    "8 bits, window 300/1500, intercept -1024": lambda v: _window(v, 300, 1500) - 1024,
    "burnt window 40/400 in HU": lambda v: np.clip(v, -160, 240),
    "burnt window -600/1500 in HU": lambda v: np.clip(v, -1350, 150),
    "inverted about 0": lambda v: -v,
    "MONOCHROME1: 4095 - stored": lambda v: 4095 - _stored(v) - np.float32(1024),
    "HU + 1000, clipped at 0": lambda v: np.clip(v + 1000, 0, None),
    "HU clipped at 0": lambda v: np.clip(v, 0, None),
    "MR values": _mr,
    "PET values": _pet,
    "absolute value": np.abs,
}

HARMLESS: dict[str, Fault] = {
    "padding of -2000 without PixelPaddingValue": _padded,
    "surroundings painted at 0 HU": lambda v: np.where(v <= -1000, 0, v).astype(np.float32),
    "air clipped at -1000": lambda v: np.clip(v, -1000, None),
    "bone clipped at 1000": lambda v: np.clip(v, None, 1000),
    "metal of 8000 HU": lambda v: np.where(v > np.quantile(v, 0.9995), 8000, v).astype(np.float32),
    "offset +20 HU": lambda v: v + 20,
}
