"""The audit log of the front door: who did what to which series, and what the command line finds in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orthanc_plugin.audit.event import Event, Outcome, What
from orthanc_plugin.audit.trail import Trail
from tests.support.servers.front_door import USER, WRONG, FrontDoor, enqueue, finish, front_door

API = "/enrichment/api/v1"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def door(state: Path) -> Iterator[FrontDoor]:
    with front_door(state) as door:
        yield door


def new_events(state: Path, after: int) -> list[Event]:
    return [entry.event for entry in Trail(state).entries(after)]


def told(door: FrontDoor, state: Path, method: str, path: str, **more: object) -> list[Event]:
    """The events of one request."""
    before = Trail(state).last_number()
    door.ask(path, method, **more)  # type: ignore[arg-type]
    return new_events(state, before)


def test_acts_on_a_job_name_it_its_series_and_the_user(door: FrontDoor, state: Path) -> None:
    job = enqueue(door.queue, "1.2.10")
    finish(door.queue, job)
    for method, path, what, detail in (
        ("GET", f"/enrichment/jobs/{job}", What.VIEW, "jobs"),
        ("POST", f"{API}/jobs/{job}/retry", What.ACT, "jobs retry"),
        ("POST", f"{API}/jobs/{job}/cancel", What.ACT, "jobs cancel"),
        ("POST", f"{API}/jobs/{job}/withdraw", What.DELETE, "jobs withdraw"),
        ("GET", f"{API}/jobs/{job}/radiomics.csv", What.EXPORT, "jobs radiomics.csv"),
    ):
        (event,) = told(door, state, method, path)
        assert (event.what, event.detail, event.who, event.way) == (what, detail, USER, "password")
        assert (event.archive, event.study, event.series, event.job) == ("local", "1.2.3", ("1.2.10",), job)
        assert event.address == "127.0.0.1"


def test_settings_and_failures_are_recorded(door: FrontDoor, state: Path) -> None:
    (event,) = told(door, state, "POST", f"{API}/pause")
    assert (event.what, event.detail, event.outcome) == (What.SETTINGS, "pause", Outcome.SUCCESS)
    (event,) = told(door, state, "POST", f"{API}/webhooks/none/test")
    assert (event.what, event.outcome) == (What.SETTINGS, Outcome.FAILURE)
    (event,) = told(door, state, "GET", f"{API}/jobs", auth=WRONG)
    assert (event.what, event.who, event.outcome, event.detail) == (What.LOGIN, USER, Outcome.FAILURE, "wrong password")


def test_series_of_a_body_are_named(door: FrontDoor, state: Path) -> None:
    enqueue(door.queue, "1.2.11")
    body = {"act": "urgent", "series": ["local/1.2.11", "local/not a uid\n"]}
    (event,) = told(door, state, "POST", f"{API}/series/act", json=body)
    assert (event.what, event.detail, event.series) == (What.ACT, "urgent of series", ("1.2.11",))


def test_images_name_their_study_and_a_viewer_makes_one_line(door: FrontDoor, state: Path) -> None:
    (event,) = told(door, state, "GET", "/dicom-web/studies/1.2.77/series/1.2.78/instances/1.2.79/frames/1")
    assert (event.what, event.study, event.series) == (What.VIEW, "1.2.77", ("1.2.78",))
    assert told(door, state, "GET", "/dicom-web/studies/1.2.77/series/1.2.78/instances/1.2.80/frames/1") == []
    (event,) = told(door, state, "GET", "/dicom-web/studies?PatientName=Secret*")
    assert (event.what, event.detail) == (What.SEARCH, "GET by DICOMweb")
    (event,) = told(door, state, "POST", "/dicom-web/studies")
    assert event.what is What.STORE
    (event,) = told(door, state, "DELETE", "/dicom-web/studies/1.2.77")
    assert (event.what, event.study) == (What.DELETE, "1.2.77")


def test_a_database_that_is_away_breaks_no_answer(door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(job_id: str) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("away"))

    monkeypatch.setattr(door.queue.ledger, "of_job", away)
    assert door.ask(f"{API}/jobs/77").status_code == 503


def test_lists_and_health_are_not_recorded(door: FrontDoor, state: Path) -> None:
    for path in ("/enrichment/", f"{API}/jobs", f"{API}/series", f"{API}/health", "/enrichment/static/dashboard.css"):
        assert told(door, state, "GET", path) == []


def test_nothing_that_a_caller_writes_gets_into_the_log(door: FrontDoor, state: Path) -> None:
    for method, path, more in (
        ("GET", "/enrichment/series/QZXW", {}),
        ("GET", "/enrichment/jobs/QZXW", {}),
        ("POST", f"{API}/find", {"json": {"archive": "QZXW", "patient_id": "QZXW"}}),
        ("POST", f"{API}/patients", {"json": {"archive": "local", "study_instance_uid": "QZXW"}}),
        (
            "POST",
            f"{API}/patients",
            {"json": {"archive": "QZXW", "study_instance_uid": "1", "series_instance_uid": "1"}},
        ),
        ("GET", f"{API}/inspect?archive=QZXW&study_instance_uid=QZXW&series_instance_uid=QZXW", {}),
        ("POST", f"{API}/series/act", {"json": {"act": "retry", "series": ["local/QZXW"]}}),
        ("GET", "/dicom-web/studies/QZXW/series/QZXW?PatientID=QZXW", {}),
    ):
        door.ask(path, method, **more)  # type: ignore[arg-type]
    assert b"QZXW" not in b"".join(file.read_bytes() for file in Trail(state).files())


def test_the_log_of_all_this_can_be_checked(door: FrontDoor, state: Path) -> None:
    verdict = Trail(state).verify()
    assert verdict.problems == ()
    assert verdict.entries > 10
