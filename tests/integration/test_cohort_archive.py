"""Tables of a real Orthanc over DICOMweb, and a cohort that is sent on from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread

from orthanc_plugin.cli.main import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, main
from tests.support.cases.cohort_case import built, our_results, rows, write
from tests.support.servers.orthanc_server import PASSWORD, USER, OrthancServer

# highdicom leaves the database in memory of each image to the garbage collector, and Python 3.13 says so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <sqlite3.Connection:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def pacs(orthanc_installed: None) -> Iterator[OrthancServer]:
    """An Orthanc of this module's own, with one CT and all results of it."""
    with OrthancServer() as server:
        with httpx.Client(auth=(USER, PASSWORD), base_url=server.url) as client:
            for ds in our_results():
                client.post("/instances", content=_bytes(ds)).raise_for_status()
        yield server


def _bytes(ds: Dataset) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    if "PixelData" not in ds and ds.Modality == "CT":
        ds.PixelData, ds.BitsAllocated, ds.BitsStored, ds.HighBit = b"\0" * 2048, 16, 16, 15
        ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 0, 1, "MONOCHROME2"
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture(scope="module")
def settings(pacs: OrthancServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with this Orthanc, and a folder as a second archive."""
    state = tmp_path_factory.mktemp("state")
    (state / "copies").mkdir()
    local = {
        "Url": f"{pacs.url}/dicom-web", "OrthancUrl": pacs.url, "User": USER, "Password": PASSWORD
    }  # fmt: skip
    archives = {"local": local, "copies": {"Folder": str(state / "copies")}}
    section = {"StateDirectory": str(state), "Archives": archives, "Tables": {"Key": "0123456789abcdef"}}
    file = state / "orthanc.json"
    file.write_text(json.dumps({"Enrichment": section}))
    return file


@pytest.fixture(scope="module")
def tables(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the archive."""
    out = tmp_path_factory.mktemp("tables")
    assert main(["cohort", "build", "--archive", "local", "--out", str(out), "--config", str(settings)]) == EXIT_DONE
    return out


def test_archive_gives_the_rows_of_the_files(tables: Path, tmp_path: Path) -> None:
    built(write(our_results(), tmp_path / "in"), tmp_path / "out")
    for table in ("segments", "measurements", "measurements_wide", "landmarks", "regions", "checks", "input_quality"):
        assert rows(tables, table) == rows(tmp_path / "out", table)
    (series,) = rows(tables, "series")
    assert (series["instances"], series["series_instance_uid"], len(str(series["patient"]))) == (12, "2.25.200", 16)


def test_second_build_asks_for_no_object_again(
    tables: Path, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cohort", "build", "--archive", "local", "--out", str(tables), "--config", str(settings), "--json"]
    assert main(command) == EXIT_DONE
    answer = json.loads(capsys.readouterr().out)
    assert (answer["read"], answer["known"], answer["gone"]) == (0, 9, 0)


def test_query_by_the_command_line(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cohort", "query", "SELECT label FROM segments", "--tables", str(tables), "--json"]) == EXIT_DONE
    assert {"label": "Left lung"} in json.loads(capsys.readouterr().out)
    out = tmp_path / "volumes.csv"
    command = ["cohort", "query", "--named", "volumes", "--tables", str(tables), "--out", str(out)]
    assert main(command) == EXIT_DONE
    assert out.read_text().startswith("label,")
    assert main(["cohort", "query", "DROP VIEW series", "--tables", str(tables)]) == EXIT_FAILED
    assert main(["cohort", "query", "--tables", str(tables)]) == EXIT_CONFIG
    assert main(["cohort", "query", "--named", "volumes", "--set", "z=1", "--tables", str(tables)]) == EXIT_CONFIG
    assert main(["cohort", "query", "--list"]) == EXIT_DONE


def test_query_shows_a_table(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cohort", "query", "FROM segments", "--tables", str(tables)]) == EXIT_DONE
    assert "5 rows" in capsys.readouterr().out


ALL = "SELECT series_instance_uid FROM series"


def test_cohort_is_copied_to_a_folder_with_its_results(tables: Path, settings: Path, tmp_path: Path) -> None:
    command = ["cohort", "send", ALL, "--tables", str(tables), "--config", str(settings)]
    for _ in range(2):  # a second time changes nothing
        assert main([*command, "--folder", str(tmp_path / "copy")]) == EXIT_DONE
        found = [dcmread(file).Modality for file in (tmp_path / "copy").rglob("*.dcm")]
        assert sorted(found) == ["CT"] * 12 + ["SEG"] + ["SR"] * 7
    assert main([*command, "--folder", str(tmp_path / "ct"), "--no-results"]) == EXIT_DONE
    assert len([*(tmp_path / "ct").rglob("*.dcm")]) == 12


def test_cohort_is_copied_to_another_archive(tables: Path, settings: Path) -> None:
    command = ["cohort", "send", ALL, "--tables", str(tables), "--config", str(settings), "--to", "copies"]
    assert main(command) == EXIT_DONE
    assert len([*(settings.parent / "copies").rglob("*.dcm")]) == 20


def test_cohort_is_marked_in_orthanc(tables: Path, settings: Path, pacs: OrthancServer) -> None:
    command = ["cohort", "send", ALL, "--tables", str(tables), "--config", str(settings), "--tag"]
    for mark in ("lungs", "lungs", "hearts"):
        assert main([*command, mark]) == EXIT_DONE
    assert main([*command, "no spaces"]) == EXIT_CONFIG
    with httpx.Client(auth=(USER, PASSWORD), base_url=pacs.url) as client:
        series = client.post(
            "/tools/find", json={"Level": "Series", "Query": {"SeriesInstanceUID": "2.25.200"}}
        ).json()[0]
        version = tuple(int(part) for part in client.get("/system").json()["Version"].split(".")[:2])
        if version >= (1, 12):  # Debian 13: make test-trixie
            assert client.get(f"/series/{series}/labels").json() == ["hearts", "lungs"]
            found = client.post("/tools/find", json={"Level": "Series", "Query": {}, "Labels": ["lungs"]}).json()
            assert found == [series]
            assert client.get(f"/series/{series}/metadata/4216").status_code == 404
        else:
            assert client.get(f"/series/{series}/metadata/4216").text == "lungs hearts"


def test_cohort_becomes_a_backfill(
    tables: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import closing

    from orthanc_plugin.jobs.orders import Orders
    from orthanc_plugin.jobs.queue import JobQueue

    database = f"sqlite:///{settings.parent / 'jobs.db'}"
    with closing(JobQueue(database)):
        pass
    command = ["cohort", "send", ALL, "--tables", str(tables), "--config", str(settings), "--backfill", "--json"]
    assert main(command) == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["asked"] == "1 series of a cohort"
    with closing(JobQueue(database)) as queue:
        (order,) = Orders(queue.ledger).all()
        assert (order.archive, order.listed) == ("local", 1)


def test_query_without_series_sends_nothing(tables: Path, settings: Path, tmp_path: Path) -> None:
    to = ["--tables", str(tables), "--config", str(settings), "--folder", str(tmp_path)]
    assert main(["cohort", "send", "SELECT label FROM segments", *to]) == EXIT_FAILED
    assert main(["cohort", "send", "SELECT '2.25.9' AS series_instance_uid", *to]) == EXIT_FAILED


def test_archive_that_is_no_dicomweb_is_refused(settings: Path, tmp_path: Path) -> None:
    archives = {"node": {"Dimse": {"Host": "127.0.0.1", "Port": 1, "AET": "X"}}}
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps({"Enrichment": {"StateDirectory": str(tmp_path), "Archives": archives}}))
    for name in ("node", "nobody"):
        command = ["cohort", "build", "--archive", name, "--out", str(tmp_path / "out"), "--config", str(file)]
        assert main(command) == EXIT_CONFIG
