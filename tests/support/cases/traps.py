"""Traps of CT series, each made of one phantom, and what four readers make of them.

A reader is right where every sampled voxel of the phantom has its value at its place of the patient.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from scipy import ndimage

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import InputError
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series

Series = list[FileDataset]
Found = list[tuple[NDArray[Any], NDArray[np.float64]]]
"""Voxels (k, j, i) with the affine from (i, j, k) to LPS mm."""

PHANTOM = make_phantom((24, 48, 48), (6.0, 8.0, 8.0))
_LEAST_CORRELATION = 0.98
DCM2NIIX = Path(sys.executable).with_name("dcm2niix")
_TOLERANCE_HU, _TOLERANCE_VOXELS = 1.5, 0.1


class Verdict(StrEnum):
    """What a reader makes of a trap."""

    RIGHT = "right"
    REFUSED = "refused"
    WARNED = "wrong, with a warning"
    WRONG = "silently wrong"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader gave: volumes, and whether it warned."""

    found: Found
    warned: bool = False


def _series() -> Series:
    return list(encode_phantom(PHANTOM))


def _position(ds: FileDataset, z: float) -> None:
    ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], round(z, 6)]


def _again(ds: FileDataset, number: int) -> FileDataset:
    other = deepcopy(ds)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    other.InstanceNumber = number
    return other


def _with_pixels(ds: FileDataset, change: Callable[[NDArray[Any]], NDArray[Any]]) -> FileDataset:
    ds.PixelData = change(ds.pixel_array).astype(ds.pixel_array.dtype).tobytes()
    return ds


def _reversed_numbers(series: Series) -> Series:
    for number, ds in enumerate(reversed(series)):
        ds.InstanceNumber, ds.SliceThickness, ds.SliceLocation = number + 1, 9.0, float(number)
    return series


def _rescale_per_slice(series: Series) -> Series:
    for ds in series[::2]:
        _with_pixels(ds, lambda a: a + 100)
        ds.RescaleIntercept = float(ds.RescaleIntercept) - 100 * float(ds.RescaleSlope)
    return series


def _jitter(series: Series) -> Series:
    for index, ds in enumerate(series):
        _position(ds, float(ds.ImagePositionPatient[2]) + 0.02 * (-1) ** index)
    return series


def _frames_of_reference(series: Series) -> Series:
    for ds in series:
        ds.FrameOfReferenceUID = generate_uid()
    return series


def _variable(series: Series) -> Series:
    for index, ds in enumerate(series[12:]):
        _position(ds, float(ds.ImagePositionPatient[2]) + 4 * (index + 1))
    return series


def _tilted(series: Series) -> Series:
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    for ds in series:
        ds.ImageOrientationPatient, ds.GantryDetectorTilt = [1, 0, 0, 0, round(c, 6), round(s, 6)], 15
    return series


def _localizer(series: Series) -> Series:
    scout = _again(series[0], 99)
    scout.ImageType, scout.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [1, 0, 0, 0, 0, -1]
    return [*series, scout]


def _two_phases(series: Series) -> Series:
    later = [_with_pixels(_again(ds, 100 + n), lambda a: a + 40) for n, ds in enumerate(series)]
    return [*series, *later]


def _mixed_spacing(series: Series) -> Series:
    for ds in series[12:]:
        ds.PixelSpacing = [4.0, 4.0]
    return series


def _no_position(series: Series) -> Series:
    for ds in series:
        del ds.ImagePositionPatient
    return series


def _short(series: Series) -> Series:
    series[9].PixelData = series[9].PixelData[: -48 * 2 * 5]
    return series


def _long(series: Series) -> Series:
    series[9].PixelData = bytes(48 * 2) + series[9].PixelData
    return series


def _each(series: Series, **values: object) -> Series:
    for ds in series:
        for keyword, value in values.items():
            setattr(ds, keyword, value)
    return series


