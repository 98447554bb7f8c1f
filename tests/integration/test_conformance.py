"""Every object by readers that are not ours: dciodvfy, dcmqi and dcmtk, on real CT, a phantom and nasty headers.

dcmqi returns 0 even after an error: its output is parsed and its voxels are compared.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pydicom.config
import pytest
import SimpleITK
from pydicom.dataset import Dataset

from orthanc_plugin.ct import CtSeries
from orthanc_plugin.masks import Labels, Segmentation
from orthanc_plugin.results import seg
from orthanc_plugin.series.read import read_series
from orthanc_plugin.validation.phantom import make_phantom
from orthanc_plugin.validation.phantom_dicom import encode_phantom
from tests.realct import real_ct
from tests.results_case import (
    CARD,
    LUNG_LEFT,
    cut,
    ellipsoids,
    encode,
    landmarks_report,
    radiomics_report,
    small_series,
)

KNOWN_WARNINGS = (
    "needed to build DICOMDIR",
    "Retired Person Name form",
    "DeviceUID(0018,1002)> - Attribute is not present in standard DICOM IOD",
    "Unrecognized defined term = <99AIE>",
)
LABELMAP_ERROR = "ReferencedSegmentNumber(0062,000b)> - Shall not be present for Referenced SOP Class"
DCMQI_TROUBLE = re.compile(r"\berror\b", re.IGNORECASE)


def tool(name: str) -> str:
    """The executable beside this Python or on the PATH; CI must have it."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    return str(found)


