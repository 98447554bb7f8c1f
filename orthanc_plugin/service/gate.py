"""The gate: it asks Orthanc who may enter, so Orthanc keeps the only password list.

Each request carries HTTP Basic credentials of an Orthanc user. The gate tries them on Orthanc's `/system` and remembers
an acceptance for a few seconds; it never remembers that a password was refused. If Orthanc asks for no password, any
header would pass, so only this machine may enter. Orthanc's own plugin uses one route, the hints. A secret shared at
start-up is the only key to that route, and it opens no other.

Who may enter has a role or, with a token of the API, rights; `permissions` says which right a route needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from urllib.parse import quote, urlsplit

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from orthanc_plugin.audit.event import What
from orthanc_plugin.config.access import AccessSettings
from orthanc_plugin.config.base import is_loopback
from orthanc_plugin.jobs.tokens import PREFIX, Token
from orthanc_plugin.service.callers import CALLER, PROXY_SECRET_HEADER, Caller, Proxies, Way, name_in, person, printable
from orthanc_plugin.service.lockout import Lockout
from orthanc_plugin.service.orthanc_away import OrthancAway
from orthanc_plugin.service.permissions import LOGIN_PATH, MEANING, Right, is_open_to_all, right_for
from orthanc_plugin.service.sessions import Sessions, session_name

HINTS_PATH = "/enrichment/api/v1/hints"
SECRET_HEADER = "x-enrichment-secret"  # noqa: S105 (the header's name, not a secret)
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""A proxy adds these headers: the caller may be anywhere."""
_OURS = frozenset({b"authorization", b"cookie", SECRET_HEADER.encode(), PROXY_SECRET_HEADER.encode()})
REMEMBERED_S = 5.0
REMEMBERED_LOGINS = 1000


class Access(Enum):
    """Orthanc's answer about a caller."""

    GRANTED = "granted"
    DENIED = "denied"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"