def _padded(series: Series) -> Series:
    for ds in series:
        ds.PixelPaddingValue = -2000
        _with_pixels(ds, lambda a: np.where(np.arange(48) < 2, -2000, a))
    return series


def _signed_as_unsigned(series: Series) -> Series:
    for ds in series:
        hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        ds.PixelData, ds.PixelRepresentation = np.rint(hu).astype("<i2").tobytes(), 0
        ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 15, 1, 0
    return series


TRAPS: dict[str, Callable[[Series], Series]] = {
    "files in any order": lambda s: [*s[1::2], *s[-2::-2]],
    "InstanceNumber, SliceThickness and SliceLocation wrong": _reversed_numbers,
    "another rescale in every second slice": _rescale_per_slice,
    "positions off by 0.02 mm": _jitter,
    "every slice its own FrameOfReferenceUID": _frames_of_reference,
    "a localizer among the slices": _localizer,
    "the same image twice": lambda s: [*s, _again(s[7], 50)],
    "a slice missing": lambda s: s[:9] + s[10:],
    "another image at the same place": lambda s: [*s, _with_pixels(_again(s[7], 50), lambda a: a + 200)],
    "slice distance changes": _variable,
    "gantry tilt of 15 degrees": _tilted,
    "two phases": _two_phases,
    "PixelSpacing changes": _mixed_spacing,
    "no ImagePositionPatient": _no_position,
    "pixel data too short in one slice": _short,
    "pixel data too long in one slice": _long,
    "intercept lost": lambda s: _each([_with_pixels(ds, lambda a: a + 1024) for ds in s], RescaleIntercept=0),
    "RescaleSlope 0.5": lambda s: _each(s, RescaleSlope=0.5),
    "RescaleSlope 1000": lambda s: _each(s, RescaleSlope=1000),
    "signed pixels labelled unsigned": _signed_as_unsigned,
    "PixelSpacing in the wrong unit": lambda s: _each(s, PixelSpacing=[8000, 8000]),
}

RIGHT_BY_NATURE = frozenset(list(TRAPS)[:7])
"""In these the phantom is all there; the others hold none that one could vouch for, or only after resampling."""

RIGHT_IF_RESAMPLED = frozenset({"gantry tilt of 15 degrees", "slice distance changes"})


def written(trap: str, folder: Path) -> Path:
    """Write the series of a trap; files are named by their order of arrival."""
    for index, ds in enumerate(TRAPS[trap](_series())):
        ds.save_as(folder / f"{index:03}.dcm", enforce_file_format=True)
    return folder


def ours(folder: Path) -> Reading:
    """Read by this project."""
    series = read_series(dcmread(file) for file in sorted(folder.iterdir()))
    return Reading([(series.volume.voxels_hu, series.volume.affine)])


def by_highdicom(folder: Path) -> Reading:
    """Read by highdicom, with its defaults."""
    volume = highdicom.get_volume_from_series([dcmread(file) for file in sorted(folder.iterdir())])
    turn = np.eye(4)[[2, 1, 0, 3]]
    return Reading([(volume.array, volume.affine @ turn)])


