"""Readers of other projects: each takes an object of a case and fails if it does not read the intended content.

The exit status of dciodvfy hides errors inside reports, and dcmqi returns 0 even after an error. Their output is
therefore parsed, and voxels, groups and pixels are compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom
import numpy as np
import pydicom
import pypdf
import pytest
import SimpleITK
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.masks import Labels, Segmentation
from orthanc_plugin.domain.volume import CtSeries
from tests.support.cases.body_results_case import values

KNOWN_WARNINGS = (
    "needed to build DICOMDIR",
    "Retired Person Name form",
    "DeviceUID(0018,1002)> - Attribute is not present in standard DICOM IOD",
    "Unrecognized defined term = <99AIE>",
)
BYTES_ERROR = "Length invalid for this VR"
"""dciodvfy counts bytes where PS3.5 6.2 counts characters."""
DCMQI_TROUBLE = re.compile(r"\berror\b", re.IGNORECASE)

_GROUP, _TRACKING_UID, _NUM = "125007", "112040", "NUM"


def tool(name: str) -> str:
    """Find the executable beside this Python or on the PATH; CI must have it."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    return str(found)


def output_of(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def complaints(path: Path) -> list[str]:
    """Errors and unknown warnings of dciodvfy, from its text: an error inside an SR may leave the exit status at 0."""
    status, text = output_of(tool("dciodvfy"), "-new", str(path))
    lines = [line for line in text.splitlines() if line.startswith(("Error", "Warning"))]
    assert status == 0 or any(line.startswith("Error") for line in lines), text
    return [line for line in lines if not any(known in line for known in KNOWN_WARNINGS)]


def dcmqi_reads_segments(path: Path, series: CtSeries, stored: Segmentation) -> None:
    """segimage2itkimage gives every voxel of every segment and no others."""
    with TemporaryDirectory() as folder:
        _, text = output_of(
            tool("segimage2itkimage"), "--inputDICOM", str(path), "--outputDirectory", folder, "--outputType", "nrrd"
        )
        assert not DCMQI_TROUBLE.search(text), text
        images = {file.stem: _on_grid(file, series) for file in Path(folder).glob("*.nrrd")}
    binary = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["BitsAllocated"]).BitsAllocated == 1
    if binary:
        assert set(images) == {str(segment.number) for segment in stored.segments}
        for segment in stored.segments:
            np.testing.assert_array_equal(images[str(segment.number)] != 0, stored.mask(segment))
    else:
        np.testing.assert_array_equal(images["1"], stored.labels)


def _on_grid(path: Path, series: CtSeries) -> Labels:
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


