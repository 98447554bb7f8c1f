"""`orthanc-enrich validate`: folders, pairs, an archive and corrections in; tables, page and reports out."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from orthanc_plugin.cli import main as cli
from tests.support.cases.expert_case import by_ohif, drawn_seg, edited, organs, our_seg, read, small_ct, write


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with two patients' CTs, our SEGs and an expert's, and a file that is no DICOM."""
    root = tmp_path_factory.mktemp("site")
    for number in (1, 2):
        ct = small_ct(uid_seed=str(number))
        series = read(ct)
        write(root / "ct", *ct)
        write(root / "ai", our_seg(series, uid=f"2.25.500{number}"))
        masks = edited(series) if number == 1 else organs(series)
        names = {"Lung_L": masks["lung_left"], "Lung_R": masks["lung_right"]}
        write(root / "expert", drawn_seg(series, names, uid=f"2.25.800{number}"))
        write(root / "edits", by_ohif(series, edited(series)))
    (root / "expert" / "notes.txt").write_text("no DICOM")
    return root


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = cli.main(["validate", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def table(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))


def test_folders_give_tables_a_page_and_reports(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(
        capsys, "--ai", site / "ai", "--expert", site / "expert", "--ct", site / "ct", "--out", tmp_path, "--sr",
        "--viewer", "http://127.0.0.1:8043",
    )  # fmt: skip
    assert (code, told["refused"]) == (cli.EXIT_DONE, 0)
    rows = {(row["structure"], row["status"]): row for row in table(tmp_path, "validation")}
    assert rows["Lung_R", "both"]["dice"] == "1.0"
    assert rows.keys() == {("Lung_R", "both"), ("Lung_L", "both"), ("Trachea and main bronchi", "extra")}
    summary = {row["metric"]: row for row in table(tmp_path, "validation-summary") if row["structure"] == "Lung_L"}
    assert (summary["dice"]["count"], summary["dice"]["patients"]) == ("2", "2")
    assert float(summary["dice"]["lowest"]) < float(summary["dice"]["mean"]) < float(summary["dice"]["highest"]) == 1.0
    page = (tmp_path / "validation.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://127.0.0.1:8043/enrichment/open?StudyInstanceUID=" in page
    assert not re.search(r"(src|href)=\"(?!data:|http://127\.0\.0\.1:8043/)", page)
    assert "<script" not in page
    reports = [dcmread(file) for file in tmp_path.glob("*.dcm")]
    assert [ds.SeriesDescription.split()[0] for ds in reports] == ["Comparison"] * 2
    assert {Path(file).suffix for file in told["files"]} == {".csv", ".json", ".parquet", ".html"}


def test_pairs_and_words(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = site / "pairs.csv"
    pairs.write_text("ai,expert\nai/2.25.5001.dcm,expert/2.25.8001.dcm\n")
    words = ["--pairs", str(pairs), "--ct", str(site / "ct"), "--out", str(tmp_path)]
    assert cli.main(["validate", *words]) == cli.EXIT_DONE
    said = capsys.readouterr().out
    assert "Lung_L" in said
    assert "validation.html" in said


def test_corrections_are_found_in_a_folder(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, "--corrections", "--ct", site, "--out", tmp_path)
    assert code == cli.EXIT_DONE
    assert told["notes"] == []
    rows = table(tmp_path, "corrections")
    assert {(row["editor"], row["recognised_by"]) for row in rows} >= {("OHIF Editor", "unchanged slices")}


def test_no_correction_is_said(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, "--corrections", "--ct", site / "ct", "--out", tmp_path)
    assert (code, told["notes"]) == (cli.EXIT_DONE, ["no correction was found"])


def test_objects_without_a_partner_are_rows(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stray = dcmread(next((site / "expert").glob("*.dcm")))
    stray.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.9999"
    stray.SOPInstanceUID = stray.file_meta.MediaStorageSOPInstanceUID = "2.25.8009"
    write(tmp_path / "expert", stray)
    whole = (site / "expert" / "2.25.8001.dcm").read_bytes()
    (tmp_path / "expert" / "broken.dcm").write_bytes(whole[: len(whole) // 2])
    words = ("--ai", site / "ai", "--expert", tmp_path / "expert", "--ct", site / "ct", "--out", tmp_path / "out")
    code, told = run(capsys, *words)
    assert (code, told["refused"]) == (cli.EXIT_FAILED, 3)
    reasons = {row["reason"] for row in table(tmp_path / "out", "validation")}
    assert reasons == {"the CT of the masks is not there", "no expert's object is of this CT"}
    assert told["notes"] == ["broken.dcm is DICOM and cannot be read"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "name --ai and --expert, or --pairs, or --corrections"),
        (("--ai", "a"), "name --ai and --expert, or --pairs, or --corrections"),
        (("--corrections", "--tolerance", "-1"), "must not be negative"),
        (("--corrections", "--tolerance", "nan"), "must not be negative"),
        (("--ai", "no", "--expert", "no"), "no is no file or folder"),
        (("--ai", "no", "--expert", "no", "--study", "1"), "--study goes with --corrections"),
        (("--pairs", "no.csv"), "cannot be read"),
        (("--corrections", "--rule", "no"), "no rule is called no"),
    ],
)
def test_wrong_use_is_said(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], error: str
) -> None:
    code, told = run(capsys, *words, "--ct", site / "ct", "--out", tmp_path)
    assert code == cli.EXIT_CONFIG
    assert error in told["error"]
