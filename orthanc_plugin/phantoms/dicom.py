"""Encode the phantom as a DICOM CT series with realistic headers; the same seed gives the same UIDs.

Tests also build series with it: they encode a small phantom and change what the loader shall refuse.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from orthanc_plugin import __version__
from orthanc_plugin.phantoms.phantom import Phantom

_NAMESPACE = uuid.UUID("0d1a3f3e-52a5-5d0e-8b3a-3f0b6a1c9e42")
_INTERCEPT = -1024


class PatientPosition(StrEnum):
    """Position of the patient: head or feet first, supine or prone."""

    HFS = "HFS"
    FFS = "FFS"
    HFP = "HFP"
    FFP = "FFP"


class StorageOrder(StrEnum):
    """Order of the datasets: as scanned, reversed, or shuffled by the phantom's seed."""

    SCANNED = "scanned"
    REVERSED = "reversed"
    SHUFFLED = "shuffled"


def encode_phantom(
    phantom: Phantom,
    *,
    uid_seed: str = "",
    position: PatientPosition = PatientPosition.HFS,
    order: StorageOrder = StorageOrder.SCANNED,
) -> list[FileDataset]:
    """Encode the phantom as CT Image Storage instances.

    Parameters
    ----------
    phantom : Phantom
        From `make_phantom` or `make_thorax_phantom`.
    uid_seed : str
        Another seed gives another study, series and instances with the same content.
    position : PatientPosition
        Feet first numbers the slices from the feet. Prone stores the image rotated by half a turn, as scanners do, with
        the matching orientation. The patient is the same each time.
    order : StorageOrder
        Order of the list; the result of a reader must not depend on it.

    Returns
    -------
    list of FileDataset
        One per slice, Explicit VR Little Endian, 16 bit signed, with UIDs derived from seed, content and position.
    """
    shape, spacing = phantom.volume.voxels_hu.shape, phantom.volume.spacing_mm
    identity = f"{uid_seed}{phantom.kind}:{phantom.seed}:{shape}:{spacing}:{position}"
    count = len(phantom.volume.voxels_hu)
    scanned = range(count) if position in (PatientPosition.FFS, PatientPosition.FFP) else range(count - 1, -1, -1)
    slices = [_slice(phantom, index, number, identity, position) for number, index in enumerate(scanned, 1)]
    if order is StorageOrder.REVERSED:
        return slices[::-1]
    if order is StorageOrder.SHUFFLED:
        return [slices[i] for i in np.random.default_rng(phantom.seed).permutation(count)]
    return slices


def write_phantom(
    out: Path,
    phantom: Phantom,
    *,
    uid_seed: str = "",
    position: PatientPosition = PatientPosition.HFS,
    order: StorageOrder = StorageOrder.SCANNED,
) -> list[Path]:
    """Write the phantom as `0001.dcm`, `0002.dcm`, ... into `out`, created if missing; see `encode_phantom`."""
    return write_instances(out, encode_phantom(phantom, uid_seed=uid_seed, position=position, order=order))


def write_instances(out: Path, instances: Iterable[FileDataset]) -> list[Path]:
    """Write instances in their order as numbered DICOM files."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, ds in enumerate(instances, 1):
        paths.append(out / f"{number:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def _uid(*parts: object) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}"


def _slice(phantom: Phantom, index: int, number: int, identity: str, position: PatientPosition) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(_uid(identity, "instance", index))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    _patient_and_study(ds, identity)
    _series(ds, identity, position)
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.InstanceNumber = number
    _place(ds, phantom, index, position)
    _pixels(ds, phantom.volume.voxels_hu[index], position)
    return ds


def _patient_and_study(ds: FileDataset, identity: str) -> None:
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID = "Phantom^Chest", "PHANTOM-" + _uid(identity, "patient")[-8:]
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600101", "O", "060Y"
    ds.StudyInstanceUID, ds.StudyID = _uid(identity, "study"), "1"
    ds.StudyDate, ds.StudyTime = "20200101", "120000"
    ds.AccessionNumber, ds.ReferringPhysicianName = "", ""
    ds.StudyDescription = "Chest phantom"


def _series(ds: FileDataset, identity: str, position: PatientPosition) -> None:
    ds.Modality, ds.BodyPartExamined = "CT", "CHEST"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesInstanceUID, ds.SeriesNumber = _uid(identity, "series"), 2
    ds.QualityControlImage = "YES"
    ds.SeriesDescription, ds.ProtocolName = "Chest 1.0 procedural phantom", "Chest"
    ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = ds.StudyDate
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120500"
    ds.AcquisitionNumber = 1
    ds.Manufacturer, ds.ManufacturerModelName = "Orthanc Enrichment", "Procedural chest phantom"
    ds.SoftwareVersions, ds.StationName, ds.DeviceSerialNumber = __version__, "PHANTOM", "0"
    ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime = 120, 200, 500
    ds.ConvolutionKernel, ds.GantryDetectorTilt, ds.TableHeight = "STANDARD", 0, 0
    ds.PatientPosition, ds.PositionReferenceIndicator = str(position), ""
    ds.FrameOfReferenceUID = _uid(identity, "frame of reference")


def _place(ds: FileDataset, phantom: Phantom, index: int, position: PatientPosition) -> None:
    volume = phantom.volume
    _, rows, columns = volume.voxels_hu.shape
    prone = position in (PatientPosition.HFP, PatientPosition.FFP)
    corner = (columns - 1, rows - 1) if prone else (0, 0)
    origin = (volume.affine @ [*corner, index, 1])[:3]
    step = -1 if prone else 1
    ds.ImagePositionPatient = [f"{value:.4f}" for value in origin]
    ds.ImageOrientationPatient = [step, 0, 0, 0, step, 0]
    ds.PixelSpacing = [f"{volume.spacing_mm[1]:.6g}", f"{volume.spacing_mm[2]:.6g}"]
    ds.SliceThickness = f"{volume.spacing_mm[0]:.6g}"
    ds.SliceLocation = f"{origin[2]:.4f}"


def _pixels(ds: FileDataset, voxels_hu: NDArray[np.float32], position: PatientPosition) -> None:
    image = voxels_hu[::-1, ::-1] if position in (PatientPosition.HFP, PatientPosition.FFP) else voxels_hu
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = _INTERCEPT, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = -600, 1600
    ds.PixelData = (image - _INTERCEPT).astype("<i2").tobytes()
