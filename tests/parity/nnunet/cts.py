"""The CT series of the parity tests: real ones whole and cut, and the phantom, each as a folder of DICOM.

Cut series are written below a temporary folder; the peers get the NIfTI that SimpleITK makes of the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.phantoms.dicom import PatientPosition, write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.phantoms.thorax import make_thorax_phantom
from orthanc_plugin.series.read import read_series
from tests.support.cases.realct import real_ct


@dataclass(frozen=True, slots=True)
class Ct:
    """One series, both ways: `volume` as this project reads the DICOM, `image` as SimpleITK does, written as NIfTI."""

    name: str
    folder: Path
    volume: Volume
    image: Path


def load(folder: Path) -> Volume:
    """The series of a folder through this project's own reader."""
    return read_series(dcmread(file) for file in sorted(folder.iterdir())).volume


def to_nifti(folder: Path, out: Path) -> Path:
    """The series of a folder as SimpleITK reads it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    out.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(reader.Execute(), str(out))
    return out


def cut(source: Path, out: Path, z: slice, y: slice, x: slice, frame: int = 0) -> Path:
    """A part of a series, slices counted from the feet; the outermost `frame` voxels in the plane become 0 HU."""
    slices = sorted((dcmread(file) for file in source.iterdir()), key=lambda ds: float(ds.ImagePositionPatient[2]))
    out.mkdir(parents=True)
    for number, ds in enumerate(slices[z], 1):
        _cut_plane(ds, y, x, frame)
        ds.save_as(out / f"{number:04d}.dcm", enforce_file_format=True)
    return out


def _cut_plane(ds: Dataset, y: slice, x: slice, frame: int) -> None:
    pixels = ds.pixel_array[y, x].copy()
    zero_hu = round((0 - float(ds.RescaleIntercept)) / float(ds.RescaleSlope))
    if frame:
        inner = np.zeros(pixels.shape, bool)
        inner[frame:-frame, frame:-frame] = True
        pixels[~inner] = zero_hu
    row, column = np.reshape(np.asarray(ds.ImageOrientationPatient, float), (2, 3))
    mm_y, mm_x = map(float, ds.PixelSpacing)
    origin = np.asarray(ds.ImagePositionPatient, float) + row * mm_x * (x.start or 0) + column * mm_y * (y.start or 0)
    ds.ImagePositionPatient = [f"{value:.6f}" for value in origin]
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelData = pixels.tobytes()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _cip(_: Path) -> Path:
    return real_ct("cip_ct64/dicom")


def _lidc(z: slice, y: slice, x: slice, frame: int = 0) -> Callable[[Path], Path]:
    return lambda out: cut(real_ct("lidc_0314_chest/dicom"), out, z, y, x, frame)


def _phantom(position: PatientPosition) -> Callable[[Path], Path]:
    return lambda out: write_phantom(out, make_phantom((56, 80, 80)), position=position)[0].parent


def _thorax(out: Path) -> Path:
    return write_phantom(out, make_thorax_phantom((72, 96, 96), seed=1_000_000))[0].parent


SERIES: dict[str, Callable[[Path], Path]] = {
    "cip_ct64": _cip,
    "lidc_0314 5 mm": _lidc(slice(20, 260, 5), slice(140, 320), slice(120, 320)),
    "lidc_0314 1 mm": _lidc(slice(100, 172), slice(160, 320), slice(140, 310)),
    "lidc_0314 stub": _lidc(slice(120, 140), slice(200, 256), slice(200, 264)),
    "lidc_0314 framed": _lidc(slice(100, 150), slice(160, 300), slice(140, 310), 9),
    "phantom": _phantom(PatientPosition.HFS),
    "thorax": _thorax,
    "phantom prone": _phantom(PatientPosition.HFP),
}
"""Name to what writes the series into a folder, or names the one that has it."""


def prepare(name: str, root: Path) -> Ct:
    """The series of that name, files below `root`."""
    safe = name.replace(" ", "_")
    folder = SERIES[name](root / f"{safe}_dicom")
    image = to_nifti(folder, root / f"{safe}_nifti" / "case_0000.nii.gz")
    volume = load(folder)
    stored = sitk.ReadImage(str(image))
    assert stored.GetSize() == volume.voxels_hu.shape[::-1]
    assert np.allclose(stored.GetOrigin(), volume.affine[:3, 3], atol=1e-3)
    return Ct(name, folder, volume, image)


def voxels_of(image: Path) -> np.ndarray:
    """(z, y, x) of a NIfTI file, as SimpleITK gives them."""
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(image))))


def write_labels(labels: np.ndarray, image: Path, out: Path) -> Path:
    """Labels as a NIfTI on the grid of an image."""
    stored = sitk.GetImageFromArray(labels)
    stored.CopyInformation(sitk.ReadImage(str(image)))
    out.parent.mkdir(parents=True)
    sitk.WriteImage(stored, str(out))
    return out


def dice(one: np.ndarray, other: np.ndarray, numbers: Sequence[int]) -> float:
    """The lowest Dice of the labels that either has; 1 where neither has any."""
    sizes = {n: (np.count_nonzero(one == n), np.count_nonzero(other == n)) for n in numbers}
    both = {n: np.count_nonzero((one == n) & (other == n)) for n in numbers}
    return min((2 * both[n] / sum(sizes[n]) for n in numbers if sum(sizes[n])), default=1.0)
