"""`orthanc-enrich run`: a folder in, objects out, without a PACS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from orthanc_plugin.cli import main as cli
from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr, to_csv, to_json
from tests.support.cases.enriched import small_chest
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
        "retrieve",
        "segment",
        "measure",
        "report",
        "check",
    ]
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


def test_a_folder_of_which_nothing_can_be_used_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, ds in enumerate(ct_series(2)):
        ds.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    code, outcomes = run(tmp_path, tmp_path / "out", capsys)
    assert code == cli.EXIT_FAILED
    assert [outcome["reason"] for outcome in outcomes] == ["too-few-slices"]
    assert not (tmp_path / "out").exists()