def output_of(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def complaints(path: Path) -> list[str]:
    """Errors and unknown warnings of dciodvfy, from its text: an error inside an SR may leave the exit status at 0."""
    status, text = output_of(tool("dciodvfy"), "-new", str(path))
    lines = [line for line in text.splitlines() if line.startswith(("Error", "Warning"))]
    assert status == 0 or any(line.startswith("Error") for line in lines), text
    return [line for line in lines if not any(known in line for known in KNOWN_WARNINGS)]


@dataclass(frozen=True)
class Objects:
    """What one series gave, as files, and what was meant."""

    series: CtSeries
    found: Segmentation
    folder: Path

    @property
    def seg(self) -> Path:
        return self.folder / "seg.dcm"

    @property
    def reports(self) -> tuple[Path, ...]:
        return tuple(sorted(self.folder.glob("*_sr.dcm")))


def write_objects(series: CtSeries, found: Segmentation, folder: Path) -> Objects:
    encode(series, found).save_as(folder / "seg.dcm", enforce_file_format=True)
    stored = pydicom.dcmread(folder / "seg.dcm")
    radiomics_report(series, stored).save_as(folder / "radiomics_sr.dcm", enforce_file_format=True)
    landmarks_report(series, stored, "a note").save_as(folder / "landmarks_sr.dcm", enforce_file_format=True)
    return Objects(series, found, folder)


def real(name: str) -> CtSeries:
    files = sorted(path for path in real_ct(name).iterdir() if path.is_file())
    return read_series(pydicom.dcmread(path) for path in files)


def lowest(series: CtSeries, slices: int) -> CtSeries:
    """The lowest slices of a series: the traits of its headers without its whole weight."""
    volume = replace(series.volume, voxels_hu=series.volume.voxels_hu[:slices].copy())
    return replace(series, volume=volume, headers=series.headers[:slices])


CASES: dict[str, Callable[[], CtSeries]] = {
    "cip_ct64": lambda: real("cip_ct64/dicom"),
    "lidc_0314_chest, 48 slices": lambda: lowest(real("lidc_0314_chest/dicom"), 48),
    "cip_ct64 in odd size": lambda: cut(real("cip_ct64/dicom"), 61, 63),
    "phantom": lambda: read_series(encode_phantom(make_phantom((24, 48, 56)))),
    "201 x 204": lambda: small_series(201, 204),
}


@pytest.fixture(scope="module", params=CASES)
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    series = CASES[request.param]()
    return write_objects(series, ellipsoids(series), tmp_path_factory.mktemp("objects"))


def is_labelmap(objects: Objects) -> bool:
    return not seg.is_binary(objects.found.labels.shape[2])


def test_the_validator_has_nothing_to_say_of_the_seg(objects: Objects) -> None:
    assert complaints(objects.seg) == []


def test_the_validator_knows_only_the_labelmap_complaint_of_the_reports(objects: Objects) -> None:
    landmarks, radiomics = objects.reports
    assert complaints(landmarks) == []
    expected = len(objects.found.segments) if is_labelmap(objects) else 0
    found = complaints(radiomics)
    assert len(found) == expected
    assert all(LABELMAP_ERROR in line for line in found)


def test_dcmqi_reads_the_same_voxels(objects: Objects, tmp_path: Path) -> None:
    _, text = output_of(
        tool("segimage2itkimage"), "--inputDICOM", str(objects.seg), "--outputDirectory", str(tmp_path),
        "--outputType", "nrrd",
    )  # fmt: skip
    assert not DCMQI_TROUBLE.search(text), text
    stored = seg.decode_seg(pydicom.dcmread(objects.seg), objects.series, CARD)
    images = {path.stem: on_grid(path, objects.series) for path in tmp_path.glob("*.nrrd")}
    for segment in stored.segments:
        there = images["1"] == segment.number if is_labelmap(objects) else images[str(segment.number)] != 0
        np.testing.assert_array_equal(there, stored.mask(segment))
    assert np.array_equal(stored.labels > 0, objects.found.labels > 0)


def on_grid(path: Path, series: CtSeries) -> Labels:
    """dcmqi's image placed on the grid of the series by the millimetres of its first and last voxel."""
    image = SimpleITK.ReadImage(str(path))
    ends = [(0, 0, 0), tuple(size - 1 for size in image.GetSize())]
    points = np.array([[*image.TransformIndexToPhysicalPoint(end), 1.0] for end in ends])
    first, last = np.rint(np.linalg.solve(series.volume.affine, points.T)).astype(int)[2::-1].T
    placed = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    there = tuple(slice(min(ends), max(ends) + 1) for ends in zip(first, last, strict=True))
    flipped = tuple(slice(None, None, 1 if start <= stop else -1) for start, stop in zip(first, last, strict=True))
    placed[there] = SimpleITK.GetArrayViewFromImage(image)[flipped]
    return placed


def test_dcmtk_reads_the_reports(objects: Objects) -> None:
    landmarks, radiomics = objects.reports
    readable = (landmarks,) if is_labelmap(objects) else (landmarks, radiomics)
    for path in readable:
        status, text = output_of(tool("dsrdump"), str(path))
        assert status == 0
        assert "AI Enrichment Report" in text
        assert not [line for line in text.splitlines() if line.startswith(("E:", "F:"))]


def test_dcmqi_reads_every_group_of_the_reports(objects: Objects, tmp_path: Path) -> None:
    for path in objects.reports:
        out = tmp_path / f"{path.stem}.json"
        status, text = output_of(tool("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out))
        assert (status, DCMQI_TROUBLE.search(text)) == (0, None), text
        written = sum(item.ConceptNameCodeSequence[0].CodeValue == "125007" for item in groups_of(path))
        assert out.read_text().count('"TrackingUniqueIdentifier"') == written > 0


def groups_of(path: Path) -> list[Dataset]:
    root = pydicom.dcmread(path)
    return [
        item
        for part in root.ContentSequence
        for item in part.get("ContentSequence", ())
        if item.ValueType == "CONTAINER"
    ]


MISSING = dict.fromkeys(
    ("StudyID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyTime", "StudyDate", "ReferringPhysicianName",
     "SliceThickness", "PatientAge", "Manufacturer", "PatientName", "StudyDescription")
)  # fmt: skip
NASTY: dict[str, dict[str, object]] = {
    "age without unit": {"PatientAge": "45"},
    "missing type 2": MISSING,
    "japanese": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
    "greek": {"SpecificCharacterSet": "ISO_IR 126", "PatientName": "Διονυσιος"},
    "latin-1, declared": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Buc^Jérôme", "StudyDescription": "Kö"},
    "latin-1, undeclared": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Äneas^Rüdiger"},
    "wrong everywhere": {
        "StudyDate": "2003.01.31", "StudyTime": "10:11:12", "PatientSex": "male", "StudyID": "x" * 20,
        "StudyDescription": "x" * 90, "PatientAge": "old", "PatientWeight": "70", "PatientIdentityRemoved": "YES",
    },
}  # fmt: skip


def as_received(series: CtSeries, case: str) -> CtSeries:
    """Headers through a file and back, so that text is bytes in the source's own encoding."""
    headers = []
    for header in series.headers:
        buffer = pydicom.filebase.DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, True
        pydicom.filewriter.write_dataset(buffer, header)
        raw = buffer.getvalue()
        raw = raw.replace(b"ISO_IR 100", b"ISO_IR 6  ") if "undeclared" in case else raw
        headers.append(pydicom.dcmread(pydicom.filebase.DicomBytesIO(raw), force=True))
    return CtSeries(series.identity, series.volume, tuple(headers), series.frame_of_reference_uid)


@pytest.mark.parametrize("case", NASTY)
def test_nasty_headers_give_valid_objects(case: str, tmp_path: Path) -> None:
    with pydicom.config.disable_value_validation():
        series = as_received(small_series(**NASTY[case]), case)  # type: ignore[arg-type]
    objects = write_objects(series, ellipsoids(series), tmp_path)
    assert [complaints(path) for path in (objects.seg, *objects.reports)] == [[], [], []]
    stored = pydicom.dcmread(objects.seg)
    assert str(stored.PatientName) == (NASTY[case].get("PatientName", "Doe^Jane") or "")


def test_one_segment_alone_gives_valid_objects(tmp_path: Path) -> None:
    series = small_series()
    found = ellipsoids(series)
    alone = Segmentation(
        np.where(found.labels == LUNG_LEFT.number, found.labels, np.uint8(0)),
        tuple(segment for segment in found.segments if segment.key == LUNG_LEFT.key),
    )
    objects = write_objects(series, alone, tmp_path)
    assert [complaints(path) for path in (objects.seg, *objects.reports)] == [[], [], []]
