"""The API: its answers and refusals. Also compares its schema and its documentation page with the code."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from orthanc_plugin.codes import Code
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.deleted import NOT_BELIEVED
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.service.api import HINT_BYTES
from orthanc_plugin.service.openapi import OPERATIONS
from orthanc_plugin.service.schema import Error, Job, JobList, SeriesList, api_schema
from orthanc_plugin.service.schema_health import Health
from tests.support.cases.location_case import CHEST as LOCATION
from tests.support.cases.location_case import NOWHERE
from tests.support.servers.front_door import RIGHT, SECRET, FrontDoor, enqueue, finish, front_door, skipped

ROOT = Path(__file__).resolve().parents[3]
API = "/enrichment/api/v1"
HINT = {"archive": "local", "study_instance_uid": "1.2.3", "series_instance_uid": "1.2.4", "stable": True}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        yield door


def send_hint(door: FrontDoor, body: object) -> int:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return door.ask(f"{API}/hints", "POST", None, headers={"X-Enrichment-Secret": SECRET}, content=content).status_code


def test_job_is_listed_and_shown_with_its_stages(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.100")
    finish(door.queue, job_id, note="adopted")
    listed = JobList.model_validate_json(door.ask(f"{API}/jobs?limit=1").content)
    shown = Job.model_validate_json(door.ask(f"{API}/jobs/{job_id}").content)
    assert [job.id for job in listed.jobs] == [job_id]
    assert shown.state is JobState.DONE
    assert shown.stages[0].volumes_ml == {"lung_left": 2171.6}
    assert [stored.kind for stored in shown.objects] == ["seg"]


def test_location_comes_with_a_single_job_only(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.110")
    finish(door.queue, job_id, location=LOCATION)
    location = door.ask(f"{API}/jobs/{job_id}").json()["location"]
    assert location["scores"][:2] == [None, 44.0]
    assert location["landmarks"][0] == {"key": "Th12", "slice_index": 1, "z_mm": -73.74, "sd_mm": 19.4}
    assert location["regions"]["abdomen"] == [1, 2, 3, 4, 5]
    assert (location["coverage"]["chest"], location["slope_ratio"], location["reason"]) == (0.97, 1.02, "")
    (listed,) = (job for job in door.ask(f"{API}/jobs").json()["jobs"] if job["id"] == job_id)
    assert listed["location"] is None


def test_location_without_a_valid_region_says_why(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.111")
    finish(door.queue, job_id, location=NOWHERE)
    location = door.ask(f"{API}/jobs/{job_id}").json()["location"]
    assert (location["landmarks"], location["regions"], location["reason"]) == ([], {}, NOWHERE.reason)


def test_decisions_carry_their_reason_and_can_be_asked_by_state(door: FrontDoor) -> None:
    door.queue.enqueue(skipped("1.2.200"))
    answer = SeriesList.model_validate_json(door.ask(f"{API}/series?state=skipped").content)
    assert [(row.series_instance_uid, row.decision, row.reason) for row in answer.series] == [
        ("1.2.200", "skip", "too-few-slices")
    ]
    assert not SeriesList.model_validate_json(door.ask(f"{API}/series?state=skipped&offset=1").content).series


def test_failed_job_is_queued_again_and_an_open_one_is_not(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.300")
    finish(door.queue, job_id, JobState.FAILED, detail="archive local refused the SEG")
    door.queue._client.cancel_workflow(job_id)  # no worker runs here to end the engine's part
    again = door.ask(f"{API}/jobs/{job_id}/retry", "POST")
    assert (again.status_code, again.json()["state"]) == (200, "queued")
    refused = door.ask(f"{API}/jobs/{job_id}/retry", "POST")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "wrong-state")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/jobs/none", 404, "not-found"),
        ("POST", "/jobs/none/retry", 404, "not-found"),
        ("GET", "/nothing", 404, "not-found"),
        ("DELETE", "/jobs", 405, "method-not-allowed"),
        ("GET", "/jobs?state=lost", 400, "bad-request"),
        ("GET", "/jobs?limit=0", 400, "bad-request"),
        ("GET", "/jobs?limit=501", 400, "bad-request"),
        ("GET", "/series?offset=-1", 400, "bad-request"),
        ("GET", "/series?limit=²", 400, "bad-request"),
        ("GET", "/series?series_instance_uid=1.2.3", 400, "bad-request"),
        ("GET", "/jobs?State=done", 400, "bad-request"),
        ("GET", "/jobs?limit=1&limit=2", 400, "bad-request"),
        ("GET", "/health?verbose=1", 400, "bad-request"),
        ("GET", "/jobs/none?limit=1", 400, "bad-request"),
        ("GET", "/inspect", 400, "bad-request"),
        ("GET", "/inspect?study_instance_uid=1.2.3", 400, "bad-request"),
        ("GET", "/inspect?study_instance_uid=1.2&series_instance_uid=1.2/..", 400, "bad-request"),
        ("GET", "/inspect?archive=far&study_instance_uid=1.2&series_instance_uid=1.3", 404, "not-found"),
        ("GET", "/inspect?study_instance_uid=1.2&series_instance_uid=1.3&rule=x", 400, "bad-request"),
        ("GET", "/inspect/picture.png", 400, "bad-request"),
        ("POST", "/jobs/none/retry?force=1", 400, "bad-request"),
    ],
)
def test_refusals_have_a_code_and_a_message(door: FrontDoor, method: str, path: str, status: int, code: str) -> None:
    answer = door.ask(API + path, method)
    error = Error.model_validate_json(answer.content).error
    assert (answer.status_code, error.code) == (status, code)
    assert error.message


def test_health_names_an_index_that_is_not_believed(door: FrontDoor) -> None:
    door.queue.ledger.keep_note(f"{NOT_BELIEVED}local", "its index misses the series of 30 of 40 jobs")
    health = Health.model_validate_json(door.ask(f"{API}/health").content)
    assert health.status == "degraded"
    (archive,) = health.archives
    assert (archive.reachable, archive.problem) == (True, "its index misses the series of 30 of 40 jobs")
    door.queue.ledger.drop_note(f"{NOT_BELIEVED}local")


def test_health_looks_at_archive_database_and_workers(door: FrontDoor) -> None:
    health = Health.model_validate_json(door.ask(f"{API}/health").content)
    assert health.status == "ok"
    assert [(archive.name, archive.reachable) for archive in health.archives] == [("local", True)]
    assert health.database.kind == "sqlite"
    assert health.workers[0].pid == 4711
    assert health.provider == "cpu"


def test_health_and_the_page_name_the_versions_that_results_depend_on(door: FrontDoor) -> None:
    health = Health.model_validate_json(door.ask(f"{API}/health").content)
    assert health.software["Python"] == platform.python_version()
    assert health.software["onnxruntime"] == metadata.version("onnxruntime")
    page = door.ask("/enrichment/system").text
    for version in (health.version, *health.software.values(), health.archives[0].version):
        assert f">{version}<" in page


def test_hint_reaches_admission(door: FrontDoor) -> None:
    assert send_hint(door, HINT) == 202
    assert door.hints.taken[-1] == Hint("local", "1.2.3", "1.2.4", stable=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        [],
        {},
        HINT | {"archive": "elsewhere"},
        HINT | {"archive": "a" * 65},
        HINT | {"series_instance_uid": "1.2/../3"},
        HINT | {"series_instance_uid": "1" * 65},
        HINT | {"stable": "yes"},
        HINT | {"patient_name": "Doe^Jane"},
    ],
)
def test_wrong_hint_is_refused(door: FrontDoor, body: object) -> None:
    before = len(door.hints.taken)
    assert send_hint(door, body) == 400
    assert len(door.hints.taken) == before


def test_refusal_of_a_hint_does_not_repeat_it(door: FrontDoor) -> None:
    answer = door.ask(
        f"{API}/hints", "POST", None, headers={"X-Enrichment-Secret": SECRET}, json=HINT | {"stable": "Doe^Jane"}
    )
    assert "Doe" not in answer.text
    assert "stable" in answer.text


def test_large_hint_is_refused(door: FrontDoor) -> None:
    assert send_hint(door, b" " * (HINT_BYTES + 1)) == 413


def test_unexpected_error_gives_no_detail(door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(door.queue, "views", fail)
    answer = door.ask(f"{API}/jobs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "Doe" not in answer.text


def test_schema_is_committed() -> None:
    """Regenerate it with `python -m orthanc_plugin.service.schema > docs/api-v1.schema.json`."""
    assert (ROOT / "docs" / "api-v1.schema.json").read_text() == api_schema()


def test_a_job_without_radiomics_has_a_table_of_no_rows_and_no_preview(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.120")
    finish(door.queue, job_id)
    table = door.ask(f"{API}/jobs/{job_id}/radiomics.csv")
    assert (table.status_code, table.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert table.text.count("\n") == 1
    assert door.ask(f"{API}/jobs/{job_id}/radiomics.json").json() == []
    assert door.ask(f"{API}/jobs/{job_id}/preview.png").status_code == 404
    assert door.ask(f"{API}/jobs/unknown/radiomics.csv").status_code == 404
    columnar = door.ask(f"{API}/jobs/{job_id}/radiomics.parquet")
    assert (columnar.content[:4], columnar.headers["content-type"]) == (b"PAR1", "application/vnd.apache.parquet")


def test_checks_come_with_a_single_job_and_on_its_page(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.121")
    result = CheckResult(
        Check.SIDE, "chest_structures", 2, "lung_left", False, -80.0, Code("mm", "UCUM", "mm"), "left of <nothing>"
    )
    finish(door.queue, job_id, checks=(result,))
    (shown,) = door.ask(f"{API}/jobs/{job_id}").json()["checks"]
    assert (shown["check"], shown["passed"], shown["unit"]["value"]) == ("side", False, "mm")
    (listed,) = (job for job in door.ask(f"{API}/jobs").json()["jobs"] if job["id"] == job_id)
    assert listed["checks"] == []
    page = door.ask(f"/enrichment/jobs/{job_id}").text
    assert "failed" in page
    assert "left of &lt;nothing&gt;" in page


def test_every_route_is_documented() -> None:
    described = {
        line.removeprefix("### ")
        for line in (ROOT / "docs" / "api.md").read_text().splitlines()
        if line.startswith("### `")
    }
    assert described == {f"`{o.method.upper()} {API}{o.path}`" for o in OPERATIONS}


def test_openapi_describes_every_route_with_its_parameters_and_no_other(door: FrontDoor) -> None:
    document = door.ask("/enrichment/api/openapi.json").json()
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == {
        ("post" if "POST" in (route.methods or ()) else "get", route.path.replace(":int", ""))
        for route in door.routes
        if route.path.startswith(f"{API}/")
    }
    assert len(
        {operation["operationId"] for paths in document["paths"].values() for operation in paths.values()}
    ) == len(described)
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            places = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"]
            assert places == re.findall(r"\{(\w+)\}", path)
    page = door.ask("/enrichment/api/").text
    assert page.count("<h2 id=") == len(described) + 2


def test_no_route_ignores_a_query_parameter(door: FrontDoor) -> None:
    for route in door.routes:
        if route.path.startswith(("/dicom-web", "/enrichment/static")):
            continue
        method = "POST" if "POST" in (route.methods or ()) else "GET"
        auth = None if route.path.endswith("/hints") else RIGHT
        path = re.sub(r"\{index:int\}", "1", route.path)
        path = re.sub(r"\{\w+\}", "none", path)
        answer = door.ask(f"{path}?unknown=1", method, auth, headers={"X-Enrichment-Secret": SECRET})
        assert (answer.status_code, "unknown query parameter" in answer.text) == (400, True), path
