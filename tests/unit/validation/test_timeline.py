"""A patient over time: two phantoms whose growth is known, and what makes scans hard to compare."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.cli import main as cli
from orthanc_plugin.codes import Code
from orthanc_plugin.cohort.reading import unit_of
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.measures import FeatureValue, SegmentFeatures
from orthanc_plugin.domain.plan import SegSettings
from orthanc_plugin.errors import ConfigError, InputError
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series
from orthanc_plugin.validation.timeline import VOLUME, Change, Limit, Value, read_limits, timeline
from tests.conformance import readers
from tests.support.cases.expert_case import write
from tests.support.cases.foreign_case import as_read
from tests.support.cases.results_case import LUNG_LEFT, LUNG_RIGHT, encode, radiomics_report, segment

GROWTH = 1.04**3
LIMITS = {("Lung_L", "volume"): Limit(0.02, "a test"), ("Lung_R", "volume"): Limit(0.06, "a test")}


def study(number: int, growth: float, date: str, kernel: str = "B30f") -> list[Dataset]:
    """A phantom that grew, with the radiomics report on its true lungs."""
    phantom = make_phantom((24, 32, 32), tuple(mm * growth ** (1 / 3) for mm in (8.0, 12.0, 12.0)))  # type: ignore[arg-type]
    instances = list(encode_phantom(phantom, uid_seed=str(number)))
    for ds in instances:
        ds.PatientID, ds.StudyDate, ds.ConvolutionKernel = "P 1", date, kernel
    series = read_series(iter(instances))
    labels = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    for label in (LUNG_LEFT, LUNG_RIGHT):
        labels[phantom.labels == {"lung_left": 2, "lung_right": 3}[label.key]] = label.number
    found = Segmentation(labels, tuple(segment(label) for label in (LUNG_LEFT, LUNG_RIGHT)))
    seg = as_read(encode(series, found, sop_instance_uid=f"2.25.90{number}", settings=SegSettings()))
    voxel_mm3 = float(np.prod(series.volume.spacing_mm))
    mm3 = Code("mm3", "UCUM", "cubic millimeter")
    concept = Code("YEKZ", "IBSI", "Volume from Voxel Summation")
    features = [
        SegmentFeatures(n, (FeatureValue(VOLUME, concept, mm3, float((labels == label.number).sum() * voxel_mm3)),))
        for n, label in enumerate((LUNG_LEFT, LUNG_RIGHT), 1)
    ]
    report = radiomics_report(series, seg, features)
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = f"2.25.91{number}"
    report.SeriesInstanceUID = f"2.25.92{number}"
    return [*instances, seg, report]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write(folder, *study(1, 1.0, "20240110"), *study(2, GROWTH, "20240710"), *study(3, GROWTH, "20250110", "B70f"))
    return folder


def values(folder: Path, patient: str = "P 1") -> dict[tuple[str, str], Value]:
    found, notes = timeline(FolderArchive(folder, folder / "out"), patient, (VOLUME,), LIMITS)
    assert notes == ()
    return {(value.structure, value.date): value for value in found}


def test_growth_is_found_and_judged_by_repeatability(site: Path) -> None:
    found = values(site)
    assert len(found) == 6
    first, second, third = (found["Lung_L", date] for date in ("2024-01-10", "2024-07-10", "2025-01-10"))
    assert (first.change, first.change_percent, first.prior_study) == (Change.FIRST, None, "")
    assert second.change_percent == pytest.approx(100 * (GROWTH - 1), abs=0.01)
    assert (second.change, second.days, second.prior_study) == (Change.BEYOND, 182, first.study_instance_uid)
    assert (third.change, third.change_percent) == (Change.WITHIN, pytest.approx(0.0, abs=1e-6))
    assert third.total_percent == pytest.approx(100 * (GROWTH - 1), abs=0.01)
    assert third.note == "another kernel (B30f, now B70f)"
    assert found["Lung_R", "2024-07-10"].change is Change.WITHIN


def test_a_limit_is_the_repeatability_of_two_measurements() -> None:
    low, high = Limit(0.05, "x").percent
    assert high == pytest.approx(14.87, abs=0.01)
    assert (1 + low / 100) * (1 + high / 100) == pytest.approx(1.0)
    rng = np.random.default_rng(3)
    one, other = np.exp(rng.normal(0, 0.05, (2, 20000)))
    change = 100 * (other / one - 1)
    assert float(((low <= change) & (change <= high)).mean()) == pytest.approx(0.95, abs=0.006)


def test_other_patients_do_not_come_in(site: Path, tmp_path: Path) -> None:
    assert values(site, "P 2") == {}
    for wrong in ("P*", "", " ", "P?1", "a\\b"):
        with pytest.raises(InputError, match="without wildcards"):
            values(site, wrong)


def test_without_a_limit_nothing_is_judged(site: Path) -> None:
    found, _ = timeline(FolderArchive(site, site / "out"), "P 1", (VOLUME,), {})
    assert {value.change for value in found} == {Change.FIRST, Change.UNKNOWN}


def test_the_limits_of_the_project_name_their_source() -> None:
    limits = read_limits()
    assert {("Lung_L", "volume"), ("Lung_R", "volume")} <= limits.keys()
    assert all("LIDC-IDRI-0314" in limit.source for limit in limits.values())


@pytest.mark.parametrize("text", ["", "structure,measure\na,b\n", "structure,measure,wcv_percent,source\na,b,120,c\n",
                                  "structure,measure,wcv_percent,source\na,b,x,c\n"])  # fmt: skip
def test_limits_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "limits.csv"
    file.write_text(text)
    if text:
        with pytest.raises(ConfigError, match=r"limits\.csv"):
            read_limits(file)
    else:
        assert read_limits(file) == {}


def test_the_command_writes_table_and_page(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = tmp_path / "limits.csv"
    limits.write_text("structure,measure,wcv_percent,source\nLung_L,volume,2,a test\n")
    words = ["timeline", "--patient", "P 1", "--ct", str(site), "--limits", str(limits), "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--json"]) == cli.EXIT_DONE
    assert len(json.loads(capsys.readouterr().out)["values"]) == 6
    rows = list(csv.DictReader((tmp_path / "out" / "timeline.csv").read_text().splitlines()))
    assert {row["unit"] for row in rows} == {"mL"}
    page = (tmp_path / "out" / "timeline.html").read_text()
    assert page.count("<svg") == 2
    assert "P 1" not in page
    assert cli.main(words) == cli.EXIT_DONE
    assert "beyond repeatability" in capsys.readouterr().out
    assert cli.main([*words[:2], "nobody", *words[3:]]) == cli.EXIT_FAILED


def test_growth_as_sr_has_points_in_time_and_names_the_reports_of_all_studies(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["timeline", "--patient", "P 1", "--ct", str(site), "--out", str(tmp_path), "--sr", "--json"]
    assert cli.main(words) == cli.EXIT_DONE
    told = json.loads(capsys.readouterr().out)
    (file,) = [Path(name) for name in told["files"] if name.endswith(".dcm")]
    assert readers.complaints(file) == []
    readers.highdicom_reads_report(file)
    ds = dcmread(file)
    assert (ds.StudyDate, ds.PatientID) == ("20250110", "P 1")
    others = {str(item.StudyInstanceUID) for item in ds.PertinentOtherEvidenceSequence}
    assert len(others) == 2
    named = {str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
    assert {f"2.25.91{number}" for number in (1, 2, 3)} <= named

    groups: dict[str, list[dict[str, object]]] = {}
    for group in ds.ContentSequence[-1].ContentSequence:
        items = {item.ConceptNameCodeSequence[0].CodeValue: item for item in group.ContentSequence}
        point = items["C2348792"]
        numbers = {
            code: float(item.MeasuredValueSequence[0].NumericValue)
            for code, item in items.items()
            if item.ValueType == "NUM"
        }
        groups.setdefault(items["112040"].UID, []).append({"date": point.TextValue, **numbers})
    assert len(groups) == 2
    left = next(found for found in groups.values() if found[1]["TML_PRIOR"])
    assert [one["date"] for one in left] == ["2024-01-10", "2024-07-10", "2025-01-10"]
    assert [one["128740"] for one in left] == [0, 182, 366]
    assert left[1]["TML_PRIOR"] == pytest.approx(100 * (GROWTH - 1), abs=0.01)
    assert left[2]["TML_TOTAL"] == pytest.approx(100 * (GROWTH - 1), abs=0.01)
    again = tmp_path / "again"
    assert cli.main([*words[:6], str(again), "--sr"]) == cli.EXIT_DONE
    assert [one.name for one in again.glob("*.dcm")] == [file.name]


def test_what_a_timeline_reports_is_no_measurement_of_its_series(site: Path, tmp_path: Path) -> None:
    assert (
        cli.main(["timeline", "--patient", "P 1", "--ct", str(site), "--out", str(tmp_path), "--sr"]) == cli.EXIT_DONE
    )
    (file,) = tmp_path.glob("*.dcm")
    unit = unit_of(dcmread(file), "here", str)
    assert unit is not None
    assert (unit.model, unit.rows) == ("timeline", {})
    assert "several studies" in unit.reason