class OrthancLogin:
    """Asks Orthanc whether credentials are valid.

    Only one request per credentials runs at a time, so a burst of requests from a viewer costs Orthanc one answer.

    Parameters
    ----------
    client : httpx.AsyncClient
        Follows no redirects and ignores proxy settings.
    orthanc_url : str
        Root of Orthanc's REST interface.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, client: httpx.AsyncClient, orthanc_url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._question_url = orthanc_url.rstrip("/") + "/system"
        self._clock = clock
        self._granted: OrderedDict[bytes, float] = OrderedDict()
        self._closed_until = 0.0
        self._asking: dict[bytes, asyncio.Task[Access]] = {}

    async def access(self, authorization: bytes) -> Access:
        """Ask Orthanc about an Authorization header. An empty header means no credentials."""
        key = hashlib.sha256(authorization).digest()
        if self._granted.get(key, 0.0) > self._clock():
            return Access.GRANTED
        if not authorization and self._closed_until > self._clock():
            return Access.DENIED
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(key, authorization))
            self._asking[key].add_done_callback(lambda _: self._asking.pop(key))
        return await asyncio.shield(self._asking[key])  # a caller who leaves must not cancel it for the others

    async def _ask(self, key: bytes, authorization: bytes) -> Access:
        headers = [(b"authorization", authorization)] if authorization else []
        try:
            answer = await self._client.get(self._question_url, headers=headers, timeout=httpx.Timeout(10, connect=5))
        except httpx.HTTPError:
            return Access.UNREACHABLE
        if answer.status_code in (401, 403):
            if not authorization:
                self._closed_until = self._clock() + REMEMBERED_S
            return Access.DENIED
        if answer.status_code != 200:
            return Access.UNCLEAR
        self._remember(key)
        return Access.GRANTED

    def _remember(self, key: bytes) -> None:
        self._granted[key] = self._clock() + REMEMBERED_S
        self._granted.move_to_end(key)
        if len(self._granted) > REMEMBERED_LOGINS:
            self._granted.popitem(last=False)


@dataclass(frozen=True)
class Entrance:
    """What the gate needs beside Orthanc's answer.

    settings: roles and ways in.
    tokens: tokens of the API, or None where there are none.
    account: login of the service at Orthanc, for callers whom Orthanc does not know (tokens, proxies).
    told: is told of logins that failed, for the audit log.
    """

    settings: AccessSettings = field(default_factory=AccessSettings)
    tokens: Callable[[str], Token | None] | None = None
    account: bytes = b""
    told: Callable[[Caller, What, str], None] = lambda caller, what, detail: None

    @cached_property
    def proxies(self) -> Proxies:
        """The proxies that are trusted."""
        return Proxies(self.settings)

    @cached_property
    def lockout(self) -> Lockout:
        """The failures so far."""
        return Lockout(self.settings.max_failures, self.settings.lockout_s)

    @cached_property
    def sessions(self) -> Sessions:
        """The open sessions."""
        return Sessions(self.settings.session_minutes * 60.0, self.settings.session_hours * 3600.0)

    @property
    def has_form(self) -> bool:
        """Whether people log in by the form."""
        return self.settings.login == "form"


class Gate:
    """ASGI middleware that checks every caller. It is pure ASGI, so bodies stream through it unchanged.

    Parameters
    ----------
    app : ASGIApp
        The application behind the gate.
    login : OrthancLogin
        Decides who may enter.
    secret : str
        Key to the hints route. If it is empty, that route is closed.
    entrance : Entrance, optional
        Roles, and the other ways in.
    """

    def __init__(self, app: ASGIApp, login: OrthancLogin, secret: str, entrance: Entrance | None = None) -> None:
        self._app = app
        self._login = login
        self._secret = secret.encode()
        self._entrance = entrance or Entrance()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            refusal = await self._refusal(scope)
            await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> ASGIApp | None:
        CALLER.set(None)
        headers = Headers(scope=scope)
        if scope["path"] == HINTS_PATH:
            given = headers.get(SECRET_HEADER, "").encode("latin-1")
            return None if self._secret and hmac.compare_digest(given, self._secret) else _FORBIDDEN
        if self._entrance.has_form and is_open_to_all(scope["method"], scope["path"]):
            return None
        try:
            found = await self._caller(scope, headers)
        except ValueError as error:
            return PlainTextResponse(f"{str(error).capitalize()}.\n", 400)
        if not isinstance(found, Caller):
            return found
        right = right_for(scope["method"], scope["path"])
        if not found.may(right):
            await self._tell(found, What.DENIED, f"{scope['method']} needs the right {right}")
            return PlainTextResponse(f"{found.name} may not do this: it needs the right to {MEANING[right]}.\n", 403)
        scope["caller"] = found
        CALLER.set(found)
        return None

    async def _caller(self, scope: Scope, headers: Headers) -> Caller | ASGIApp:
        """Find out who calls, and leave in the request what Orthanc may see of that."""
        entrance = self._entrance
        if (proxied := entrance.proxies.user_of(scope)) is not None:
            self._pass_on(scope, entrance.account)
            return proxied
        authorization = headers.get("authorization", "").encode("latin-1")
        way = Way.PASSWORD if authorization else Way.OPEN
        if not authorization and entrance.has_form:
            name = session_name(headers.get("cookie", ""), entrance.proxies.is_encrypted(scope))
            if name and (authorization := entrance.sessions.authorization(name)):
                way = Way.SESSION
        address = entrance.proxies.address_of(scope)
        user = name_in(authorization)
        if authorization and (wait := entrance.lockout.wait_s(address, user)):
            return _locked(wait)
        token = _token_in(authorization)
        if token and entrance.tokens is not None:
            return await self._token(scope, await run_in_threadpool(entrance.tokens, token), address)
        refusal, user = await self._asked(scope, headers, authorization, user, address)
        if refusal is not None:
            return _to_form(scope, headers) if refusal is _REFUSALS[Access.DENIED] and entrance.has_form else refusal
        self._pass_on(scope, authorization)
        return person(user, way, entrance.settings.role_of(user), address)

    async def _asked(
        self, scope: Scope, headers: Headers, authorization: bytes, user: str, address: str
    ) -> tuple[ASGIApp | None, str]:
        """Ask Orthanc; return a refusal, or the user whom it knows."""
        access = await self._login.access(authorization)
        if access is Access.DENIED and authorization:
            caller = person(user, Way.PASSWORD, None, address)
            await self._tell(caller, What.LOGIN, "wrong password")
            if self._entrance.lockout.failed(address, user):
                await self._tell(caller, What.DENIED, "is refused for a while: wrong passwords")
        if access is not Access.GRANTED:
            return _REFUSALS[access], user
        nobody = await self._login.access(b"")
        if nobody is Access.GRANTED:  # it would believe any name
            return (None, "nobody") if _is_local(scope, headers) else (_NOT_OPEN, user)
        if nobody is not Access.DENIED:
            return _REFUSALS[nobody], user
        self._entrance.lockout.passed(address, user)
        return None, user

    async def _token(self, scope: Scope, token: Token | None, address: str) -> Caller | ASGIApp:
        entrance = self._entrance
        if token is None:
            entrance.lockout.failed(address, name_in(b"Bearer"))
            await self._tell(person("of a token", Way.TOKEN, None, address), What.LOGIN, "wrong token")
            return _REFUSALS[Access.DENIED]
        entrance.lockout.passed(address, name_in(b"Bearer"))
        self._pass_on(scope, entrance.account)
        rights = frozenset(right for right in Right if right in token.rights)
        return Caller(f"token {printable(token.name)}", Way.TOKEN, rights, None, address)

    async def _tell(self, caller: Caller, what: What, detail: str) -> None:
        await run_in_threadpool(self._entrance.told, caller, what, detail)

    def _pass_on(self, scope: Scope, authorization: bytes) -> None:
        """Leave no secret and no claim about the caller in the request but the login for Orthanc."""
        settings = self._entrance.settings
        dropped = {name.lower().encode() for name in (settings.user_header, settings.groups_header) if name} | _OURS
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in dropped]
        scope["headers"] = [*kept, (b"authorization", authorization)] if authorization else kept


def _token_in(authorization: bytes) -> str:
    scheme, _, given = authorization.decode("latin-1").partition(" ")
    return given.strip() if scheme.lower() == "bearer" and given.strip().startswith(PREFIX) else ""


def _locked(wait_s: float) -> Response:
    text = "Too many wrong passwords. Wait until they are accepted again.\n"
    return PlainTextResponse(text, 429, {"Retry-After": str(math.ceil(wait_s))})


def _to_form(scope: Scope, headers: Headers) -> ASGIApp:
    """Lead a person to the form, and tell a program to log in; a page that asks by itself must open no dialog."""
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        query = scope["query_string"].decode("latin-1")
        where = quote(scope["path"] + (f"?{query}" if query else ""), safe="")
        return RedirectResponse(f"{LOGIN_PATH}?next={where}", 303)
    if "sec-fetch-mode" in headers:
        return PlainTextResponse("Log in as a user of Orthanc.\n", 401)
    return _REFUSALS[Access.DENIED]


def _is_local(scope: Scope, headers: Headers) -> bool:
    """Tell whether both ends are this machine.

    The Host header is checked too: a foreign site that rebinds its name to this machine must not pass as local.
    """
    server = (scope.get("server") or ("",))[0]
    if any(name in headers for name in _FORWARDED):
        return False
    return is_loopback(server) and is_loopback(_host_name(headers.get("host", "")))


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


_FORBIDDEN = PlainTextResponse("Only Orthanc's plugin may use this route.\n", 403)
_NOT_OPEN = PlainTextResponse(
    "Orthanc asks for no password (AuthenticationEnabled is false), so only callers on this machine are let in.\n", 403
)
_REFUSALS: dict[Access, ASGIApp] = {
    Access.DENIED: PlainTextResponse(
        "Log in as a user of Orthanc.\n",
        401,
        {"WWW-Authenticate": 'Basic realm="Orthanc", charset="UTF-8"'},
    ),
    Access.UNREACHABLE: OrthancAway(),
    Access.UNCLEAR: PlainTextResponse("Orthanc gave an unexpected answer to the login check.\n", 502),
}
