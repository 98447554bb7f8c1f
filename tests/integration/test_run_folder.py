"""`orthanc-enrich run`: a folder in, objects out, without a PACS."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from orthanc_plugin.cli import main as cli
from orthanc_plugin.phantoms.dicom import encode_phantom, write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr, to_csv, to_json
from tests.support.cases.enriched import small_chest
from tests.support.cases.odd_series import ODD, odd_series
from tests.support.fakes.memory_archive import ct_series


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small chest, a series of two slices, and a file that is no DICOM."""
    folder = tmp_path_factory.mktemp("chest")
    write_phantom(folder / "chest", small_chest())
    for number, ds in enumerate(ct_series(2, series="1.2.77")):
        ds.save_as(folder / f"short-{number}.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("no DICOM")
    return folder


def run(folder: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, Any]]]:
    code = cli.main(["run", str(folder), "--out", str(out), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_folder_gives_objects_reasons_and_the_title_of_the_setting(
    chest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENRICHMENT__REPORT_TITLE__VALUE", "OURTITLE")
    code, outcomes = run(chest, tmp_path / "out", capsys)
    assert code == cli.EXIT_DONE
    states = {outcome["state"]: outcome for outcome in outcomes}
    assert {*states} == {"done", "skipped"}
    assert states["skipped"]["reason"] == "too-few-slices"
    done = states["done"]
    assert [stage["name"].split()[0] for stage in done["stages"]] == [
        "retrieve", "segment", "segment", "measure", "report", "check"
    ]  # fmt: skip
    assert done["provider"] == "cpu"
    assert done["volumes_ml"]["lung_left"] > 100
    stored = {kind: dcmread(file) for kind, file in done["files"].items()}
    modalities = {kind: ds.Modality for kind, ds in stored.items()}
    assert modalities == {"seg": "SEG", "radiomics": "SR", "landmarks": "SR", "checks": "SR"}
    titles = {ds.ConceptNameCodeSequence[0].CodeValue for ds in stored.values() if ds.Modality == "SR"}
    assert titles == {"OURTITLE"}
    report = Path(done["files"]["radiomics"])
    rows = read_radiomics_sr(stored["radiomics"])
    assert len(rows) > 200
    assert report.with_suffix(".csv").read_bytes() == to_csv(rows).encode()
    assert report.with_suffix(".json").read_text() == to_json(rows)

    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    again = {outcome["state"]: outcome for outcome in run(chest, tmp_path / "out", capsys)[1]}
    assert again["done"]["files"]["seg"] == done["files"]["seg"]
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert {name: after[name] for name in before} == before


def test_a_damaged_series_ends_alone_and_the_other_is_done(
    chest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "both"
    shutil.copytree(chest / "chest", folder)
    other = make_phantom((24, 16, 16), (5, 20, 20))
    for number, ds in enumerate(encode_phantom(other, uid_seed="other")):
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        ds.save_as(folder / f"other_{number}.dcm", enforce_file_format=True)
    damaged = folder / "other_2.dcm"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:600] + b"\xff" * 20 + content[620:])
    code, outcomes = run(folder, tmp_path / "out", capsys)
    assert code == cli.EXIT_FAILED
    assert sorted((outcome["state"], outcome["reason"]) for outcome in outcomes) == [
        ("done", ""),
        ("skipped", "unreadable"),
    ]
    (skipped,) = (outcome for outcome in outcomes if outcome["state"] == "skipped")
    assert skipped["unread"]["of_series"] == [str(damaged)]


@pytest.mark.real_ct
@pytest.mark.parametrize("name", ["two scouts", "rows at 45 degrees", "no frame of reference", "same file twice"])
def test_odd_series_end_done_with_a_note(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, ds in enumerate(odd_series(name)):
        (tmp_path / "ct").mkdir(exist_ok=True)
        ds.save_as(tmp_path / "ct" / f"{number:03}.dcm", enforce_file_format=True)
    code, (outcome,) = run(tmp_path / "ct", tmp_path / "out", capsys)
    assert (code, outcome["state"], outcome["reason"]) == (cli.EXIT_DONE, "done", "")
    assert ODD[name].note in " ".join(outcome["notes"])
    assert outcome["volumes_ml"]["lung_left"] > 1000
    assert outcome["volumes_ml"]["lung_right"] > 1000


def test_a_folder_of_which_nothing_can_be_used_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, ds in enumerate(ct_series(2)):
        ds.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    code, outcomes = run(tmp_path, tmp_path / "out", capsys)
    assert code == cli.EXIT_FAILED
    assert [outcome["reason"] for outcome in outcomes] == ["too-few-slices"]
    assert not (tmp_path / "out").exists()
