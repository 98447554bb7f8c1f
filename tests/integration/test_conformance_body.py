"""Reports of body part regression by readers that are not ours: dciodvfy, dcmtk, dcmqi and highdicom.

dcmqi returns 0 even after an error: its output is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin.body import BodyLocation
from orthanc_plugin.ct import CtSeries
from orthanc_plugin.plan import Output
from orthanc_plugin.results.algorithm import concept
from orthanc_plugin.results.body_codes import LEVELS
from orthanc_plugin.series.read import read_series
from orthanc_plugin.validation.phantom import make_phantom
from orthanc_plugin.validation.phantom_dicom import encode_phantom
from tests.body_results_case import ENCODERS, body_report, values, whole_body
from tests.integration.test_conformance import DCMQI_TROUBLE, complaints, output_of, real, tool

CASES: dict[str, Callable[[], CtSeries]] = {
    "cip_ct64": lambda: real("cip_ct64/dicom"),
    "phantom": lambda: read_series(encode_phantom(make_phantom((24, 48, 56)))),
}
TITLES = dict.fromkeys(ENCODERS, "AI Enrichment Report") | {Output.VIEWER_LANDMARKS: "Imaging Measurement Report"}


@dataclass(frozen=True)
class Reports:
    """What one series gave, as files."""

    series: CtSeries
    location: BodyLocation
    folder: Path

    def path(self, kind: Output) -> Path:
        return self.folder / f"{kind}.dcm"

    def groups(self, kind: Output) -> list[Dataset]:
        return values(pydicom.dcmread(self.path(kind)), "125007")


@pytest.fixture(scope="module", params=CASES)
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    series = CASES[request.param]()
    written = Reports(series, whole_body(series), tmp_path_factory.mktemp("reports"))
    for kind in ENCODERS:
        body_report(kind, series, written.location, "a note").save_as(written.path(kind), enforce_file_format=True)
    return written


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_validator_has_nothing_to_say(reports: Reports, kind: Output) -> None:
    assert complaints(reports.path(kind)) == []


@pytest.mark.parametrize("kind", ENCODERS)
def test_dcmtk_reads_the_report(reports: Reports, kind: Output) -> None:
    status, text = output_of(tool("dsrdump"), str(reports.path(kind)))
    assert (status, TITLES[kind] in text) == (0, True)
    assert not [line for line in text.splitlines() if line.startswith(("E:", "F:"))]


@pytest.mark.parametrize("kind", ENCODERS)
def test_dcmqi_reads_every_group(reports: Reports, kind: Output, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    status, text = output_of(
        tool("tid1500reader"), "--inputDICOM", str(reports.path(kind)), "--outputMetadata", str(out)
    )
    assert (status, DCMQI_TROUBLE.search(text)) == (0, None), text
    read = json.loads(out.read_text())["Measurements"]
    assert [group["TrackingUniqueIdentifier"] for group in read] == [
        values(group, "112040")[0].UID for group in reports.groups(kind)
    ]


def test_highdicom_reads_landmarks_as_they_were_meant(reports: Reports) -> None:
    _, *groups = image_groups(reports.path(Output.BODY_LANDMARKS))
    for group, landmark in zip(groups, reports.location.landmarks, strict=True):
        (region,) = group.get_qualitative_evaluations(codes.DCM.TargetRegion)
        assert region.value == concept(LEVELS[landmark.key].structure)
        (level,) = group.get_measurements()
        assert level.value == pytest.approx(landmark.z_mm)
        (image,) = group.source_images
        assert image.referenced_sop_instance_uid == reports.series.headers[landmark.slice_index].SOPInstanceUID


def test_highdicom_reads_regions_slice_by_slice(reports: Reports) -> None:
    _, *groups = image_groups(reports.path(Output.BODY_REGIONS))
    slices = [group for group in groups if group.finding_type is None]
    expected = sorted({index for indices in reports.location.regions.values() for index in indices})
    assert [group.source_images[0].referenced_sop_instance_uid for group in slices] == [
        reports.series.headers[index].SOPInstanceUID for index in expected
    ]
    assert len(groups) - len(slices) == len(reports.location.regions)


def image_groups(path: Path) -> list[sr.MeasurementsAndQualitativeEvaluations]:
    content = sr.srread(path).content
    assert isinstance(content, sr.MeasurementReport)
    return content.get_image_measurement_groups()


def test_highdicom_reads_points_of_the_viewer_report(reports: Reports) -> None:
    content = sr.srread(reports.path(Output.VIEWER_LANDMARKS)).content
    assert isinstance(content, sr.MeasurementReport)
    groups = content.get_planar_roi_measurement_groups()
    for group, landmark in zip(groups, reports.location.landmarks, strict=True):
        assert isinstance(group.roi, sr.ImageRegion)
        assert group.roi.graphic_type is sr.GraphicTypeValues.POINT
        assert group.finding_type == concept(LEVELS[landmark.key].structure)
