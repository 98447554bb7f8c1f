"""What is mutated: small series as lists of files, real ones where the real CT is at hand, and a phantom."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.compressed import compressed

DATA = Path(os.environ.get("ENRICH_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
_COMPRESSED = {
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "j2k": JPEG2000Lossless,
    "htj2k": HTJ2KLossless,
    "jpeg": JPEGLosslessSV1,
}

Files = tuple[bytes, ...]


def encoded(ds: Dataset) -> bytes:
    """Give the dataset as a file."""
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


@cache
def _phantom() -> Files:
    return tuple(map(encoded, encode_phantom(make_phantom((28, 48, 48)))[10:15]))


def _files(folder: str, count: int, first: int = 0) -> Callable[[], Files]:
    def read() -> Files:
        paths = [path for path in (DATA / folder).rglob("*") if path.is_file() and _is_dicom(path)]
        return tuple(path.read_bytes() for path in sorted(paths, key=_height)[first : first + count])

    return read


def _height(path: Path) -> tuple[float, str]:
    ds = dcmread(path, specific_tags=["ImagePositionPatient"], stop_before_pixels=True)
    return float((ds.get("ImagePositionPatient") or [0, 0, 0])[2]), path.name


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _recoded(syntax: str) -> Callable[[], Files]:
    def encode() -> Files:
        return tuple(_as(dcmread(io.BytesIO(file)), syntax) for file in _phantom())

    return encode


def _as(ds: FileDataset, syntax: str) -> bytes:
    if syntax in _COMPRESSED:
        return encoded(compressed(ds, _COMPRESSED[syntax]))
    uids = {"implicit": ImplicitVRLittleEndian, "big": ExplicitVRBigEndian, "deflated": DeflatedExplicitVRLittleEndian}
    if syntax == "big":
        ds.PixelData = ds.pixel_array.astype(">i2").tobytes()
    plain = Dataset()  # what was read keeps its byte order
    plain.update({element.tag: element for element in ds})
    plain.file_meta = ds.file_meta
    plain.file_meta.TransferSyntaxUID = uids[syntax]
    return encoded(plain)


def _stacked(name: str) -> Callable[[], Files]:
    """Stack copies of one slice: real code streams of a syntax for which no series is at hand."""

    def copies() -> Files:
        source = (DATA / "cs3d_ct_all_syntaxes" / name).read_bytes()
        return tuple(_placed(dcmread(io.BytesIO(source)), index) for index in range(3))

    return copies


def _placed(ds: FileDataset, index: int) -> bytes:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y, float(z) + 5 * index]
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name_of(ds), str(index)])
    return encoded(ds)


def name_of(ds: FileDataset) -> str:
    """Give what tells the syntaxes of one slice apart."""
    return str(ds.file_meta.TransferSyntaxUID)


def _syntaxes() -> Iterator[tuple[str, Callable[[], Files]]]:
    for path in sorted((DATA / "cs3d_ct_all_syntaxes").glob("CTImage.dcm_*")):
        yield path.name.removeprefix("CTImage.dcm_").partition("_1.2.")[0], _stacked(path.name)


def _made() -> dict[str, tuple[int, Callable[[], Files]]]:
    made: dict[str, tuple[int, Callable[[], Files]]] = {"phantom": (10, _phantom)}
    made |= {name: (5, _recoded(name)) for name in ("implicit", "big", "deflated", *_COMPRESSED)}
    return made


def _real() -> dict[str, tuple[int, Callable[[], Files]]]:
    real = {
        "chest": (50, _files("cip_ct64/dicom", 5, 38)),
        "lidc": (2, _files("lidc_0314_chest", 3, 120)),
        "tilted": (1, _files("gantry_tilt", 4)),
        "upper abdomen": (2, _files("ts_example_ct/example_ct_dicom", 4)),
        "4d": (3, _files("enhanced_4d_ct/dicom_4d", 6)),
        "4d enhanced": (3, _files("enhanced_4d_ct/dicom_4d_enhanced", 3)),
        "missing slice": (1, _files("broken_geometry/sliceincrement/002", 4)),
    }
    return real | {name: (1, make) for name, make in _syntaxes()}


@cache
def sources(real: bool) -> dict[str, tuple[int, Files]]:
    """Give weight and files of every source, by name; only what is made here unless `real`."""
    made = _made() | (_real() if real else {})
    return {name: (weight, files) for name, (weight, make) in made.items() if (files := make())}
