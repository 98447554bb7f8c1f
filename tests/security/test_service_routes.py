"""Every route with every identity: none, a wrong password, a right one, the plugin's secret, and both."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from orthanc_plugin.service.permissions import PERMISSIONS, Permission
from tests.support.servers.front_door import RIGHT, SECRET, WRONG, FrontDoor, enqueue, front_door

API = "/enrichment/api/v1"
HINT = {"archive": "local", "study_instance_uid": "1.2.3", "series_instance_uid": "1.2.4"}
KEY = {"X-Enrichment-Secret": SECRET}

# method, path, status for a user of Orthanc
ROUTES = [
    ("GET", "/", 303),
    ("GET", "/enrichment", 303),
    ("GET", "/enrichment/", 200),
    ("GET", "/enrichment/static/dashboard.css", 200),
    ("GET", "/enrichment/jobs/none", 404),
    ("GET", "/enrichment/jobs/none/pictures", 404),
    ("GET", "/enrichment/jobs/none/radiomics", 404),
    ("GET", "/enrichment/jobs/none/objects", 404),
    ("GET", "/enrichment/jobs/none/corrections", 404),
    ("GET", "/enrichment/series/1.2.9", 404),
    ("GET", "/enrichment/deliveries", 200),
    ("GET", "/enrichment/backfill", 200),
    ("GET", "/enrichment/system", 200),
    ("POST", "/enrichment/find", 400),
    ("GET", "/enrichment/rules", 200),
    ("GET", "/enrichment/rules/verdicts", 200),
    ("GET", "/enrichment/rules/comparison", 200),
    ("POST", "/enrichment/rules/files", 200),
    ("GET", f"{API}/rules/compare", 404),
    ("POST", f"{API}/rules/compare", 400),
    ("GET", "/enrichment/api/", 200),
    ("GET", "/enrichment/api/openapi.json", 200),
    ("GET", f"{API}/jobs/none/scan", 404),
    ("GET", f"{API}/jobs/none/slices/axial/1.png", 404),
    ("POST", f"{API}/series/act", 400),
    ("POST", f"{API}/patients", 400),
    ("POST", f"{API}/find", 400),
    ("GET", f"{API}/webhooks", 200),
    ("POST", f"{API}/webhooks/none/test", 404),
    ("GET", f"{API}/health", 200),
    ("GET", f"{API}/jobs", 200),
    ("GET", f"{API}/jobs/none", 404),
    ("POST", f"{API}/jobs/none/retry", 404),
    ("POST", f"{API}/jobs/none/cancel", 404),
    ("POST", f"{API}/jobs/none/withdraw", 404),
    ("POST", f"{API}/jobs/none/deliveries/far/retry", 404),
    ("POST", f"{API}/jobs/none/deliveries/far/cancel", 404),
    ("GET", f"{API}/deliveries", 200),
    ("POST", f"{API}/retry", 200),
    ("GET", f"{API}/backfills", 200),
    ("POST", f"{API}/backfills", 400),
    ("POST", f"{API}/backfills/none/stop", 404),
    ("POST", f"{API}/decide-again", 400),
    ("POST", f"{API}/pause", 200),
    ("POST", f"{API}/resume", 200),
    ("GET", f"{API}/series", 200),
    ("GET", f"{API}/inspect", 400),
    ("GET", f"{API}/inspect/picture.png", 400),
    ("GET", "/dicom-web/studies", 200),
    ("POST", "/dicom-web/studies", 200),
    ("GET", "/dicom-web", 307),
    ("GET", "/enrichment/open", 400),
    ("GET", "/viewer", 404),
    ("GET", "/app-config.js", 404),
    ("GET", "/system", 404),
]


SAMPLES = {"index:int": "1", "number:int": "1", "path": "x", "path:path": "studies"}


def test_each_route_has_a_line_in_the_table_of_rights_and_each_line_a_route(door: FrontDoor) -> None:
    """A new route needs a line in service/permissions.py: otherwise only admins could use it."""
    used: set[Permission] = set()
    for route in door.routes:
        path = re.sub(r"\{([^}]+)\}", lambda found: SAMPLES.get(found[1], "x"), route.path)
        if route.path == f"{API}/hints":
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            line = next(line for line in PERMISSIONS if line.fits(method, path))
            used.add(line)
            if path not in ("/", "/enrichment", "/viewer", "/app-config.js", "/dicom-web"):
                assert line.path != "/{path:path}", f"{method} {route.path}"
    elsewhere = ("/dicom-web", "/enrichment/static", "/enrichment/metrics", "/{path")
    named = {line for line in PERMISSIONS if not line.path.startswith(elsewhere)}
    assert {line.path for line in named - used} == set()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        enqueue(door.queue, "1.2.100")
        yield door


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
def test_only_orthancs_users_get_an_answer(door: FrontDoor, method: str, path: str, status: int) -> None:
    assert door.ask(path, method, RIGHT).status_code == status
    for auth, headers in ((None, {}), (WRONG, {}), (None, KEY), (WRONG, KEY)):
        answer = door.ask(path, method, auth, headers=headers)
        assert (answer.status_code, "www-authenticate" in answer.headers) == (401, True)
        assert answer.text == "Log in as a user of Orthanc.\n"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("auth", [None, WRONG, RIGHT])
def test_hints_are_for_the_plugin_alone(door: FrontDoor, method: str, auth: httpx.Auth | None) -> None:
    for headers in ({}, {"X-Enrichment-Secret": ""}, {"X-Enrichment-Secret": SECRET[:-1]}):
        assert door.ask(f"{API}/hints", method, auth, headers=headers, json=HINT).status_code == 403
    expected = 202 if method == "POST" else 405
    assert door.ask(f"{API}/hints", method, auth, headers=KEY, json=HINT).status_code == expected


@pytest.mark.parametrize("path", [f"{API}//hints", f"{API}/hints/", "/enrichment/api/v1/./hints", f"{API}/HINTS"])
def test_no_other_spelling_of_hints_takes_the_secret(door: FrontDoor, path: str) -> None:
    connection = httpx.HTTPTransport()
    with connection:
        request = httpx.Request("POST", door.url + "/", headers=KEY, json=HINT, extensions={"target": path.encode()})
        answer = connection.handle_request(request)
        assert answer.status_code == 401
        answer.close()


GUARDED = [route for route in ROUTES if route[0] == "POST" or "/inspect" in route[1]]
"""What changes something, or costs much."""


@pytest.mark.parametrize(("method", "path", "status"), GUARDED)
def test_no_other_site_changes_anything(door: FrontDoor, method: str, path: str, status: int) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ):
        assert door.ask(path, method, RIGHT, headers=headers).status_code == 403
    assert door.ask(path, method, RIGHT, headers={"Sec-Fetch-Site": "same-origin"}).status_code == status
    assert door.ask(path, method, RIGHT, headers={"Origin": door.url}).status_code == status


@pytest.mark.parametrize("path", ["/dicom-web/studies", f"{API}/jobs", "/enrichment/"])
def test_no_request_names_another_method(door: FrontDoor, path: str) -> None:
    assert door.ask(f"{path}?_method=DELETE").status_code == 400
    assert door.ask(path, headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 400


def test_no_answer_lets_other_sites_read(door: FrontDoor) -> None:
    for method, path, _ in ROUTES:
        answer = door.ask(path, method, headers={"Origin": door.url})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
