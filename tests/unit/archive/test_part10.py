"""A header is read from the first bytes of a file, and is the same as read from the whole file."""

from __future__ import annotations

import time
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from orthanc_plugin.archive import part10
from orthanc_plugin.archive.part10 import Damaged, read_instance
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.hostile_folders import zeros

KEYWORDS = ["PatientID", "StudyInstanceUID", "SOPInstanceUID"]


def ct() -> FileDataset:
    return encode_phantom(make_phantom((3, 24, 24), (5, 14, 14)))[0]


def written(folder: Path, ds: FileDataset, syntax: str) -> Path:
    file = folder / "one.dcm"
    ds.file_meta.TransferSyntaxUID = syntax
    content = BytesIO()
    write_file_meta_info(content, ds.file_meta)
    body = DicomBytesIO()
    body.is_implicit_VR, body.is_little_endian = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    plain = Dataset(ds)
    if syntax == ExplicitVRBigEndian:
        plain.PixelData = ds.pixel_array.byteswap().tobytes()
    write_dataset(body, plain)
    found = body.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        found = deflater.compress(found) + deflater.flush()
        found += bytes(len(found) % 2)
    file.write_bytes(bytes(128) + b"DICM" + content.getvalue() + found)
    return file


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were asked for, of each opening of a file; -1 for all."""
    asked, opened = list[int](), part10._open

    def count(file: Path, most: int = -1) -> part10._Opened:
        asked.append(most)
        return opened(file, most)

    monkeypatch.setattr(part10, "_open", count)
    return asked


@pytest.mark.parametrize("tags", [[], KEYWORDS], ids=["all", "some"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_pixels_stay_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[int], syntax: str, tags: list[str]
) -> None:
    file = written(tmp_path, ct(), syntax)
    expected = dcmread(file, stop_before_pixels=True, specific_tags=list(tags) or None)
    monkeypatch.setattr(part10, "_HEADER_BYTES", file.stat().st_size - 64)
    assert read_instance(file, tags=tags, stop_before_pixels=True) == expected
    assert whole == [file.stat().st_size - 64]


@pytest.mark.parametrize("tags", [[], KEYWORDS], ids=["all", "some"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_wherever_the_first_bytes_end_the_header_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, tags: list[str]
) -> None:
    file = written(tmp_path, ct(), syntax)
    expected = dcmread(file, stop_before_pixels=True, specific_tags=list(tags) or None)
    for count in range(132, file.stat().st_size + 2, 7):
        monkeypatch.setattr(part10, "_HEADER_BYTES", count)
        assert read_instance(file, tags=tags, stop_before_pixels=True) == expected, count


def test_a_header_that_is_cut_is_damaged_wherever_the_first_bytes_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, ct(), ExplicitVRLittleEndian)
    content = file.read_bytes()
    file.write_bytes(content[: content.index(b"\xe0\x7f\x10\x00") - 1])
    for count in range(132, file.stat().st_size + 2, 61):
        monkeypatch.setattr(part10, "_HEADER_BYTES", count)
        with pytest.raises(Damaged):
            read_instance(file, stop_before_pixels=True)


@pytest.mark.parametrize("mib", [60, 1000])
@pytest.mark.parametrize("header", [True, False], ids=["the header", "the whole"])
def test_zeros_are_damaged_before_they_cost_minutes(tmp_path: Path, mib: int, header: bool) -> None:
    """Unfolded, each eight bytes of zeros are an element."""
    file = written(tmp_path, ct(), DeflatedExplicitVRLittleEndian)
    content = file.read_bytes()
    file.write_bytes(content[: 132 + 12 + int.from_bytes(content[140:144], "little")] + zeros(mib))
    began = time.process_time()
    with pytest.raises(Damaged):
        read_instance(file, stop_before_pixels=header)
    assert time.process_time() - began < 15