def _of_image(image: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    size, affine = image.GetDimension(), np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(size, size) * np.array(image.GetSpacing()))[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return SimpleITK.GetArrayFromImage(image), affine


def by_simpleitk(folder: Path) -> Reading:
    """Read by SimpleITK's series reader, as its examples do."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    return Reading([_of_image(SimpleITK.ReadImage(names))])


def by_dcm2niix(folder: Path) -> Reading:
    """Convert by dcm2niix, with its defaults."""
    found, warnings = _converted(folder)
    volumes = [(voxels, affine) for voxels, affine in found if voxels.ndim == 3]
    return Reading(volumes, len(found) != 1 or bool(warnings - _usual_warnings()))


def _converted(folder: Path) -> tuple[Found, set[str]]:
    """Run dcm2niix; the warnings come without their numbers."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([DCM2NIIX, "-o", out, str(folder)], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(done.returncode)
        said = {
            re.sub(r"[\d./]+|/\S+", "#", line) for line in (done.stdout + done.stderr).splitlines() if "arning" in line
        }
        return [_of_image(SimpleITK.ReadImage(str(file))) for file in sorted(Path(out).glob("*.nii*"))], said


@cache
def _usual_warnings() -> set[str]:
    """What dcm2niix says of the series without a trap."""
    with tempfile.TemporaryDirectory() as folder:
        for index, ds in enumerate(_series()):
            ds.save_as(Path(folder) / f"{index:03}.dcm", enforce_file_format=True)
        return _converted(Path(folder))[1]


READERS: dict[str, Callable[[Path], Reading]] = {
    "this project": ours,
    "highdicom": by_highdicom,
    "SimpleITK": by_simpleitk,
    "dcm2niix": by_dcm2niix,
}


def verdict(reader: str, trap: str, folder: Path) -> Verdict:
    """Say what a reader makes of the series of a trap."""
    try:
        reading = READERS[reader](folder)
    except (InputError, ValueError, RuntimeError, AttributeError, KeyError, TypeError, IndexError):
        return Verdict.REFUSED
    if not reading.found:
        return Verdict.REFUSED
    if len(reading.found) == 1 and _is_right(trap, *reading.found[0]):
        return Verdict.RIGHT
    return Verdict.WARNED if reading.warned else Verdict.WRONG


def _is_right(trap: str, voxels: NDArray[Any], affine: NDArray[np.float64]) -> bool:
    if trap in RIGHT_BY_NATURE:
        return _is_phantom(voxels, affine)
    return trap in RIGHT_IF_RESAMPLED and voxels.ndim == 3 and _agrees(TRAPS[trap](_series()), voxels, affine)


def _agrees(series: Series, voxels: NDArray[Any], affine: NDArray[np.float64]) -> bool:
    """Compare the stored pixels, at the place that their own headers give, with a volume interpolated there.

    A reader may move a tilted slice by whole pixels, at most half a pixel from its place: either row may hold it.
    """
    stored, found = [], []
    inverse = np.linalg.inv(affine)
    rows, columns = np.mgrid[4:44:3, 4:44:3].reshape(2, -1)
    for ds in series:
        along, down = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        step_down, step_along = (float(mm) for mm in ds.PixelSpacing)
        place = np.array(ds.ImagePositionPatient, float)[:, None]
        place = place + along[:, None] * columns * step_along + down[:, None] * rows * step_down
        x, y, z = np.round((inverse @ np.vstack([place, np.ones(place.shape[1])]))[:3], 4)
        pixels = ds.pixel_array[rows, columns] * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        beside = np.array(
            [
                ndimage.map_coordinates(voxels.astype(np.float32), [z, row, x], order=1, cval=-1024)
                for row in (np.floor(y), np.ceil(y))
            ]
        )
        found.append(np.take_along_axis(beside, np.abs(beside - pixels).argmin(axis=0)[None], axis=0)[0])
        stored.append(pixels)
    return bool(np.corrcoef(np.concatenate(stored), np.concatenate(found))[0, 1] >= _LEAST_CORRELATION)


def _is_phantom(voxels: NDArray[Any], affine: NDArray[np.float64]) -> bool:
    truth: Volume = PHANTOM.volume
    rng = np.random.default_rng(0)
    k, j, i = (rng.integers(0, size, 500) for size in truth.voxels_hu.shape)
    placed = truth.affine @ np.stack([i, j, k, np.ones(500)])
    at = (np.linalg.inv(affine) @ placed)[:3]
    index = np.rint(at).astype(int)
    if voxels.ndim != 3 or voxels.shape != truth.voxels_hu.shape or np.abs(at - index).max() > _TOLERANCE_VOXELS:
        return False
    if (index < 0).any() or (index >= np.array(voxels.shape[::-1])[:, None]).any():
        return False
    return bool(np.abs(voxels[index[2], index[1], index[0]] - truth.voxels_hu[k, j, i]).max() <= _TOLERANCE_HU)
