"""The form by which people log in, where the settings ask for it, and the way out."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orthanc_plugin.audit.event import What
from orthanc_plugin.service.callers import Way, person, printable
from orthanc_plugin.service.gate import Access, Entrance, OrthancLogin
from orthanc_plugin.service.pages import render
from orthanc_plugin.service.permissions import LOGIN_PATH, LOGOUT_PATH
from orthanc_plugin.service.routes import body_of, guarded
from orthanc_plugin.service.sessions import session_cookie, session_name

_BODY_BYTES = 4096
_WRONG = "user and password do not fit together, or the account has no role here"


class LoginPages:
    """Handlers of the form.

    Parameters
    ----------
    login : OrthancLogin
        Decides whether a password is right.
    entrance : Entrance
        Sessions, failures and roles.
    """

    def __init__(self, login: OrthancLogin, entrance: Entrance) -> None:
        self._login, self._entrance = login, entrance

    def routes(self) -> list[Route]:
        """Return the routes; none where browsers ask for the password themselves."""
        if not self._entrance.has_form:
            return []
        return [
            Route(LOGIN_PATH, guarded(self.form, ("next",))),
            Route(LOGIN_PATH, guarded(self.enter), methods=["POST"]),
            Route(LOGOUT_PATH, guarded(self.leave), methods=["POST"]),
        ]

    async def form(self, request: Request) -> Response:
        """Show the form."""
        return _form(request.query_params.get("next", ""))

    async def enter(self, request: Request) -> Response:
        """Begin a session, and lead to where the person wanted to go."""
        fields = parse_qs((await body_of(request, _BODY_BYTES)).decode("utf-8", "replace"))
        user, password, where = (fields.get(name, [""])[0] for name in ("user", "password", "next"))
        entrance, address = self._entrance, self._entrance.proxies.address_of(request.scope)
        name = printable(user)
        if entrance.lockout.wait_s(address, name):
            return _form(where, "too many wrong passwords; wait until they are accepted again", 429)
        authorization = b"Basic " + b64encode(f"{user}:{password}".encode())
        access = await self._login.access(authorization) if user and ":" not in user else Access.DENIED
        if access in (Access.UNREACHABLE, Access.UNCLEAR):
            return _form(where, "Orthanc does not respond", 503)
        role = entrance.settings.role_of(name)
        if access is Access.DENIED or role is None:
            entrance.lockout.failed(address, name)
            await run_in_threadpool(
                entrance.told, person(name, Way.SESSION, None, address), What.LOGIN, "wrong password"
            )
            return _form(where, _WRONG, 401)
        entrance.lockout.passed(address, name)
        session = entrance.sessions.begin(authorization)
        await run_in_threadpool(entrance.told, person(name, Way.SESSION, role, address), What.LOGIN, "began a session")
        return self._led(request, _inside(where), session)

    async def leave(self, request: Request) -> Response:
        """End the session."""
        name = session_name(request.headers.get("cookie", ""), self._entrance.proxies.is_encrypted(request.scope))
        self._entrance.sessions.end(name)
        return self._led(request, LOGIN_PATH, "")

    def _led(self, request: Request, where: str, session: str) -> Response:
        secure = self._entrance.proxies.is_encrypted(request.scope)
        headers = {"Set-Cookie": session_cookie(session, secure)}
        return RedirectResponse(where, 303, headers)


def _form(where: str, problem: str = "", status: int = 200) -> Response:
    return render("login.html", active="", where=_inside(where), problem=problem, status=status)


def _inside(where: str) -> str:
    """Return an address of this service, whatever a caller writes: never one of another host."""
    try:
        parts = urlsplit(where)
    except ValueError:
        return "/enrichment/"
    is_ours = where.startswith("/") and not where.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return where if is_ours and where.isprintable() and "\\" not in where else "/enrichment/"
