"""The pass-through: `/dicom-web/` goes to Orthanc with the caller's own credentials, streamed both ways.

Bodies are never held: raw bytes go on as they come, compressed or not. The Host header stays the caller's, so that
the addresses in Orthanc's answers (BulkDataURI, RetrieveURL) point to this front door. A caller who leaves ends the
request to Orthanc too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from urllib.parse import unquote

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

_log = logging.getLogger(__name__)

PREFIX = "/dicom-web/"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
TIMEOUT = httpx.Timeout(300, connect=5)
"""Seconds without a byte before a request to Orthanc is given up: a large STOW is answered only once it is stored."""

# RFC 9110 7.6.1, and Expect: uvicorn has answered it before the body comes.
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
    """ASGI application that hands requests under `/dicom-web/` to a DICOMweb root.

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
        """Answer with the archive's answer; 400 for a path that leaves DICOMweb, 502 if the archive does not answer."""
        try:
            question = self._question(Request(scope, receive))
        except (ValueError, httpx.InvalidURL):
            await PlainTextResponse("No such path.\n", 400)(scope, receive, send)
            return
        try:
            upstream = await self._client.send(question, stream=True)
        except httpx.HTTPError as error:
            _log.warning("archive did not answer a pass-through request: %s", type(error).__name__)
            await PlainTextResponse("The archive does not answer.\n", 502)(scope, receive, send)
        except ClientDisconnect:
            _log.info("caller left during an upload; the request to the archive was ended")
        else:
            async with contextlib.aclosing(upstream):
                await self._answer(upstream, scope, receive, send)

    def _question(self, request: Request) -> httpx.Request:
        """The same request for the archive; built bare, as a client would add an Accept-Encoding of its own."""
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
            # The head is out: what is left is to end the connection, so that half an answer never looks whole.
            _log.warning("archive broke off an answer: %s", type(error).__name__)


def _leaves_dicomweb(path: str) -> bool:
    """Whether a server that resolves dots, backslashes or escapes would see a path outside the root.

    Or below `servers`: there Orthanc is a client itself, of any address that it is told.
    """
    plain = unquote(unquote(path))
    parts = [part for part in plain.split("/") if part]
    return "\\" in plain or not {".", ".."}.isdisjoint(parts) or parts[:1] == ["servers"]


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> _RawHeaders:
    """The headers that go on: without those of one connection, and without those which `Connection` names."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in lowered if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in lowered if name not in _HOP_BY_HOP and name not in named]
