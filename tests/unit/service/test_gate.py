"""Login with Orthanc's users, the one route of the secret, and the refusal of cross-site changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import pytest
from starlette.responses import PlainTextResponse

from orthanc_plugin.service.gate import REMEMBERED_LOGINS, REMEMBERED_S, Access, Gate, OrthancLogin
from orthanc_plugin.service.same_origin import SameOrigin

RIGHT = httpx.BasicAuth("pacs", "right")._auth_header
WRONG = httpx.BasicAuth("pacs", "wrong")._auth_header
SECRET = "5ec2e7"
HINTS = "/enrichment/api/v1/hints"

Answer = TypeVar("Answer")


@dataclass
class Orthanc:
    """Stands in for Orthanc's `/system`."""

    password_needed: bool = True
    status: int = 200
    down: bool = False
    questions: list[str] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.questions.append(str(request.url))
        await asyncio.sleep(0)
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        if self.password_needed and request.headers.get("authorization") != RIGHT:
            return httpx.Response(401)
        return httpx.Response(self.status, json={})


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def login_of(orthanc: Orthanc, clock: Callable[[], float] = Clock()) -> OrthancLogin:  # noqa: B008
    return OrthancLogin(httpx.AsyncClient(transport=httpx.MockTransport(orthanc)), "http://orthanc:8042/", clock)


def ask(
    orthanc: Orthanc,
    method: str = "GET",
    path: str = "/enrichment/",
    base: str = "http://127.0.0.1:8043",
    **headers: str,
) -> httpx.Response:
    """Answer of a guarded application. Keyword names are header names, with underscores for hyphens."""

    async def run() -> httpx.Response:
        app = SameOrigin(Gate(PlainTextResponse("inside"), login_of(orthanc), SECRET))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(run())


def run(question: Callable[[], Awaitable[Answer]]) -> Answer:
    async def wrapped() -> Answer:
        return await question()

    return asyncio.run(wrapped())


def test_no_credentials_are_challenged() -> None:
    answer = ask(Orthanc())
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="Orthanc"')


def test_orthancs_users_enter_and_others_do_not() -> None:
    assert ask(Orthanc(), authorization=RIGHT).text == "inside"
    assert ask(Orthanc(), authorization=WRONG).status_code == 401


def test_orthanc_away_is_no_login_question() -> None:
    away = ask(Orthanc(down=True), authorization=RIGHT)
    assert (away.status_code, "www-authenticate" in away.headers) == (503, False)
    assert ask(Orthanc(status=500), authorization=RIGHT).status_code == 502
    assert ask(Orthanc(status=307), authorization=RIGHT).status_code == 502


def test_open_orthanc_lets_in_this_machine_only() -> None:
    open_orthanc = Orthanc(password_needed=False)
    assert ask(open_orthanc).status_code == 200
    assert ask(open_orthanc, base="http://localhost:8043").status_code == 200
    assert ask(open_orthanc, base="http://[::1]").status_code == 200
    assert ask(open_orthanc, base="http://192.0.2.7:8043").status_code == 403
    for foreign_host in ("rebound.example:8043", "", "[", "localhost.example"):
        assert ask(open_orthanc, host=foreign_host).status_code == 403


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip", "via"])
def test_open_orthanc_lets_nobody_in_through_a_proxy_on_this_machine(header: str) -> None:
    assert ask(Orthanc(password_needed=False), **{header: "192.0.2.7"}).status_code == 403
    assert ask(Orthanc(), authorization=RIGHT, **{header: "192.0.2.7"}).status_code == 200


def test_open_orthanc_lets_nobody_in_for_made_up_credentials() -> None:
    open_orthanc = Orthanc(password_needed=False)
    assert ask(open_orthanc, authorization=WRONG).status_code == 200
    assert ask(open_orthanc, base="http://192.0.2.7:8043", authorization=WRONG).status_code == 403
    assert ask(open_orthanc, host="rebound.example:8043", authorization=WRONG).status_code == 403


def test_a_yes_is_remembered_for_a_few_seconds_and_a_no_is_not() -> None:
    orthanc, clock = Orthanc(), Clock()
    login = login_of(orthanc, clock)

    async def visits() -> list[Access]:
        first = [await login.access(RIGHT.encode()) for _ in range(3)]
        clock.now += REMEMBERED_S + 0.1
        return [*first, await login.access(RIGHT.encode()), *[await login.access(WRONG.encode()) for _ in range(2)]]

    assert run(visits) == [Access.GRANTED] * 4 + [Access.DENIED] * 2
    assert len(orthanc.questions) == 2 + 2


