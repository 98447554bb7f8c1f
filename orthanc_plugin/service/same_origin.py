"""Cross-site protection: no other site may act through a user's browser, and pages get strict headers.

A browser adds its stored credentials to any request to this origin, whichever site wrote the page. A request that
changes something must therefore come from a page of this origin, or from a program (which sends neither Sec-Fetch-Site
nor Origin). Orthanc reads `_method` and `X-HTTP-Method-Override` as the method, so they could turn a harmless GET into
a DELETE. Requests that carry them are refused.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orthanc_plugin.service.addresses import is_plain_query, is_same_origin, plain_path

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_COSTLY = "/enrichment/api/v1/inspect"
"""It reads a whole series: no other site may have it done, although it changes nothing."""
_READ_BY_MORE_THAN_US = ("/dicom-web", "/enrichment")
"""Files of the viewer are found or not; what is behind these may be read by Orthanc, databases and logs."""
_OVERRIDE_HEADERS = ("x-http-method-override", "x-http-method", "x-method-override")
_PAGES_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_ARCHIVE_POLICY = "frame-ancestors 'self'"


class SameOrigin:
    """ASGI middleware that refuses cross-site changes and method overrides, and adds security headers to answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 400 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        await (_refusal(scope) or self._app)(scope, receive, send_guarded)


def _refusal(scope: Scope) -> Response | None:
    headers = Headers(scope=scope)
    if scope["path"].startswith(_READ_BY_MORE_THAN_US) and not _has_one_reading(scope):
        return PlainTextResponse("Invalid path.\n", 400)
    if any(name in headers for name in _OVERRIDE_HEADERS) or _overrides_method(scope["query_string"]):
        return PlainTextResponse("A request may not override its own method.\n", 400)
    counts = scope["method"] not in _SAFE_METHODS or scope["path"].startswith(_COSTLY)
    if counts and not _is_same_origin(headers, scope["scheme"]):
        return PlainTextResponse("Changes are accepted only from pages of this origin.\n", 403)
    return None


def _overrides_method(query: bytes) -> bool:
    names = (part.partition("=")[0] for part in re.split("[&;]", query.decode("latin-1")))
    return any(unquote_plus(name).strip().lower() == "_method" for name in names)


def _has_one_reading(scope: Scope) -> bool:
    try:
        plain_path(scope.get("raw_path") or scope["path"].encode())
    except ValueError:
        return False
    return is_plain_query(scope["query_string"])


def _is_same_origin(headers: Headers, scheme: str) -> bool:
    """Tell whether a page of this origin asks; behind a TLS proxy, X-Forwarded-Proto tells the scheme.

    A foreign page cannot set that header: its browser would ask us first (CORS), and get no answer that allows it.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    scheme = headers.get("x-forwarded-proto", scheme).partition(",")[0].strip().lower()
    return is_same_origin(origin, scheme, headers.get("host", ""))


def _add_headers(headers: MutableHeaders, path: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if path.startswith("/dicom-web/"):
        headers["Content-Security-Policy"] = _ARCHIVE_POLICY
    elif path.startswith("/enrichment"):
        headers["Content-Security-Policy"] = _PAGES_POLICY
        headers.setdefault("Cache-Control", "no-store")
    else:  # OHIF sets a policy of its own
        headers.setdefault("Content-Security-Policy", _PAGES_POLICY)
        headers.setdefault("Cache-Control", "no-store")
