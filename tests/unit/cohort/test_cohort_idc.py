"""Public collections: the table needs no network, a download can break off, and a condition stays a condition."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from orthanc_plugin.archive.tree import open_tree
from orthanc_plugin.cli.main import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, main
from orthanc_plugin.cohort import idc
from orthanc_plugin.cohort.idc import DONE, NAMED, Listed, Wanted, fetch, listed_in, table_of, uids_of
from orthanc_plugin.errors import ConfigError, IncompleteError, QueryError, TransientError
from tests.support.cases.cohort_case import our_results, write

NSCLC = Wanted("nsclc_radiomics", "Modality = 'CT'", limit=3)


def test_table_comes_from_the_bundled_index() -> None:
    rows = table_of(NSCLC).to_pylist()
    assert [row["PatientID"] for row in rows] == ["LUNG1-001", "LUNG1-002", "LUNG1-003"]
    assert {row["license_short_name"] for row in rows} == {"CC BY-NC 3.0"}
    assert all(row["instanceCount"] > 50 for row in rows)


@pytest.mark.parametrize("name", NAMED)
def test_ready_conditions_find_series(name: str) -> None:
    assert len(listed_in(table_of(Wanted(where=NAMED[name], limit=2)))) == 2


def test_selection_of_nsclc_has_the_series_of_the_study() -> None:
    assert table_of(Wanted(where=NAMED["sci-data-2024-nsclc"])).num_rows == 422


def test_list_of_series(tmp_path: Path) -> None:
    uid = listed_in(table_of(NSCLC))[1].series
    assert [one.series for one in listed_in(table_of(Wanted(uids=uids_of([uid, "# note", "", uid]))))] == [uid]
    with pytest.raises(ConfigError, match="one SeriesInstanceUID a line"):
        uids_of(["1.2.3 4"])


@pytest.mark.parametrize(
    "where",
    [
        "Modality = 'CT') OR (1 = 1",
        "1 = 1); DROP VIEW idc; --",
        "1 = 1; SELECT 2",
        "nonsense = 1",
        "true) UNION SELECT * FROM read_csv('/etc/passwd') WHERE (true",
        "PatientID IN (SELECT content FROM read_text('/etc/passwd'))",
    ],
)
def test_condition_is_one_expression_on_the_index(where: str) -> None:
    with pytest.raises(QueryError):
        table_of(Wanted("nsclc_radiomics", where))


def test_unknown_collection_and_empty_question_are_refused() -> None:
    with pytest.raises(ConfigError, match="no collection nsclc"):
        table_of(Wanted("nsclc"))
    with pytest.raises(ConfigError, match="name a collection"):
        table_of(Wanted())


TARGET = "archive local"


class Downloads:
    """Downloads that break off as told: each call takes the next number of files."""

    def __init__(self, source: Path, *files: int) -> None:
        self._source, self._files = source, [*files]
        self.calls: list[str] = []

    def __call__(self, series: str, folder: Path) -> None:
        self.calls.append(series)
        for file in sorted(self._source.iterdir())[: self._files.pop(0)]:
            (folder / file.name).write_bytes(file.read_bytes())


def test_download_that_breaks_off_goes_on(tmp_path: Path) -> None:
    source = write(our_results()[:12], tmp_path / "source")
    (tmp_path / "archive").mkdir()
    archive, cache = open_tree("folder", tmp_path / "archive"), tmp_path / "cache"
    wanted = [Listed("2.25.200", "bucket", 12), Listed("2.25.201", "bucket", 12)]
    downloads = Downloads(source, 5, 12, 12)
    with pytest.raises(IncompleteError, match="5 of 12 files"):
        fetch(wanted, cache, archive, TARGET, downloads)
    assert not [*(tmp_path / "archive").rglob("*.dcm")]
    told: list[int] = []
    assert fetch(wanted, cache, archive, TARGET, downloads, told.append) == 2
    assert len([*(tmp_path / "archive").rglob("*.dcm")]) == 12
    assert told == [0, 1, 2]
    assert json.loads((cache / DONE).read_text()) == {TARGET: ["2.25.200", "2.25.201"]}
    assert [file.name for file in cache.iterdir()] == [DONE]
    assert fetch(wanted, cache, archive, TARGET, downloads) == 0
    assert len(downloads.calls) == 3


def test_another_target_gets_the_series_as_well(tmp_path: Path) -> None:
    source = write(our_results()[:2], tmp_path / "source")
    wanted, cache, downloads = [Listed("2.25.200", "bucket", 2)], tmp_path / "cache", Downloads(source, 2, 2)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        assert fetch(wanted, cache, open_tree("folder", tmp_path / name), name, downloads) == 1
        assert len([*(tmp_path / name).rglob("*.dcm")]) == 2
    assert fetch(wanted, cache, open_tree("folder", tmp_path / "one"), "one", downloads) == 0


@pytest.mark.parametrize("text", ["{", '["2.25.200"]', '{"one": "2.25.200"}'])
def test_a_damaged_list_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / DONE).write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        idc.missing([Listed("2.25.200", "bucket", 2)], tmp_path, TARGET)


def test_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    source = write(our_results()[:2], tmp_path / "source")
    (tmp_path / "archive").mkdir()
    archive, cache = open_tree("folder", tmp_path / "archive"), tmp_path / "cache"
    whole = (source / "001.dcm").read_bytes()
    (source / "001.dcm").write_bytes(whole[: len(whole) - 3])
    wanted = [Listed("2.25.200", "bucket", 2)]
    downloads = Downloads(source, 2, 2)
    with pytest.raises(IncompleteError, match="damaged"):
        fetch(wanted, cache, archive, TARGET, downloads)
    (source / "001.dcm").write_bytes(whole)
    assert fetch(wanted, cache, archive, TARGET, downloads) == 1


class TestCommand:
    ARGUMENTS = ("fetch", "idc", "--collection", "nsclc_radiomics", "--where", "Modality = 'CT'", "--limit", "2")

    def test_without_a_network_the_table_and_then_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(*_: object, **__: object) -> httpx.Response:
            raise httpx.ConnectError("no route")

        monkeypatch.setattr(idc.httpx, "head", refuse)
        folders = ["--folder", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
        assert main([*self.ARGUMENTS, *folders]) == EXIT_FAILED
        said = capsys.readouterr().err
        assert "LUNG1-002" in said
        assert "cannot be reached (ConnectError)" in said
        with pytest.raises(TransientError):
            idc.check_network(["idc-open-data"])

    def test_table_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.ARGUMENTS, "--dry-run", "--json"]) == EXIT_DONE
        assert len(json.loads(capsys.readouterr().out)["series"]) == 2

    def test_unknown_name_lists_those_there_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["fetch", "idc", "--named", "nsclc"]) == EXIT_CONFIG
        assert "sci-data-2024-nlst" in capsys.readouterr().err
