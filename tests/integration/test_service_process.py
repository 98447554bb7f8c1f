"""The service as a process before a real Orthanc: start, login, pass-through, stop, and one service a state."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.servers.orthanc_server import OrthancServer, wait_until

COMMAND = [sys.executable, "-P", "-m", "orthanc_plugin.cli", "service", "--stdin"]
SECRET = "5ec2e7"


def section(orthanc: OrthancServer, state: Path, **more: object) -> dict[str, object]:
    archive = {
        "Url": orthanc.dicomweb_url,
        "OrthancUrl": orthanc.url,
        "User": orthanc.user,
        "Password": orthanc.password,
    }
    return {"StateDirectory": str(state), "Service": {"Port": 0}, "Archives": {"local": archive}, **more}


@contextmanager
def service(content: dict[str, object]) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """The process and the one line that it says."""
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{SECRET}\n{json.dumps(content)}\n")
        process.stdin.flush()
        yield process, json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service") / "state"


@pytest.fixture(scope="module")
def running(orthanc: OrthancServer, state: Path) -> Iterator[httpx.Client]:
    """Client of a running service, logged in."""
    rules = [{"Name": "none", "Match": {"BodyPartExamined": ["NOWHERE"]}}]
    with (
        service(section(orthanc, state, Rules=rules)) as (_, said),
        httpx.Client(
            base_url=f"http://127.0.0.1:{said['port']}",
            auth=(orthanc.user, orthanc.password),
            timeout=60,
            trust_env=False,
        ) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("phantom")
    return write_phantom(folder, make_phantom(shape=(24, 64, 64), spacing_mm=(5.0, 5.0, 5.0), seed=71))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def parts(answer: httpx.Response) -> list[bytes]:
    """Parts of a multipart answer, sorted: Orthanc gives them in any order, with a boundary of its own each time."""
    boundary = answer.headers["content-type"].partition("boundary=")[2].partition(";")[0].strip('"')
    return sorted(answer.content.split(f"--{boundary}".encode()))


def test_orthancs_users_enter(running: httpx.Client) -> None:
    assert running.get("/enrichment/").status_code == 200
    assert running.get("/enrichment/", auth=("pacs", "wrong")).status_code == 401
    assert httpx.get(running.base_url.join("/enrichment/"), trust_env=False).status_code == 401
    assert running.get("/enrichment/api/v1/health").json()["archives"][0]["reachable"]


def test_series_stored_through_the_front_door_reads_back_byte_for_byte(
    running: httpx.Client, orthanc: OrthancServer, series: list[Path]
) -> None:
    head = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(head + file.read_bytes() + b"\r\n" for file in series) + b"--b--\r\n"
    stored = running.post(
        "/dicom-web/studies",
        content=body,
        headers={
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
            "Accept": "application/dicom+json",
        },
    )
    assert stored.status_code == 200, stored.text
    assert len(stored.json()["00081199"]["Value"]) == len(series)
    address = f"/dicom-web/studies/{_study(series)}"
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    through, straight = (client.get(address, headers=accept) for client in (running, orthanc.client))
    assert through.status_code == straight.status_code == 200
    assert parts(through) == parts(straight)
    assert len(parts(through)) == len(series) + 2


def test_metadata_points_to_the_front_door(running: httpx.Client, series: list[Path]) -> None:
    answer = running.get(f"/dicom-web/studies/{_study(series)}/metadata", headers={"Accept": "application/dicom+json"})
    assert answer.status_code == 200
    netloc = f"{running.base_url.host}:{running.base_url.port}"
    assert f"http://{netloc}/dicom-web/" in answer.text


def test_hint_becomes_a_decision(running: httpx.Client, series: list[Path]) -> None:
    ds = dcmread(series[0], stop_before_pixels=True)
    hint = {
        "archive": "local",
        "study_instance_uid": ds.StudyInstanceUID,
        "series_instance_uid": ds.SeriesInstanceUID,
        "stable": True,
    }
    answer = running.post("/enrichment/api/v1/hints", json=hint, headers={"X-Enrichment-Secret": SECRET})
    assert answer.status_code == 202

    def decided() -> list[dict[str, object]]:
        rows = running.get("/enrichment/api/v1/series").json()["series"]
        return [row for row in rows if row["series_instance_uid"] == ds.SeriesInstanceUID]

    row = wait_until(decided, what="the decision")[0]
    assert (row["decision"], row["state"], row["reason"]) == ("skip", "skipped", "no-rule")


def test_health_names_the_address_that_fails(orthanc: OrthancServer, tmp_path: Path, series: list[Path]) -> None:
    orthanc.stow(series)
    content = section(orthanc, tmp_path / "state", Workers=0)
    content["Archives"]["local"]["Url"] = f"{orthanc.url}/dicom-wob"  # type: ignore[index]
    with service(content) as (_, said):
        account = (orthanc.user, orthanc.password)
        address = f"http://127.0.0.1:{said['port']}/enrichment/api/v1/health"
        health = httpx.get(address, auth=account, trust_env=False, timeout=60).json()
    problem = f"{orthanc.url}/dicom-wob/instances?limit=1 answered 404"
    assert (health["status"], health["archives"][0]["problem"]) == ("degraded", problem)


def test_second_service_on_the_same_state_is_refused(
    running: httpx.Client, orthanc: OrthancServer, state: Path
) -> None:
    with service(section(orthanc, state)) as (process, said):
        assert process.wait(30) == 78
    assert said == {"error": f"StateDirectory {state} is in use by another running service"}


def test_end_of_stdin_ends_service_and_workers(orthanc: OrthancServer, tmp_path: Path) -> None:
    with service(section(orthanc, tmp_path / "state", Workers=2)) as (process, said):
        with httpx.Client(
            base_url=f"http://127.0.0.1:{said['port']}", auth=(orthanc.user, orthanc.password), trust_env=False
        ) as client:
            workers = wait_until(lambda: _pids(client, 2), what="two workers")
        assert all(map(alive, workers))
        began = time.monotonic()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10
        assert not any(map(alive, workers))
    kept = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "state").iterdir()}
    assert set(kept.values()) == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert {"jobs.db", "service.log", "worker-0.log"} <= set(kept)


def test_a_locked_database_does_not_hold_up_the_stop(orthanc: OrthancServer, tmp_path: Path) -> None:
    with service(section(orthanc, tmp_path / "state", Workers=2)) as (process, said):
        with httpx.Client(
            base_url=f"http://127.0.0.1:{said['port']}", auth=(orthanc.user, orthanc.password), trust_env=False
        ) as client:
            workers = wait_until(lambda: _pids(client, 2), what="two workers")
        with closing(sqlite3.connect(tmp_path / "state" / "jobs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(4)  # the service and its workers meet the lock
            began = time.monotonic()
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0
            assert time.monotonic() - began < 10
    assert not any(map(alive, workers))


def test_killed_service_leaves_no_worker(orthanc: OrthancServer, tmp_path: Path) -> None:
    with service(section(orthanc, tmp_path / "state")) as (process, said):
        with httpx.Client(
            base_url=f"http://127.0.0.1:{said['port']}", auth=(orthanc.user, orthanc.password), trust_env=False
        ) as client:
            workers = wait_until(lambda: _pids(client, 1), what="a worker")
        process.kill()
        wait_until(lambda: not any(map(_runs, workers)), what="the end of the orphan")


def _pids(client: httpx.Client, count: int) -> list[int]:
    pids = [worker["pid"] for worker in client.get("/enrichment/api/v1/health").json()["workers"] if worker["pid"]]
    return pids if len(pids) == count else []


def _runs(pid: int) -> bool:
    """Whether it is alive; an orphan whose new parent has not buried it is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _study(series: list[Path]) -> str:
    return str(dcmread(series[0], stop_before_pixels=True).StudyInstanceUID)
