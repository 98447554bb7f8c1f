"""Body part regression in a real Orthanc: a phantom arrives, and where it lies in the body comes back as SR."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import Refusal
from orthanc_plugin.phantoms.dicom import PatientPosition, encode_phantom, write_instances
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from tests.conformance.readers import complaints
from tests.support.cases.body_results_case import values
from tests.support.cases.enriched import EnrichedOrthanc, files_of
from tests.support.cases.realct import real_ct
from tests.support.phantoms.body import LEVELS_MM

STANDIN = "bpr_standin"
TOLERANCE_MM, MEAN_MM = 20.0, 12.0
"""Measured: docs/models/bpr_standin.md."""
BODY = {"Outputs": ["seg", "body-landmarks", "body-regions"], "Radiomics": False, "Locate": STANDIN}
RULES = [
    {"Name": "covered", "Match": {"SeriesDescription": "whole chest wanted"}, "MinCoverage": {"chest": 0.8}, **BODY},
    {"Name": "body", **BODY},
]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom((56, 80, 80))


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    with EnrichedOrthanc(section={"Rules": RULES}) as orthanc:
        orthanc.await_service()
        yield orthanc


@pytest.fixture(scope="module")
def supine(server: EnrichedOrthanc, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The phantom's files, head first, once it was sent and is done."""
    return sent(server, encode_phantom(phantom), tmp_path_factory.mktemp("phantom"))


def sent(server: EnrichedOrthanc, instances: Sequence[FileDataset], folder: Path) -> list[Path]:
    files = write_instances(folder, instances)
    server.stow(files)
    row = server.await_final(instances[0].SeriesInstanceUID, within_s=300)
    assert (row["state"], row["reason"]) == ("done", ""), row
    return files


def job_of(server: EnrichedOrthanc, files: Sequence[Path]) -> dict[str, Any]:
    (row,) = server.rows(dcmread(files[0]).SeriesInstanceUID)
    job: dict[str, Any] = server.api(f"jobs/{row['job_id']}")
    return job


def location(server: EnrichedOrthanc, files: Sequence[Path]) -> dict[str, Any]:
    """Where the scan lies, as the API tells it."""
    found: dict[str, Any] = job_of(server, files)["location"]
    return found


def report(server: EnrichedOrthanc, files: Sequence[Path], kind: Output) -> Dataset:
    (uid,) = (stored["sop_instance_uid"] for stored in job_of(server, files)["objects"] if stored["kind"] == kind)
    (found,) = (ds for ds in server.results(dcmread(files[0]).StudyInstanceUID) if uid == ds.SOPInstanceUID)
    return found


def levels_of(sr: Dataset) -> dict[str, tuple[float, str]]:
    """Key to LPS z and the source instance of each landmark in a report."""
    found = {}
    for group in values(sr, "125007"):
        for level in values(group, "BPR_LEVEL"):
            (told,) = values(group, "112039")
            (image,) = (item for item in group.ContentSequence if item.ValueType == "IMAGE")
            uid = str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            found[told.TextValue.split()[0]] = (float(level.MeasuredValueSequence[0].NumericValue), uid)
    return found


def test_landmarks_of_the_stored_report_lie_where_the_phantom_has_them(
    server: EnrichedOrthanc, supine: list[Path], phantom: Phantom
) -> None:
    found = levels_of(report(server, supine, Output.BODY_LANDMARKS))
    inside = phantom.volume.affine[2, 3] + TOLERANCE_MM
    expected = {key for key, mm in LEVELS_MM.items() if inside < mm < -inside}
    assert {"lung_start", "lung_end", "Th1", "Th8"} <= expected <= found.keys()
    errors = {key: abs(z_mm - LEVELS_MM[key]) for key, (z_mm, _) in found.items()}
    assert max(errors.values()) < TOLERANCE_MM, errors
    assert np.mean(list(errors.values())) < MEAN_MM, errors