def highdicom_reads_segments(path: Path, series: CtSeries, stored: Segmentation) -> None:
    """Check that highdicom gives the label map by the slices, or the frames of one instance, that it was made of."""
    uids = [str(header.SOPInstanceUID) for header in series.headers]
    frames = [number for header in series.headers if (number := frame_number(header)) is not None]
    made, options = highdicom.seg.segread(path), {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if frames:
        labels = made.get_pixels_by_source_frame(uids[0], frames, skip_overlap_checks=True, dtype=np.uint8, **options)
    else:
        labels = made.get_pixels_by_source_instance(uids, skip_overlap_checks=True, dtype=np.uint8, **options)
    np.testing.assert_array_equal(labels, series.on_source(stored.labels))


def highdicom_reads_probabilities(path: Path, series: CtSeries, values: Sequence[NDArray[np.uint8]]) -> None:
    """Check that highdicom gives the probabilities of each segment by the slices, or frames, that it was made of."""
    uids = [str(header.SOPInstanceUID) for header in series.headers]
    frames = [number for header in series.headers if (number := frame_number(header)) is not None]
    made = highdicom.seg.segread(path)
    for number, expected in enumerate(values, start=1):
        options = {"segment_numbers": [number], "assert_missing_frames_are_empty": True}
        if frames:
            read = made.get_pixels_by_source_frame(uids[0], frames, **options)
        else:
            read = made.get_pixels_by_source_instance(uids, **options)
        np.testing.assert_allclose(read[..., 0], series.on_source(expected) / 255, atol=1e-6)


def dcmqi_reads_probabilities(path: Path, segments: int) -> None:
    """segimage2itkimage gives an image of each segment."""
    with TemporaryDirectory() as folder:
        _, text = output_of(
            tool("segimage2itkimage"), "--inputDICOM", str(path), "--outputDirectory", folder, "--outputType", "nrrd"
        )
        assert not DCMQI_TROUBLE.search(text), text
        assert len([*Path(folder).glob("*.nrrd")]) == segments


def dcmtk_reads_report(path: Path, title: str) -> None:
    """dsrdump prints the report with its title and every group."""
    status, text = output_of(tool("dsrdump"), str(path))
    assert (status, title in text) == (0, True), text[:2000]
    assert text.count('CONTAINER:(,,"Measurement Group")') == len(groups_of(path)) > 0
    assert not [line for line in text.splitlines() if line.startswith(("E:", "F:"))]


def dcmqi_reads_report(path: Path) -> None:
    """tid1500reader gives every group and every number in it."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        status, text = output_of(tool("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out))
        assert (status, DCMQI_TROUBLE.search(text)) == (0, None), text
        read = json.loads(out.read_text())["Measurements"]
    groups = groups_of(path)
    assert [group["TrackingUniqueIdentifier"] for group in read] == [_tracking(group) for group in groups]
    assert [len(group.get("measurementItems", ())) for group in read] == [len(numbers(group)) for group in groups]


def highdicom_reads_report(path: Path) -> None:
    """srread gives every group with its numbers."""
    content = highdicom.sr.srread(path).content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    read = [
        *content.get_image_measurement_groups(),
        *content.get_planar_roi_measurement_groups(),
        *content.get_volumetric_roi_measurement_groups(),
    ]
    groups = {_tracking(group): [_value(number) for number in numbers(group)] for group in groups_of(path)}
    assert {group.tracking_uid: [number.value for number in group.get_measurements()] for group in read} == groups


def dcmtk_reads_dataset(path: Path) -> None:
    """dcmdump parses the file to its end."""
    status, text = output_of(tool("dcmdump"), "-q", str(path))
    assert (status, text.count("\n") > 20) == (0, True), text[:2000]


def dcmtk_reads_picture(path: Path) -> None:
    """dcm2pnm gives the pixels that pydicom gives."""
    made = path.with_suffix(".ppm")
    status, text = output_of(tool("dcm2pnm"), "--write-raw-pnm", str(path), str(made))
    assert status == 0, text
    np.testing.assert_array_equal(np.asarray(Image.open(made)), pydicom.dcmread(path).pixel_array)


def dcmtk_reads_pdf(path: Path) -> None:
    """dcm2pdf gives a PDF of one page, which another library reads."""
    made = path.with_suffix(".pdf")
    status, text = output_of(tool("dcm2pdf"), str(path), str(made))
    assert status == 0, text
    (page,) = pypdf.PdfReader(made).pages
    assert "not for diagnosis" in page.extract_text() or "NOT FOR PATIENTS" in page.extract_text()


def dcmtk_reads_key_objects(path: Path, series: CtSeries) -> None:
    """dsrdump prints the list, and each image of it is a slice of the series or a segmentation."""
    status, text = output_of(tool("dsrdump"), "--print-all-codes", str(path))
    assert (status, "For Research" in text) == (0, True), text[:2000]
    assert not [line for line in text.splitlines() if line.startswith(("E:", "F:"))]
    document = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))
    named = [str(item.referenced_sop_instance_uid) for item in document.content.get_references()]
    assert text.count("contains IMAGE:") == len(named) > 0
    slices = {str(header.SOPInstanceUID) for header in series.headers}
    assert len(set(named) - slices) <= 1, "one segmentation"
    assert all(document.resolve_reference(uid)[0] == series.identity.study_instance_uid for uid in named)


def itk_reads_picture(path: Path) -> None:
    """SimpleITK gives the pixels that pydicom gives."""
    picture = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    np.testing.assert_array_equal(picture[0], pydicom.dcmread(path).pixel_array)


def groups_of(path: Path) -> list[Dataset]:
    return values(pydicom.dcmread(path), _GROUP)


def numbers(group: Dataset) -> list[Dataset]:
    """The measurements of a group; numbers that describe a measurement stand inside it."""
    return [item for item in group.ContentSequence if item.ValueType == _NUM]


def _value(number: Dataset) -> float:
    measured = number.MeasuredValueSequence[0]
    return float(measured.get("FloatingPointValue", measured.NumericValue))


def _tracking(group: Dataset) -> str:
    return str(values(group, _TRACKING_UID)[0].UID)
