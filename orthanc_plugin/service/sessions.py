"""Sessions of people who log in by the form: a random name in a cookie, and everything else here in memory.

A session keeps the login for Orthanc, which is asked again every few seconds: a changed password ends the session. It
ends also when nobody uses it, after some hours in any case, at the logout, and with the service.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

MOST_SESSIONS = 1000
_NAME, _SECURE_NAME = "enrichment", "__Host-enrichment"


@dataclass(slots=True)
class _Session:
    authorization: bytes
    began: float
    used: float


class Sessions:
    """The open sessions.

    Parameters
    ----------
    idle_s, longest_s : float
        When a session ends that nobody uses, and any session.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, idle_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s, self._longest_s, self._clock = idle_s, longest_s, clock
        self._open: OrderedDict[bytes, _Session] = OrderedDict()

    def begin(self, authorization: bytes) -> str:
        """Begin a session, and return its name for the cookie."""
        name = secrets.token_urlsafe(32)
        now = self._clock()
        self._open[_digest(name)] = _Session(authorization, now, now)
        while len(self._open) > MOST_SESSIONS:
            self._open.popitem(last=False)
        return name

    def authorization(self, name: str) -> bytes:
        """Return the login of a session, and note that it is used; empty if there is no such session any more."""
        key, now = _digest(name), self._clock()
        session = self._open.get(key)
        if session is None:
            return b""
        if now - session.used > self._idle_s or now - session.began > self._longest_s:
            del self._open[key]
            return b""
        session.used = now
        return session.authorization

    def end(self, name: str) -> None:
        """End a session, if there is one."""
        self._open.pop(_digest(name), None)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "replace")).digest()


def session_name(cookie: str, secure: bool) -> str:
    """Read the name of the session from the header `Cookie`; empty if there is none."""
    try:
        morsel = SimpleCookie(cookie).get(_SECURE_NAME if secure else _NAME)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def session_cookie(name: str, secure: bool) -> str:
    """Write the header `Set-Cookie`; an empty name removes the cookie."""
    parts = [f"{_SECURE_NAME if secure else _NAME}={name}", "Path=/", "HttpOnly", "SameSite=Strict"]
    return "; ".join([*parts, *(["Secure"] if secure else []), *(["Max-Age=0"] if not name else [])])
