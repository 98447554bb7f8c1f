"""The pass-through: requests that pass unchanged, refused paths, and the end of a request when one side leaves."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.client
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from orthanc_plugin.service.proxy import PassThrough
from tests.support.servers.asgi_server import serving
from tests.support.servers.orthanc_server import wait_until

CHUNK = b"x" * 65536


class Upstream:
    """An archive that echoes requests, streams without end on `/endless` and breaks off on `/broken`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.chunks_sent = 0
        self.left = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        self.requests.append(request)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        match request.url.path.rpartition("/")[2]:
            case "endless":
                return StreamingResponse(self._endless(), media_type="application/dicom")
            case "broken":
                return StreamingResponse(self._broken(), headers={"content-length": "1000000"})
            case "zipped":
                return Response(gzip.compress(b"plain"), headers={"Content-Encoding": "gzip"})
        return Response(await self._digest(request), 202, {"X-Own": "1", "Connection": "X-Hop", "X-Hop": "1"})

    async def _digest(self, request: Request) -> str:
        digest = hashlib.sha256()
        try:
            async for chunk in request.stream():
                digest.update(chunk)
        except ClientDisconnect:
            self.left.set()
        return digest.hexdigest()

    async def _endless(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.chunks_sent += 1
                yield CHUNK
                await asyncio.sleep(0.001)
        finally:
            self.left.set()

    async def _broken(self) -> AsyncIterator[bytes]:
        yield CHUNK


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@contextmanager
def front_of(archive: str) -> Iterator[str]:
    client = httpx.AsyncClient(trust_env=False)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    routes = [Route("/dicom-web/{path:path}", PassThrough(client, archive))]
    with serving(Starlette(routes=routes, lifespan=lifespan)) as url:
        yield url


@pytest.fixture(scope="module")
def front(upstream: Upstream) -> Iterator[str]:
    with serving(upstream) as archive, front_of(f"{archive}/dicom-web") as url:
        yield url


def test_request_and_answer_go_through_unchanged(front: str, upstream: Upstream) -> None:
    body = b"part" * 100_000
    answer = httpx.post(
        f"{front}/dicom-web/studies?x=%2F1&y='a'+b&y=",
        content=body,
        headers={"Authorization": "Basic x", "Content-Type": "multipart/related; boundary=b", "Keep-Alive": "9"},
        trust_env=False,
    )
    seen = upstream.requests[-1]
    assert (answer.status_code, answer.text) == (202, hashlib.sha256(body).hexdigest())
    assert (seen.method, seen.url.path, seen.scope["query_string"]) == (
        "POST",
        "/dicom-web/studies",
        b"x=%2F1&y='a'+b&y=",
    )
    assert seen.headers["authorization"] == "Basic x"
    assert seen.headers["content-length"] == str(len(body))
    assert seen.headers["host"] == urlsplit(front).netloc
    assert "keep-alive" not in seen.headers
    assert answer.headers["x-own"] == "1"
    assert "x-hop" not in answer.headers


def test_nothing_is_added_to_a_bare_request(front: str, upstream: Upstream) -> None:
    connection = http.client.HTTPConnection(urlsplit(front).netloc)
    connection.putrequest("GET", "/dicom-web/studies", skip_accept_encoding=True)
    connection.endheaders()
    assert connection.getresponse().status == 202
    connection.close()
    assert set(upstream.requests[-1].headers) == {"host"}


def test_escapes_in_a_path_stay(front: str, upstream: Upstream) -> None:
    httpx.get(f"{front}/dicom-web/studies/1%2C2%20%41", trust_env=False)
    assert upstream.requests[-1].scope["raw_path"] == b"/dicom-web/studies/1%2C2%20%41"


def test_compressed_answers_stay_compressed(front: str) -> None:
    with httpx.stream("GET", f"{front}/dicom-web/zipped", trust_env=False) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == b"plain"


def test_chunked_upload_streams(front: str, upstream: Upstream) -> None:
    answer = httpx.post(f"{front}/dicom-web/studies", content=iter([CHUNK] * 10), trust_env=False)
    assert answer.text == hashlib.sha256(CHUNK * 10).hexdigest()
    assert upstream.requests[-1].headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    "path",
    ["../system", "%2e%2e/system", "studies/..%2f../system", "a\\..\\..\\system", "%252e%252e/system", "./x", "%5c"],
)
def test_paths_that_leave_the_root_are_refused(front: str, upstream: Upstream, path: str) -> None:
    before = len(upstream.requests)
    connection = http.client.HTTPConnection(urlsplit(front).netloc)
    connection.request("GET", f"/dicom-web/{path}")  # httpx would resolve the dots itself
    assert connection.getresponse().status == 400
    connection.close()
    assert len(upstream.requests) == before


@pytest.mark.parametrize("path", ["servers", "/servers/x/get", "%73ervers/x", "%2573ervers", "%2fservers"])
def test_orthancs_own_client_to_other_addresses_is_not_reached(front: str, upstream: Upstream, path: str) -> None:
    before = len(upstream.requests)
    assert httpx.get(f"{front}/dicom-web/{path}", trust_env=False).status_code == 400
    assert len(upstream.requests) == before


def test_reader_who_leaves_ends_the_archives_work(front: str, upstream: Upstream) -> None:
    upstream.left.clear()
    with httpx.stream("GET", f"{front}/dicom-web/endless", trust_env=False) as answer:
        assert next(answer.iter_raw())
    assert upstream.left.wait(10)


def test_slow_reader_stops_the_archive(front: str, upstream: Upstream) -> None:
    def stands_still() -> bool:
        before = upstream.chunks_sent
        return not upstream.left.wait(0.3) and upstream.chunks_sent == before

    with httpx.stream("GET", f"{front}/dicom-web/endless", trust_env=False) as answer:
        chunks = answer.iter_raw()  # keep it: the connection ends with it
        next(chunks)
        upstream.left.clear()
        wait_until(stands_still, what="back-pressure")


def test_uploader_who_leaves_ends_the_upload(front: str, upstream: Upstream) -> None:
    upstream.left.clear()
    connection = http.client.HTTPConnection(urlsplit(front).netloc)
    connection.putrequest("POST", "/dicom-web/studies")
    connection.putheader("Content-Length", "10000000")
    connection.endheaders(CHUNK)
    connection.close()
    assert upstream.left.wait(10)


def test_broken_answer_never_looks_whole(front: str) -> None:
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("GET", f"{front}/dicom-web/broken", trust_env=False) as answer,
    ):
        for _ in answer.iter_raw():
            pass


def test_archive_away_is_a_bad_gateway() -> None:
    with serving(Response("x")) as gone:
        pass
    with front_of(gone) as url:
        answer = httpx.get(f"{url}/dicom-web/studies", trust_env=False)
    assert (answer.status_code, answer.text) == (502, "The archive does not respond.\n")


def test_other_dicomweb_root_is_reached_under_ours(upstream: Upstream) -> None:
    with serving(upstream) as archive, front_of(f"{archive}/pacs/dw/") as url:
        httpx.get(f"{url}/dicom-web/series?limit=1", trust_env=False)
    assert upstream.requests[-1].url.path == "/pacs/dw/series"
