"""Reports of body part regression say to highdicom what was meant; test_conformance.py has the other readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from highdicom import sr
from pydicom.sr.codedict import codes

from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.sr.body_codes import LEVELS
from tests.conformance.cases import SMALL
from tests.support.cases.body_results_case import ENCODERS, body_report, whole_body


@dataclass(frozen=True)
class Reports:
    """What one series gave, as files."""

    series: CtSeries
    location: BodyLocation
    folder: Path

    def path(self, kind: Output) -> Path:
        return self.folder / f"{kind}.dcm"


@pytest.fixture(scope="module", params=["cip_ct64", "phantom"])
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    series = SMALL[request.param]()
    written = Reports(series, whole_body(series), tmp_path_factory.mktemp("reports"))
    for kind in ENCODERS:
        body_report(kind, series, written.location, "a note").save_as(written.path(kind), enforce_file_format=True)
    return written


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
