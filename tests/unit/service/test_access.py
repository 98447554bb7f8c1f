"""Roles, proxies, tokens, sessions and lockout: who may do what, however they come in."""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from orthanc_plugin.config.access import AccessSettings, Role
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.database import open_engine
from orthanc_plugin.jobs.tokens import Tokens
from orthanc_plugin.service.callers import caller_of
from orthanc_plugin.service.gate import Entrance, Gate, OrthancLogin
from orthanc_plugin.service.lockout import network_of
from orthanc_plugin.service.login import LoginPages
from orthanc_plugin.service.permissions import API, PERMISSIONS, RIGHTS, Permission
from orthanc_plugin.service.same_origin import SameOrigin
from orthanc_plugin.service.sessions import Sessions
from tests.support.servers.front_door import PASSWORD, USER, front_door

SECRET = "5ec2e7"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def basic(user: str, password: str = "right") -> str:
    return httpx.BasicAuth(user, password)._auth_header


@dataclass
class Hospital:
    """An Orthanc that knows everybody by the password `right`."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        given = base64.b64decode(request.headers.get("authorization", "").partition(" ")[2]).decode()
        return httpx.Response(200 if given.endswith(":right") else 401, json={})


class Door:
    """The gate with settings, before an application that says who called and what it would forward."""

    def __init__(self, tokens: Tokens | None = None, account: bytes = b"Basic service", **settings: object) -> None:
        self.told: list[str] = []
        self.entrance = Entrance(
            AccessSettings.model_validate(settings), tokens.find if tokens else None, account,
            lambda caller, what, detail: self.told.append(f"{caller.name}: {detail}"),
        )  # fmt: skip
        login = OrthancLogin(httpx.AsyncClient(transport=httpx.MockTransport(Hospital())), "http://orthanc:8042/")
        inside = Starlette(routes=[*LoginPages(login, self.entrance).routes(), Mount("/", self.inside)])
        self.app = SameOrigin(Gate(inside, login, SECRET, self.entrance))

    async def inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        caller = caller_of(request)
        said = {"name": caller.name, "role": caller.role, "way": caller.way, "headers": dict(request.headers)}
        await JSONResponse(said)(scope, receive, send)

    def ask(
        self, path: str = "/enrichment/", method: str = "GET", peer: str = "192.0.2.9", data: object = None,
        **headers: str | bytes,
    ) -> httpx.Response:  # fmt: skip
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(peer, 1234))
            async with httpx.AsyncClient(transport=transport, base_url="http://pacs.example") as client:
                named = {k.replace("_", "-"): v for k, v in headers.items()}
                return await client.request(method, path, headers=named, data=data)  # type: ignore[arg-type]

        return asyncio.run(run())


ROLES = {"Viewers": ["vera"], "Operators": ["otto"], "Admins": ["ada"]}


@pytest.mark.parametrize("user", ["vera", "otto", "ada", "stranger"])
@pytest.mark.parametrize("line", PERMISSIONS, ids=lambda line: f"{'|'.join(line.methods) or 'any'} {line.path}")
def test_each_route_is_open_to_the_roles_of_the_table(line: Permission, user: str) -> None:
    role = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "ada": Role.ADMIN, "stranger": None}[user]
    path = re.sub(r"\{[a-z]+:int\}", "1", re.sub(r"\{[a-z]+:path\}", "/1.2", line.path).replace("//", "/"))
    path = re.sub(r"\{[a-z]+\}", "x", path)
    answer = Door(**ROLES).ask(path, line.methods[0] if line.methods else "DELETE", authorization=basic(user))
    may = role is not None and line.right in RIGHTS[role]
    assert answer.status_code == (200 if may else 403)


def test_nobody_is_named_everybody_is_an_admin_and_else_strangers_stay_outside() -> None:
    assert Door().ask(f"{API}/pause", "POST", authorization=basic("anybody")).json()["role"] == "admin"
    assert Door(Viewers=["vera"]).ask(authorization=basic("anybody")).status_code == 403
    assert Door(Viewers=["vera"], Others="operator").ask(authorization=basic("anybody")).json()["role"] == "operator"


def test_what_no_line_knows_needs_an_admin() -> None:
    for path in ("/dicom-web/tools", "/dicom-web//studies", "/enrichment/api/v1/new"):
        assert Door(**ROLES).ask(path, "POST", authorization=basic("otto")).status_code == 403


PROXY = {"TrustedProxies": ["192.0.2.9", "2001:db8::/64"], "UserHeader": "X-Forwarded-User", **ROLES}


def test_a_trusted_proxy_says_who_calls() -> None:
    said = Door(**PROXY).ask(x_forwarded_user="otto", authorization="Basic of-the-proxy", cookie="a=b").json()
    assert (said["name"], said["role"], said["way"]) == ("otto", "operator", "proxy")
    assert said["headers"]["authorization"] == "Basic service"
    assert not {"x-forwarded-user", "cookie"} & set(said["headers"])


@pytest.mark.parametrize("peer", ["192.0.2.10", "127.0.0.1", "2001:db9::1", "", "unix"])
def test_nobody_else_says_who_calls(peer: str) -> None:
    door = Door(**PROXY)
    assert door.ask(peer=peer, x_forwarded_user="ada").status_code == 401
    said = door.ask(peer=peer, x_forwarded_user="ada", authorization=basic("vera")).json()
    assert (said["name"], "x-forwarded-user" in said["headers"]) == ("vera", False)


def test_a_proxy_of_ipv6_and_a_mapped_address_are_known() -> None:
    assert Door(**PROXY).ask(peer="2001:db8::7", x_forwarded_user="ada").status_code == 200
    assert Door(**PROXY).ask(peer="::ffff:192.0.2.9", x_forwarded_user="ada").status_code == 200


def test_groups_of_the_proxy_give_roles() -> None:
    groups = {"GroupsHeader": "X-Forwarded-Groups", "AdminGroups": ["/pacs/admins"], "ViewerGroups": ["radiology"]}
    door = Door(**(PROXY | groups))
    for told, role in (("radiology", "viewer"), ("x, /pacs/admins ,radiology", "admin")):
        assert door.ask(x_forwarded_user="new", x_forwarded_groups=told).json()["role"] == role
    assert door.ask(x_forwarded_user="new", x_forwarded_groups="other").status_code == 403


def test_a_proxy_that_lets_names_through_is_refused() -> None:
    door = Door(**PROXY)

    async def twice() -> int:
        transport = httpx.ASGITransport(door.app, client=("192.0.2.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://pacs.example") as client:
            headers = [("X-Forwarded-User", "vera"), ("x-forwarded-user", "ada")]
            return (await client.get("/enrichment/", headers=headers)).status_code

    assert asyncio.run(twice()) == 400
    assert door.ask(x_forwarded_user="").status_code == 400
    assert door.ask(x_forwarded_user="ad\ta").status_code == 400


def test_a_proxy_shows_its_secret() -> None:
    secret = "s" * 24
    door = Door(**PROXY, ProxySecret=secret)
    assert door.ask(x_forwarded_user="ada").status_code == 400
    assert door.ask(x_forwarded_user="ada", x_enrichment_proxy_secret="t" * 24).status_code == 400
    said = door.ask(x_forwarded_user="ada", x_enrichment_proxy_secret=secret).json()
    assert (said["name"], "x-enrichment-proxy-secret" in said["headers"]) == ("ada", False)


def test_a_name_from_a_proxy_may_have_any_letters() -> None:
    door = Door(**(PROXY | {"Admins": ["Müller"]}))
    assert door.ask(x_forwarded_user="Müller".encode()).json()["name"] == "Müller"


def test_wrong_passwords_close_the_door_for_a_while() -> None:
    door = Door(MaxFailures=3, LockoutSeconds=60)
    assert [door.ask(authorization=basic("ada", "x")).status_code for _ in range(4)] == [401, 401, 401, 429]
    refused = door.ask(authorization=basic("ada"))
    assert (refused.status_code, 0 < int(refused.headers["retry-after"]) <= 60) == (429, True)
    assert door.ask(authorization=basic("vera")).status_code == 200
    assert door.ask(peer="192.0.2.77", authorization=basic("ada")).status_code == 200
    assert "ada: is refused for a while: wrong passwords" in door.told


def test_a_right_password_forgets_the_wrong_ones() -> None:
    door = Door(MaxFailures=3)
    for _ in range(4):
        assert [door.ask(authorization=basic("ada", word)).status_code for word in ("x", "y", "right")] == [
            401,
            401,
            200,
        ]


def test_many_users_at_one_address_close_it_for_all() -> None:
    door = Door()
    for number in range(20):
        assert door.ask(authorization=basic(f"user{number}", "x")).status_code == 401
    assert door.ask(authorization=basic("ada")).status_code == 429
    assert door.ask(peer="192.0.2.1", authorization=basic("ada")).status_code == 200


def test_all_addresses_of_one_ipv6_network_count_as_one() -> None:
    door = Door(MaxFailures=3)
    for number in range(3):
        assert door.ask(peer=f"2001:db8:0:1::{number + 1:x}", authorization=basic("ada", "x")).status_code == 401
    assert door.ask(peer="2001:db8:0:1:ffff::9", authorization=basic("ada")).status_code == 429
    assert door.ask(peer="2001:db8:0:2::1", authorization=basic("ada")).status_code == 200


def test_a_port_that_a_proxy_adds_makes_no_new_address() -> None:
    door = Door(MaxFailures=3, TrustedProxies=["192.0.2.9"])
    hops = ["203.0.113.5:1001", "203.0.113.5:1002", "203.0.113.5"]
    assert [door.ask(authorization=basic("ada", "x"), x_forwarded_for=hop).status_code for hop in hops] == [401] * 3
    assert door.ask(authorization=basic("ada"), x_forwarded_for="203.0.113.5:1003").status_code == 429


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"), ("192.0.2.7:80", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"), ("[2001:db8::1]:80", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"), ("", ""), ("[", "["), ("a:b", "a:b"),
    ],
)  # fmt: skip
def test_what_stands_for_one_computer(address: str, network: str) -> None:
    assert network_of(address) == network


def test_behind_a_proxy_the_callers_own_address_is_locked_out() -> None:
    door = Door(MaxFailures=3, TrustedProxies=["192.0.2.9", "10.0.0.1"])
    wrong = [
        door.ask(authorization=basic("ada", "x"), x_forwarded_for="6.6.6.6, 203.0.113.5, 10.0.0.1") for _ in range(4)
    ]
    assert [answer.status_code for answer in wrong] == [401, 401, 401, 429]
    assert door.ask(authorization=basic("ada"), x_forwarded_for="9.9.9.9, 203.0.113.5").status_code == 429
    assert door.ask(authorization=basic("ada"), x_forwarded_for="203.0.113.6").status_code == 200


def test_a_token_has_its_own_rights_and_no_others(tmp_path: Path) -> None:
    tokens = Tokens(open_engine(f"sqlite:///{tmp_path}/jobs.db"))
    token, text = tokens.create("report", ["view", "export"])
    door = Door(tokens, **ROLES)
    said = door.ask(authorization=f"Bearer {text}").json()
    assert (said["name"], said["role"], said["headers"]["authorization"]) == ("token report", None, "Basic service")
    assert door.ask(f"{API}/pause", "POST", authorization=f"Bearer {text}").status_code == 403
    assert door.ask(f"{API}/patients", "POST", authorization=f"Bearer {text}").status_code == 403
    assert door.ask(authorization=f"Bearer {text[:-1]}x").status_code == 401
    assert door.ask(authorization=f"Bearer {text}x").status_code == 401
    tokens.revoke(token.id)
    assert door.ask(authorization=f"Bearer {text}").status_code == 401
    assert text.split("_", 2)[2].encode() not in (tmp_path / "jobs.db").read_bytes()
    with pytest.raises(EnrichError, match="revoked before"):
        tokens.revoke(token.id)


def test_a_token_expires(tmp_path: Path) -> None:
    tokens = Tokens(open_engine(f"sqlite:///{tmp_path}/jobs.db"))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    _, text = tokens.create("short", ["view"], days=2, now=start)
    assert tokens.find(text, start + timedelta(days=1)) is not None
    assert tokens.find(text, start + timedelta(days=2)) is None


class TestForm:
    def enter(
        self, door: Door, password: str = "right", where: str = "/enrichment/system", **more: str
    ) -> httpx.Response:
        data = {"user": "ada", "password": password, "next": where}
        return door.ask("/enrichment/login", "POST", data=data, **more)

    def test_a_person_is_led_to_the_form_and_back(self) -> None:
        door = Door(Login="form")
        led = door.ask("/enrichment/jobs/1?x=2", accept="text/html")
        assert (led.status_code, led.headers["location"]) == (
            303,
            "/enrichment/login?next=%2Fenrichment%2Fjobs%2F1%3Fx%3D2",
        )
        assert "password" in door.ask(led.headers["location"]).text
        entered = self.enter(door)
        cookie = entered.headers["set-cookie"]
        assert (entered.status_code, entered.headers["location"]) == (303, "/enrichment/system")
        assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/"))
        said = door.ask(cookie=cookie.partition(";")[0]).json()
        assert (said["name"], said["way"]) == ("ada", "session")
        assert said["headers"]["authorization"] == basic("ada")

    def test_behind_tls_the_cookie_is_bound_to_it(self) -> None:
        door = Door(Login="form")
        cookie = self.enter(door, x_forwarded_proto="https").headers["set-cookie"]
        assert cookie.startswith("__Host-enrichment=")
        assert "Secure" in cookie
        assert door.ask(cookie=cookie.partition(";")[0]).status_code == 401
        assert door.ask(cookie=cookie.partition(";")[0], x_forwarded_proto="https").status_code == 200

    def test_the_way_out_ends_the_session(self) -> None:
        door = Door(Login="form")
        cookie = self.enter(door).headers["set-cookie"].partition(";")[0]
        left = door.ask("/enrichment/logout", "POST", cookie=cookie)
        assert (left.status_code, "Max-Age=0" in left.headers["set-cookie"]) == (303, True)
        assert door.ask(cookie=cookie).status_code == 401

    def test_a_page_offers_the_way_out_of_a_session_and_only_of_one(self, tmp_path: Path) -> None:
        with front_door(tmp_path, section={"Access": {"Login": "form"}}) as door:
            data = {"user": USER, "password": PASSWORD, "next": "/enrichment/"}
            entered = door.ask("/enrichment/login", "POST", auth=None, data=data)
            cookie = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
            for path in ("/enrichment/", "/enrichment/system", "/enrichment/jobs/none"):
                page = door.ask(path, auth=None, headers=cookie | {"Accept": "text/html"}).text
                assert f"<span>{USER}</span>" in page
                assert '<form class="session" method="post" action="/enrichment/logout">' in page
            assert "Log out" not in door.ask("/enrichment/").text  # by password: a browser cannot forget it
            assert "Log out" not in door.ask("/enrichment/login", auth=None).text

    def test_a_session_ends_unused_and_in_any_case(self) -> None:
        clock = Clock()
        sessions = Sessions(100.0, 1000.0, clock)
        name = sessions.begin(b"x")
        for _ in range(12):
            clock.now += 80
            assert sessions.authorization(name) == b"x"
        clock.now += 80
        assert sessions.authorization(name) == b""
        other = sessions.begin(b"y")
        clock.now += 101
        assert sessions.authorization(other) == b""

    def test_wrong_passwords_close_the_form_too(self) -> None:
        door = Door(Login="form", MaxFailures=3)
        assert [self.enter(door, "x").status_code for _ in range(4)] == [401, 401, 401, 429]
        assert self.enter(door).status_code == 429

    @pytest.mark.parametrize("where", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x",
                                       "", "/a\nb", "enrichment", "/%5c/\\x", "http://["])  # fmt: skip
    def test_the_form_leads_nowhere_else(self, where: str) -> None:
        assert self.enter(Door(Login="form"), where=where).headers["location"] == "/enrichment/"

    def test_no_other_site_logs_anybody_in_or_out(self) -> None:
        door = Door(Login="form")
        assert self.enter(door, origin="https://evil.example").status_code == 403
        assert door.ask("/enrichment/logout", "POST", sec_fetch_site="cross-site").status_code == 403

    def test_a_script_of_a_page_opens_no_dialog_and_a_program_is_challenged(self) -> None:
        door = Door(Login="form")
        assert "www-authenticate" not in door.ask(f"{API}/jobs", sec_fetch_mode="cors").headers
        assert "www-authenticate" in door.ask(f"{API}/jobs").headers

    def test_without_the_setting_there_is_no_form(self) -> None:
        assert Door().ask("/enrichment/login").status_code == 401
        assert Door().ask(cookie="enrichment=x").status_code == 401


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"UserHeader": "X-User", "Viewers": ["a"]}, "TrustedProxies"),
        ({"ProxySecret": "s" * 24}, "TrustedProxies"),
        ({"TrustedProxies": ["0.0.0.0/0"]}, "larger than /16"),
        ({"TrustedProxies": ["::/0"]}, "larger than /16"),
        ({"TrustedProxies": ["10.0.0.0/8"]}, "larger than /16"),
        ({"TrustedProxies": ["everybody"]}, "not an address"),
        ({"TrustedProxies": ["10.0.0.1"], "UserHeader": "X-User"}, "everybody whom the proxy logs in"),
        ({"TrustedProxies": ["10.0.0.1"], "UserHeader": "X-User", "Others": "admin"}, "everybody whom the proxy"),
        ({"TrustedProxies": ["10.0.0.1"], "UserHeader": "Authorization", "Others": "viewer"}, "pattern"),
        ({"TrustedProxies": ["10.0.0.1"], "UserHeader": "Host", "Others": "viewer"}, "pattern"),
        ({"GroupsHeader": "X-Groups"}, "GroupsHeader needs UserHeader"),
        ({"AdminGroups": ["a"]}, "need GroupsHeader"),
        ({"Viewers": ["a"], "Admins": ["a"]}, "two roles"),
        ({"TrustedProxies": ["10.0.0.1"], "ProxySecret": "short"}, "24 characters"),
    ],
)
def test_settings_that_trust_by_mistake_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        AccessSettings.model_validate(settings)