def test_each_landmark_names_the_slice_nearest_to_it(server: EnrichedOrthanc, supine: list[Path]) -> None:
    heights = {str(ds.SOPInstanceUID): float(ds.ImagePositionPatient[2]) for ds in map(dcmread, supine)}
    for z_mm, uid in levels_of(report(server, supine, Output.BODY_LANDMARKS)).values():
        assert abs(heights[uid] - z_mm) == pytest.approx(min(abs(mm - z_mm) for mm in heights.values()), abs=1e-3)


def test_regions_of_the_phantom_are_its_chest_and_what_borders_on_it(
    server: EnrichedOrthanc, supine: list[Path]
) -> None:
    found = location(server, supine)
    chest = found["regions"]["chest"]
    at_lungs = [index for index, z_mm in enumerate(found["z_mm"]) if -90 < z_mm < 100]
    assert set(at_lungs) <= set(chest)
    assert "pelvis" not in found["regions"]
    assert found["coverage"]["chest"] > 0.8
    assert found["valid_spacing"]
    assert not found["reversed"]
    slices = {
        str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for image in values_of_type(report(server, supine, Output.BODY_REGIONS), "IMAGE")
    }
    heights = np.array(found["z_mm"])
    uids = {round(float(ds.ImagePositionPatient[2]), 2): str(ds.SOPInstanceUID) for ds in map(dcmread, supine)}
    assert {uids[round(float(heights[index]), 2)] for index in chest} <= slices


def values_of_type(sr: Dataset, value_type: str) -> list[Dataset]:
    groups = values(sr, "125007")
    return [item for group in groups for item in group.ContentSequence if item.ValueType == value_type]


def test_feet_first_gives_the_same_landmarks(
    server: EnrichedOrthanc, supine: list[Path], phantom: Phantom, tmp_path: Path
) -> None:
    files = sent(server, encode_phantom(phantom, position=PatientPosition.FFS), tmp_path)
    other, first = (levels_of(report(server, found, Output.BODY_LANDMARKS)) for found in (files, supine))
    assert other.keys() == first.keys()
    assert {key: z_mm for key, (z_mm, _) in other.items()} == pytest.approx({k: z_mm for k, (z_mm, _) in first.items()})


def test_the_validator_finds_no_error(server: EnrichedOrthanc, supine: list[Path], tmp_path: Path) -> None:
    for kind in (Output.BODY_LANDMARKS, Output.BODY_REGIONS):
        path = tmp_path / f"{kind}.dcm"
        report(server, supine, kind).save_as(path, enforce_file_format=True)
        assert complaints(path) == []


def test_a_scan_without_the_chest_is_refused_by_a_rule_that_wants_it(
    server: EnrichedOrthanc, phantom: Phantom, tmp_path: Path
) -> None:
    instances = encode_phantom(phantom, uid_seed="lower part")
    lower = [ds for ds in instances if ds.ImagePositionPatient[2] < -25]
    for ds in lower:
        ds.SeriesDescription = "whole chest wanted"
    server.stow(write_instances(tmp_path, lower))
    row = server.await_final(lower[0].SeriesInstanceUID)
    assert (row["state"], row["reason"]) == ("skipped", Refusal.NOT_COVERED)
    assert re.search(r"chest 0\.\d\d covered, 0\.80 wanted", row["detail"]), row
    assert [ds.Modality for ds in server.results(lower[0].StudyInstanceUID)] == []


@pytest.mark.real_ct
def test_a_patient_is_not_located_by_the_stand_in(server: EnrichedOrthanc) -> None:
    files = files_of(real_ct("cip_ct64/dicom"))
    server.stow(files)
    patient = dcmread(files[0])
    row = server.await_final(patient.SeriesInstanceUID, within_s=300)
    assert row["state"] == "done"
    assert location(server, files) is None
    assert [ds.Modality for ds in server.results(patient.StudyInstanceUID)] == ["SEG"]
