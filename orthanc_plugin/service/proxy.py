"""The pass-through: it forwards `/dicom-web/` to Orthanc with the caller's own credentials and streams both ways.

It never holds a body: raw bytes pass through as they come, compressed or not. It keeps the caller's Host header, so
that addresses in Orthanc's answers (BulkDataURI, RetrieveURL) point to this front door. When the caller leaves, the
request to Orthanc ends too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

import httpcore
import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from orthanc_plugin.service.addresses import plain_path

_log = logging.getLogger(__name__)

# httpcore takes 64 KiB at a time by default: each costs two turns of the event loop and a parse in Python. uvloop reads
# up to 256,000 bytes at once (`make bench-front-door`).
httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = 256 * 1024

PREFIX = "/dicom-web/"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
TIMEOUT = httpx.Timeout(300, connect=5)
"""Seconds without a byte before a request to Orthanc fails. Orthanc answers a large STOW only after storing it."""

# RFC 9110 7.6.1, and Expect, which uvicorn answers before the body comes.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_RawHeaders = list[tuple[bytes, bytes]]


class PassThrough:
    """ASGI application that forwards requests under `/dicom-web/` to a DICOMweb root.

    Parameters
    ----------
    client : httpx.AsyncClient
        Follows no redirects and ignores proxy settings.
    dicomweb_url : str
        DICOMweb root of the archive.
    """

    def __init__(self, client: httpx.AsyncClient, dicomweb_url: str) -> None:
        self._client = client
        self._root = dicomweb_url.rstrip("/") + "/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Return the archive's answer.

        Answers 400 for a path that leaves DICOMweb, and 502 if the archive does not respond.
        """
        try:
            question = self._question(Request(scope, receive))
        except (ValueError, httpx.InvalidURL):
            await PlainTextResponse("Invalid path.\n", 400)(scope, receive, send)
            return
        try:
            upstream = await self._client.send(question, stream=True)
        except httpx.HTTPError as error:
            _log.warning("the archive did not respond to a pass-through request: %s", type(error).__name__)
            await PlainTextResponse("The archive does not respond.\n", 502)(scope, receive, send)
        except ClientDisconnect:
            _log.info("the caller left during an upload; the request to the archive was cancelled")
        else:
            async with contextlib.aclosing(upstream):
                await self._answer(upstream, scope, receive, send)

    def _question(self, request: Request) -> httpx.Request:
        """Build the same request for the archive without a client, which would add its own Accept-Encoding."""
        path = request.scope["raw_path"].decode("latin-1")
        if not path.startswith(PREFIX) or _leaves_dicomweb(path.removeprefix(PREFIX)):
            raise ValueError("path leaves DICOMweb")
        query = request.scope["query_string"].decode("latin-1")
        return httpx.Request(
            request.method,
            self._root + path.removeprefix(PREFIX) + (f"?{query}" if query else ""),
            headers=_end_to_end(request.headers.raw),
            content=request.stream() if _has_body(request) else None,
            extensions={"timeout": TIMEOUT.as_dict()},
        )

    async def _answer(self, upstream: httpx.Response, scope: Scope, receive: Receive, send: Send) -> None:
        answer = StreamingResponse(upstream.aiter_raw(), upstream.status_code)
        answer.raw_headers = _end_to_end(upstream.headers.raw)
        try:
            await answer(scope, receive, send)
        except httpx.HTTPError as error:
            # The headers are sent. Only ending the connection keeps half an answer from looking complete.
            _log.warning("the archive broke off an answer: %s", type(error).__name__)


def _leaves_dicomweb(path: str) -> bool:
    """Tell whether a path leads out of DICOMweb once dots and escapes are resolved; ValueError if that is unclear.

    Paths below `servers` count too: there Orthanc itself is a client of any address that the caller names.
    """
    parts = [part.strip() for part in plain_path(path.encode("latin-1")).split("/") if part.strip()]
    return not {".", ".."}.isdisjoint(parts) or parts[:1] == ["servers"]


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> _RawHeaders:
    """Drop the headers of a single connection, and those that `Connection` names."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in lowered if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in lowered if name not in _HOP_BY_HOP and name not in named]