def test_a_burst_asks_orthanc_once() -> None:
    orthanc = Orthanc()
    login = login_of(orthanc)

    async def burst() -> list[Access]:
        return await asyncio.gather(*[login.access(RIGHT.encode()) for _ in range(50)])

    assert run(burst) == [Access.GRANTED] * 50
    assert orthanc.questions == ["http://orthanc:8042/system"]


def test_a_caller_who_leaves_does_not_end_the_question_of_the_others() -> None:
    orthanc = Orthanc()
    login = login_of(orthanc)

    async def one_leaves() -> Access:
        leaver, stayer = (asyncio.create_task(login.access(RIGHT.encode())) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        return await stayer

    assert run(one_leaves) is Access.GRANTED


def test_memory_of_logins_is_bounded() -> None:
    login = login_of(Orthanc(password_needed=False))

    async def many() -> int:
        for number in range(REMEMBERED_LOGINS + 10):
            await login.access(str(number).encode())
        return len(login._granted)

    assert run(many) == REMEMBERED_LOGINS


def test_secret_opens_hints_and_nothing_else() -> None:
    assert ask(Orthanc(), "POST", HINTS, x_enrichment_secret=SECRET).status_code == 200
    assert ask(Orthanc(), "POST", HINTS, x_enrichment_secret=SECRET + "0").status_code == 403
    assert ask(Orthanc(), "POST", HINTS, authorization=RIGHT).status_code == 403
    assert ask(Orthanc(), x_enrichment_secret=SECRET).status_code == 401


def test_no_secret_shuts_hints() -> None:
    async def ask_without_secret() -> int:
        app = Gate(PlainTextResponse("inside"), login_of(Orthanc()), "")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return (await client.post(HINTS, headers={"X-Enrichment-Secret": ""})).status_code

    assert run(ask_without_secret) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"origin": "http://127.0.0.1:8043"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1:8043"}, 403),
        ({"origin": "https://127.0.0.1:8043", "x_forwarded_proto": "https"}, 200),
        ({"origin": "http://127.0.0.1:8043", "x_forwarded_proto": "https"}, 403),
        ({"origin": "http://pacs.example", "host": "pacs.example:80"}, 200),
        ({"origin": "https://pacs.example", "host": "pacs.example:443", "x_forwarded_proto": "https, http"}, 200),
        ({"origin": "http://pacs.example:443", "host": "pacs.example:443"}, 200),
        ({"origin": "http://", "host": ""}, 403),
        ({"origin": "http://[", "host": "["}, 403),
        ({"origin": "http://127.0.0.1:8043.evil.example"}, 403),
    ],
)
def test_changes_come_from_this_origin(headers: dict[str, str], status: int) -> None:
    assert ask(Orthanc(), "POST", authorization=RIGHT, **headers).status_code == status


@pytest.mark.parametrize("site", ["cross-site", "none"])
def test_reading_is_open_to_links_from_elsewhere(site: str) -> None:
    assert ask(Orthanc(), authorization=RIGHT, sec_fetch_site=site).status_code == 200


@pytest.mark.parametrize(
    "query", ["_method=DELETE", "a=1&_method=PUT", "a=1;_method=PUT", "%5fmethod=x", "_Method", "+_method=x"]
)
def test_method_override_by_query_is_refused(query: str) -> None:
    assert ask(Orthanc(), path=f"/dicom-web/studies?{query}", authorization=RIGHT).status_code == 400


def test_method_override_by_header_is_refused() -> None:
    assert ask(Orthanc(), authorization=RIGHT, x_http_method_override="DELETE").status_code == 400


def test_every_answer_carries_security_headers() -> None:
    for answer in (ask(Orthanc()), ask(Orthanc(), authorization=RIGHT), ask(Orthanc(), "POST", origin="null")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


def test_archive_answers_keep_their_own_caching() -> None:
    answer = ask(Orthanc(), path="/dicom-web/studies", authorization=RIGHT)
    assert "cache-control" not in answer.headers
    assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"
