"""`orthanc-enrich measure`: a SEG or an RT structure set of any maker and its CT in, SR and tables out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from orthanc_plugin.cli import main as cli
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from orthanc_plugin.series.read import read_series
from tests.support.cases.foreign_case import highdicom_seg, rtstruct, square


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CtSeries]:
    folder = tmp_path_factory.mktemp("ct")
    instances = encode_phantom(make_phantom((24, 32, 32), (5, 12, 12)))
    for number, ds in enumerate(instances):
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder, read_series(iter(instances))


@pytest.fixture(scope="module")
def seg_file(chest: tuple[Path, CtSeries], tmp_path_factory: pytest.TempPathFactory) -> Path:
    mask = np.zeros(chest[1].source_shape, bool)
    mask[8:14, 10:20, 10:20] = True
    file = tmp_path_factory.mktemp("masks") / "seg.dcm"
    highdicom_seg(chest[1], [mask]).save_as(file, enforce_file_format=True)
    return file


def measure(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = cli.main(["measure", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_seg_gives_a_report_and_tables(
    chest: tuple[Path, CtSeries], seg_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = measure(capsys, "--seg", seg_file, "--ct", chest[0], "--out", tmp_path)
    assert code == cli.EXIT_DONE
    report = Path(told["report"])
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".csv", ".dcm", ".json", ".parquet"]
    rows = read_radiomics_sr(dcmread(report))
    assert (told["structures"], told["values"]) == (1, 107)
    assert {row.voxels for row in rows} == {600}
    assert json.loads(report.with_suffix(".json").read_text())[0]["seg_sop_instance_uid"] == "2.25.7001"
    again, _ = measure(capsys, "--seg", seg_file, "--ct", chest[0], "--out", tmp_path)
    assert again == cli.EXIT_DONE
    assert len([*tmp_path.glob("*.dcm")]) == 1


def test_an_rtstruct_gives_the_same_in_words(
    chest: tuple[Path, CtSeries], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rois = {"GTV": {z: [square(4.6, 4.6, 12.4, 12.4)] for z in range(5, 9)}, "none": {}}
    file = tmp_path / "rtstruct.dcm"
    rtstruct(chest[1], rois).save_as(file, enforce_file_format=True)
    words = ["measure", "--rtstruct", str(file), "--ct", str(chest[0]), "--out", str(tmp_path / "out")]
    assert cli.main(words) == cli.EXIT_DONE
    said = capsys.readouterr().out
    assert "structures: 2" in said
    assert "without a value, with the reason: 107" in said
    assert "none: the ROI has no closed contour" in said


def test_the_settings_are_those_of_the_rule_that_is_named(
    chest: tuple[Path, CtSeries], seg_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [{"Name": "first"}, {"Name": "fine", "RadiomicsSettings": {"BinWidth": 10, "Classes": ["firstorder"]}}]
    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps({"Enrichment": {"Rules": rules}}))
    options = ("--seg", seg_file, "--ct", chest[0], "--config", config)
    _, told = measure(capsys, *options, "--rule", "fine", "--out", tmp_path / "out")
    rows = read_radiomics_sr(dcmread(told["report"]))
    assert {row.discretisation for row in rows} == {"width 10 HU from -1000 HU"}
    code, told = measure(capsys, *options, "--rule", "no", "--out", tmp_path / "out")
    assert (code, told) == (cli.EXIT_CONFIG, {"error": "no rule is called no"})


def test_an_object_of_an_archive_is_named_by_its_uids(
    chest: tuple[Path, CtSeries], seg_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "archive"
    for file in (*chest[0].iterdir(), seg_file):
        ds = dcmread(file)
        place = archive / ds.StudyInstanceUID / ds.SeriesInstanceUID
        place.mkdir(parents=True, exist_ok=True)
        ds.save_as(place / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps({"Enrichment": {"Archives": {"share": {"Folder": str(archive)}}}}))
    seg = dcmread(seg_file)
    named = f"{seg.StudyInstanceUID}/{seg.SeriesInstanceUID}/{seg.SOPInstanceUID}"
    options = ("--archive", "share", "--config", config, "--out", tmp_path / "out")
    for which in (named, seg_file):
        code, told = measure(capsys, "--seg", which, *options)
        assert (code, told["values"]) == (cli.EXIT_DONE, 107)
    code, told = measure(capsys, "--seg", "1.2/1.3/1.4", *options)
    assert code == cli.EXIT_CONFIG
    assert "archive share has no such object" in told["error"]


@pytest.mark.parametrize(
    ("keyword", "value", "error"),
    [
        ("FrameOfReferenceUID", "2.25.9", "frame of reference"),
        ("Modality", "OT", "the object is not a SEG"),
    ],
)
def test_masks_that_do_not_fit_fail_with_the_reason(
    chest: tuple[Path, CtSeries], seg_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    keyword: str, value: str, error: str,
) -> None:  # fmt: skip
    ds = dcmread(seg_file)
    setattr(ds, keyword, value)
    ds.save_as(tmp_path / "odd.dcm", enforce_file_format=True)
    code, told = measure(capsys, "--seg", tmp_path / "odd.dcm", "--ct", chest[0], "--out", tmp_path / "out")
    assert code == cli.EXIT_FAILED
    assert error in told["error"]
    assert not [*(tmp_path / "out").glob("*")]


def test_wrong_places_are_told(
    chest: tuple[Path, CtSeries], seg_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "out")
    (tmp_path / "text.dcm").write_text("no DICOM")
    for words, code, error in (
        (("--seg", seg_file, "--ct", tmp_path / "absent"), cli.EXIT_CONFIG, "is not a folder"),
        (("--seg", tmp_path / "absent.dcm", "--ct", chest[0]), cli.EXIT_CONFIG, "is no file"),
        (("--seg", tmp_path / "text.dcm", "--ct", chest[0]), cli.EXIT_FAILED, "is not a DICOM file"),
        (("--seg", seg_file, "--archive", "nowhere"), cli.EXIT_CONFIG, "has no archive nowhere"),
        (("--seg", seg_file, "--ct", seg_file.parent), cli.EXIT_FAILED, "name no CT series of the 0"),
    ):
        assert measure(capsys, *words, *out)[0] == code, words
        assert error in measure(capsys, *words, *out)[1]["error"]
