"""Small CT series with one fault or oddity each, made of a real chest of 79 slices.

Each entry stands for a kind that archives hold. It says what is right: a reason to refuse, or the words of the note.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from orthanc_plugin.errors import Refusal
from tests.support.cases.realct import real_ct

Series = list[FileDataset]
Change = Callable[[Series], None]


@dataclass(frozen=True)
class Odd:
    """One case: how the series is changed, and what is right (`reason` None: it is read, with `note` in the notes)."""

    change: Change
    reason: Refusal | None = None
    note: str = ""


@cache
def _chest() -> tuple[bytes, ...]:
    return tuple(file.read_bytes() for file in sorted(real_ct("cip_ct64/dicom").iterdir()))


def chest() -> Series:
    """Give the real chest, from the feet up, uncompressed."""
    series = [dcmread(io.BytesIO(file)) for file in _chest()]
    for ds in series:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return sorted(series, key=lambda ds: float(ds.ImagePositionPatient[2]))


def odd_series(name: str) -> Series:
    """Give the chest with the fault of that name."""
    series = chest()
    ODD[name].change(series)
    return series


def hu(ds: FileDataset) -> NDArray[np.float64]:
    """Give the values of one slice."""
    return np.asarray(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept))


def store(ds: FileDataset, values: NDArray[np.float64], *, bits: int = 16, signed: bool = True) -> None:
    """Put values into a slice as stored integers with slope 1 and intercept 0."""
    dtype = "u1" if bits <= 8 else "<i2" if signed else "<u2"
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated = 8 if bits <= 8 else 16
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
    ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
    ds.PixelData = np.rint(values).astype(dtype).tobytes()
    ds["PixelData"].VR = "OB" if bits <= 8 else "OW"


def restored(formula: Callable[[NDArray[np.float64]], NDArray[np.float64]], **how: int) -> Change:
    """Store a function of the HU of every slice as if it were HU."""

    def change(series: Series) -> None:
        for ds in series:
            store(ds, formula(hu(ds)), **how)  # type: ignore[arg-type]

    return change


def restored_as(formula: Callable[[NDArray[np.float64]], NDArray[np.float64]], **tags: object) -> Change:
    """Store a function of the HU of every slice, unsigned, and set attributes."""
    return both(restored(formula, signed=0), tagged(**tags))


def both(first: Change, second: Change) -> Change:
    """Make two changes, one after the other."""

    def change(series: Series) -> None:
        first(series)
        second(series)

    return change


def narrower(columns: int) -> Change:
    """Cut so many columns off."""

    def change(series: Series) -> None:
        for ds in series:
            store(ds, hu(ds)[:, columns:])

    return change


def swapped(series: Series) -> None:
    """Let Rows and Columns change places."""
    for ds in series:
        ds.Rows, ds.Columns = ds.Columns, ds.Rows


def copied(number: int) -> Change:
    """Add a copy of a slice under a UID of its own."""

    def change(series: Series) -> None:
        ds = deepcopy(series[number])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.4711"
        series.append(ds)

    return change


def tagged(some: slice = slice(None), **values: object) -> Change:
    """Set attributes of some slices."""

    def change(series: Series) -> None:
        for ds in series[some]:
            for keyword, value in values.items():
                setattr(ds, keyword, value)

    return change


def without(keyword: str) -> Change:
    """Remove an attribute from every slice."""

    def change(series: Series) -> None:
        for ds in series:
            delattr(ds, keyword)

    return change


def placed(position: Callable[[int, float, float, float], tuple[float, float, float]], thickness: float = 4) -> Change:
    """Move every slice: a function of its number and its position."""

    def change(series: Series) -> None:
        for number, ds in enumerate(series):
            ds.ImagePositionPatient = list(position(number, *(float(value) for value in ds.ImagePositionPatient)))
            ds.SliceThickness = thickness

    return change


def scouts(count: int, *, told: bool, rows: int = 64) -> Change:
    """Add localizers that stand across the slices, `told` by ImageType or not."""

    def change(series: Series) -> None:
        for number in range(count):
            ds = deepcopy(series[10])
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number}"
            ds.ImageOrientationPatient, ds.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [10 * number, -130, 150]
            ds.ImageType = ["ORIGINAL", "PRIMARY", "SCOUT" if told else "AXIAL"]
            store(ds, hu(ds)[:rows])
            series.insert(0, ds)

    return change


def turned(degrees: float) -> Change:
    """Turn the rows within the axial plane."""
    cosine, sine = (round(float(f(np.radians(degrees))), 6) for f in (np.cos, np.sin))
    return tagged(ImageOrientationPatient=[cosine, sine, 0, -sine, cosine, 0])


def twice(*numbers: int) -> Change:
    """Add copies of some slices, byte for byte."""

    def change(series: Series) -> None:
        series += [deepcopy(series[number]) for number in numbers]

    return change


def bordered(series: Series) -> None:
    """Paint a border at 0 HU, as de-identification does over burnt-in text."""
    for ds in series:
        values = hu(ds)
        values[:8] = values[-3:] = 0
        store(ds, values)


def with_metal(series: Series) -> None:
    """Put a bright implant with streaks into the chest."""
    for ds in series[20:40]:
        values = hu(ds)
        values[30:33, 30:33], values[29, 20:50] = 28_000, -1024
        store(ds, values)


def longer(count: int) -> Change:
    """Add bytes to the pixel data of one slice."""

    def change(series: Series) -> None:
        series[7].PixelData += bytes(count)

    return change


BAD_HU, UNREADABLE, BAD_ID = Refusal.IMPLAUSIBLE_HU, Refusal.UNREADABLE, Refusal.INVALID_IDENTITY
ODD: dict[str, Odd] = {
    # the values are not HU
    "intercept lost": Odd(restored(lambda v: np.clip(v + 1024, 0, 4095), bits=12, signed=0), BAD_HU),
    "intercept lost, 16 bits": Odd(restored(lambda v: v + 1024), BAD_HU),
    "intercept of half": Odd(tagged(RescaleIntercept="512"), BAD_HU),
    "intercept twice": Odd(tagged(RescaleIntercept="-1024"), BAD_HU),
    "intercept lost in some slices": Odd(tagged(slice(30, 33), RescaleIntercept="1024"), BAD_HU),
    "lung window in 8 bits": Odd(
        restored(lambda v: np.clip((v + 1350) / 1500 * 255, 0, 255), bits=8, signed=0), BAD_HU
    ),
    "lung window in signed 8 bits": Odd(restored(lambda v: np.clip((v + 1350) / 1500 * 255, 0, 255), bits=8), BAD_HU),
    "soft window in 8 bits": Odd(restored(lambda v: np.clip((v + 160) / 400 * 255, 0, 255), bits=8, signed=0), BAD_HU),
    "bone window in 12 bits": Odd(restored(lambda v: np.clip((v + 500) * 2, 0, 4095), bits=12, signed=0), BAD_HU),
    "inverted": Odd(restored(lambda v: 3000 - v), BAD_HU),
    "one bit": Odd(restored(lambda v: v > -300), BAD_HU),
    "slope 1000": Odd(tagged(RescaleSlope="1000"), BAD_HU),
    "slope 10": Odd(tagged(RescaleSlope="10"), BAD_HU),
    "slope 2": Odd(tagged(RescaleSlope="2"), BAD_HU),
    "slope 0.1": Odd(tagged(RescaleSlope="0.1"), BAD_HU),
    "slope 0.5": Odd(tagged(RescaleSlope="0.5"), BAD_HU),
    "slope 0.7": Odd(tagged(RescaleSlope="0.7"), BAD_HU),
    "slope 1e-300": Odd(tagged(RescaleSlope="1e-300"), Refusal.NOT_HU),
    "signed read as unsigned": Odd(tagged(PixelRepresentation=0), BAD_HU),
    "one value": Odd(restored(lambda v: v * 0), BAD_HU),
    "BitsStored 10": Odd(tagged(BitsStored=10, HighBit=9), UNREADABLE),
    "100 HU high": Odd(tagged(RescaleIntercept="100"), note="about +1"),
    "150 HU high": Odd(tagged(RescaleIntercept="150"), note="about +1"),
    "200 HU low": Odd(tagged(RescaleIntercept="-200"), note="about -1"),
    "border at 0 HU": Odd(bordered),
    "metal": Odd(with_metal),
    # pixel data is not Rows x Columns
    "columns too few": Odd(tagged(Columns=63), UNREADABLE),
    "rows too many": Odd(tagged(Rows=65), UNREADABLE),
    "two bytes too many": Odd(longer(2), UNREADABLE),
    "a second frame": Odd(longer(64 * 64 * 2), UNREADABLE),
    # limits
    "pixels of 50 mm": Odd(tagged(PixelSpacing=[50, 50]), Refusal.TOO_LARGE),
    "pixels of 42 mm": Odd(tagged(PixelSpacing=[41.7, 41.7]), Refusal.TOO_LARGE),
    "pixels of 0.4 mm": Odd(tagged(PixelSpacing=[0.417, 0.417]), note="only 27 mm wide in a scan of 315 mm"),
    "steps in cm": Odd(placed(lambda n, x, y, z: (x, y, z / 10)), note="4 mm thick but lie every 0.40 mm"),
    "steps of 40 mm": Odd(placed(lambda n, x, y, z: (x, y, 40.0 * n)), Refusal.TOO_LARGE),
    "rows of 65535": Odd(tagged(Rows=65535, Columns=65535), Refusal.TOO_LARGE),
    "a billion frames": Odd(tagged(NumberOfFrames=10**9), Refusal.MULTI_FRAME),
    # harmless
    "two scouts": Odd(scouts(2, told=True), note="2 localizer(s)"),
    "two scouts of another size": Odd(scouts(2, told=True, rows=40), note="2 localizer(s)"),
    "scout known by its orientation": Odd(scouts(1, told=False), note="1 slice(s) across the others"),
    "positions of one decimal, 0.625": Odd(placed(lambda n, x, y, z: (x, y, round(n * 0.625, 1)), 0.625)),
    "positions of one decimal, 0.33": Odd(placed(lambda n, x, y, z: (x, y, round(-150 + n * 0.33, 1)), 0.33)),
    "positions of one decimal, 0.5": Odd(placed(lambda n, x, y, z: (x, y, round(-0.25 - n * 0.5, 1)), 0.5)),
    "positions of whole millimetres, 3.7": Odd(
        placed(lambda n, x, y, z: (x, y, float(round(n * 3.7))), 3.7), note="rounded to 1 mm"
    ),
    "positions of half millimetres, 1.2": Odd(
        placed(lambda n, x, y, z: (x, y, round(2 * n * 1.2) / 2), 1.2), note="0.5"
    ),
    "positions of whole millimetres, 1.25": Odd(
        placed(lambda n, x, y, z: (x, y, float(round(n * 1.25))), 1.25), Refusal.MIXED_SPACING
    ),
    "sag of 0.2 degrees": Odd(placed(lambda n, x, y, z: (x, y + n * 4 * np.tan(np.radians(0.2)), z)), note="table sag"),
    "half slope, intercept lost": Odd(
        restored_as(lambda v: np.clip((v + 1024) * 2, 0, 8190), RescaleSlope="0.5"), BAD_HU
    ),
    "12 bits signed labelled unsigned": Odd(
        restored(lambda v: np.rint(v).astype(int) & 0xFFF, bits=12, signed=0), BAD_HU
    ),
    "scouts of another frame of reference": Odd(
        both(scouts(2, told=True), tagged(slice(0, 2), FrameOfReferenceUID="1.2.3.4")), note="2 localizer(s)"
    ),
    "all of the rows one short in one slice": Odd(tagged(slice(20, 21), Rows=63), Refusal.UNREADABLE),
    "rows and columns swapped": Odd(both(narrower(3), swapped), UNREADABLE),
    "32 rows of 128": Odd(tagged(Rows=32, Columns=128), UNREADABLE),
    "rows at 30 degrees": Odd(turned(30)),
    "GantryDetectorTilt 0.5": Odd(tagged(GantryDetectorTilt="0.5")),
    "RescaleType in German": Odd(tagged(RescaleType="Hounsfield-Einheiten"), note="RescaleType"),
    "RescaleType in brackets": Odd(tagged(RescaleType="[hnsf'U]"), note="RescaleType"),
    "copy under another uid": Odd(copied(10), note="1 duplicate slice(s)"),
    "series uid 1.2.03": Odd(tagged(SeriesInstanceUID="1.2.03"), BAD_ID),
    "frame of reference uid 1.2.03": Odd(tagged(FrameOfReferenceUID="1.2.03"), BAD_ID),
    "nominal tilt": Odd(tagged(GantryDetectorTilt="-0.25")),
    "tilt that was resampled away": Odd(tagged(GantryDetectorTilt="15"), note="GantryDetectorTilt"),
    "RescaleType hu": Odd(tagged(RescaleType="hu"), note="RescaleType"),
    "RescaleType spelled out": Odd(tagged(RescaleType="Houndsfield Unit"), note="RescaleType"),
    "no frame of reference": Odd(without("FrameOfReferenceUID"), note="no FrameOfReferenceUID"),
    "same file twice": Odd(twice(5), note="1 instance(s) came twice"),
    "same files three times": Odd(twice(5, 5, 70), note="3 instance(s) came twice"),
    "table sag": Odd(placed(lambda n, x, y, z: (x, round(y + 0.47 * n / 78, 3), z)), note="0.47 mm (table sag)"),
    "bent table": Odd(placed(lambda n, x, y, z: (x, y + 0.4 * (n / 78) ** 2, z)), note="0.40 mm (table sag)"),
    "rows at 45 degrees": Odd(turned(45)),
    "rows at -45 degrees": Odd(turned(-45)),
    "rows at 38 degrees": Odd(turned(38)),
    # identity
    "series uid with a leading zero": Odd(tagged(SeriesInstanceUID="1.2.826.0.01.3680043.2.0007"), BAD_ID),
    "study uid of 70 characters": Odd(tagged(StudyInstanceUID="1.2." + "3" * 66), BAD_ID),
    "instance uid with a leading zero": Odd(tagged(slice(3, 4), SOPInstanceUID="1.2.07"), BAD_ID),
}
