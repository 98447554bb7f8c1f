"""The gate: it asks Orthanc who may enter, so Orthanc keeps the only password list.

Each request carries HTTP Basic credentials of an Orthanc user. The gate tries them on Orthanc's `/system` and remembers
an acceptance for a few seconds; it never remembers that a password was refused. If Orthanc asks for no password, any
header would pass, so only this machine may enter. Orthanc's own plugin uses one route, the hints. A secret shared at
start-up is the only key to that route, and it opens no other.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from urllib.parse import urlsplit

import httpx
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from orthanc_plugin.config.base import is_loopback
from orthanc_plugin.service.orthanc_away import OrthancAway

HINTS_PATH = "/enrichment/api/v1/hints"
SECRET_HEADER = "x-enrichment-secret"  # noqa: S105 (the header's name, not a secret)
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""A proxy adds these headers: the caller may be anywhere."""
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
    """

    def __init__(self, app: ASGIApp, login: OrthancLogin, secret: str) -> None:
        self._app = app
        self._login = login
        self._secret = secret.encode()

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
        headers = Headers(scope=scope)
        if scope["path"] == HINTS_PATH:
            given = headers.get(SECRET_HEADER, "").encode("latin-1")
            return None if self._secret and hmac.compare_digest(given, self._secret) else _FORBIDDEN
        authorization = headers.get("authorization", "").encode("latin-1")
        access = await self._login.access(authorization)
        if access is Access.GRANTED and not _is_local(scope, headers):
            nobody = await self._login.access(b"")
            return None if nobody is Access.DENIED else _REFUSALS.get(nobody, _NOT_OPEN)
        return None if access is Access.GRANTED else _REFUSALS[access]


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
