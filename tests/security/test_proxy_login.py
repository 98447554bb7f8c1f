"""Single sign-on: a real proxy logs people in and names them in headers, before the real web application."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from orthanc_plugin.audit.trail import Trail
from tests.support.servers.front_door import FrontDoor, front_door

API = "/enrichment/api/v1"
SECRET = "of proxy and service alone"
ACCESS = {
    "TrustedProxies": ["127.0.0.1"], "UserHeader": "X-Forwarded-User", "GroupsHeader": "X-Forwarded-Groups",
    "ProxySecret": SECRET, "AdminGroups": ["/pacs/admins"], "OperatorGroups": ["/pacs/operators"],
    "ViewerGroups": ["/radiology"],
}  # fmt: skip


@contextmanager
def proxy(target: str, user: str, groups: str, secret: str = SECRET) -> Iterator[str]:
    """Address of a proxy that has logged a user in; it replaces the headers that callers send."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told = {"X-Forwarded-User": user, "X-Forwarded-Groups": groups, "X-Enrichment-Proxy-Secret": secret,
                    "X-Forwarded-For": self.client_address[0], "X-Forwarded-Proto": "https"}  # fmt: skip
            kept = {k: v for k, v in self.headers.items() if k.lower() not in {name.lower() for name in told}}
            with closing(http.client.HTTPConnection(urlsplit(target).netloc, timeout=30)) as upstream:
                upstream.request(self.command, self.path, body, kept | told)
                answer = upstream.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def door(state: Path) -> Iterator[FrontDoor]:
    with front_door(state, section={"Access": ACCESS}) as door:
        yield door


def ask(url: str, path: str, method: str = "GET", source: str = "127.0.0.1", **headers: str) -> int:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source), trust_env=False, timeout=30) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.request(method, url + path, headers=named).status_code


@pytest.mark.parametrize(
    ("groups", "statuses"),
    [
        ("/radiology", (200, 200, 403, 403, 403)),
        ("x,/pacs/operators", (200, 200, 200, 200, 403)),
        ("/pacs/admins", (200, 200, 200, 200, 200)),
        ("/other", (403, 403, 403, 403, 403)),
        ("", (403, 403, 403, 403, 403)),
    ],
)
def test_groups_of_the_provider_decide(door: FrontDoor, groups: str, statuses: tuple[int, ...]) -> None:
    acts = (("GET", f"{API}/jobs"), ("GET", "/dicom-web/studies"), ("POST", f"{API}/retry"),
            ("POST", "/dicom-web/studies"), ("POST", f"{API}/resume"))  # fmt: skip
    with proxy(door.url, "ada@hospital.example", groups) as url:
        assert tuple(ask(url, path, method) for method, path in acts) == statuses


def test_the_proxy_replaces_what_a_caller_claims(door: FrontDoor) -> None:
    with proxy(door.url, "vera", "/radiology") as url:
        assert ask(url, f"{API}/resume", "POST", x_forwarded_groups="/pacs/admins", x_forwarded_user="root") == 403


@pytest.mark.parametrize("source", ["127.0.0.2", "127.1.2.3"])
def test_nobody_else_is_believed(door: FrontDoor, source: str) -> None:
    claims = {"x_forwarded_user": "root", "x_forwarded_groups": "/pacs/admins", "x_enrichment_proxy_secret": SECRET}
    assert ask(door.url, f"{API}/jobs", source=source, **claims) == 401


def test_on_the_computer_of_the_proxy_the_secret_counts(door: FrontDoor) -> None:
    claims = {"x_forwarded_user": "root", "x_forwarded_groups": "/pacs/admins"}
    assert ask(door.url, f"{API}/jobs", **claims) == 400
    with proxy(door.url, "ada", "/pacs/admins", secret="another secret of this length") as url:
        assert ask(url, f"{API}/jobs") == 400


def test_the_audit_log_names_the_person_and_where_it_sits(door: FrontDoor, state: Path) -> None:
    with proxy(door.url, "ada@hospital.example", "/pacs/admins") as url:
        assert ask(url, f"{API}/pause", "POST", source="127.0.0.9") == 200
    event = list(Trail(state).entries())[-1].event
    assert (event.who, event.way, event.address) == ("ada@hospital.example", "proxy", "127.0.0.9")
    assert (event.what, event.detail) == ("settings", "pause")
