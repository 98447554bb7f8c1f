"""What callers can do before they log in: half-open requests, endless heads, slow bodies, floods of connections."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from orthanc_plugin.service.limits import Doorkeeper, Limits
from orthanc_plugin.service.server import FrontDoorServer, listen
from tests.security.table import NOTE
from tests.support.servers.asgi_server import serving
from tests.support.servers.front_door import RIGHT, stand_in_orthanc
from tests.support.servers.orthanc_server import wait_until

HALF = b"GET /enrichment/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
CROWD = 1100
SHORT = Limits(connections=20, per_address=5, head_bytes=4096, head_s=0.6, pace_bytes=1000, pace_s=0.6, pipelined=4)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after the body, or with as much as is asked for."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"].endswith("shutdown"):
                return
    request = Request(scope, receive)
    answer: Response
    if request.url.path == "/much":
        answer = StreamingResponse(b"x" * 65536 for _ in range(2000))
    else:
        answer = PlainTextResponse(f"{len(await request.body())} bytes")
    await answer(scope, receive, send)


@contextmanager
def server(limits: Limits = SHORT) -> Iterator[int]:
    stopping, started = threading.Event(), threading.Event()
    with closing(listen("127.0.0.1", 0)) as sock:
        door = FrontDoorServer(application, stopping, started.set, Doorkeeper(limits))
        thread = threading.Thread(target=door.run, args=([sock],))
        thread.start()
        try:
            assert started.wait(20)
            yield int(sock.getsockname()[1])
        finally:
            stopping.set()
            thread.join()


def connect(port: int, source: str = "127.0.0.1", sent: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10, (source, 0))
    sock.sendall(sent)
    return sock


def answer_of(sock: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    content = b""
    try:
        while piece := sock.recv(65536):
            content += piece
    except ConnectionError:
        pass
    return content


def is_cut_off(sock: socket.socket, piece: bytes, most: int, pause_s: float = 0.0) -> bool:
    """Whether the other side closes before it got a piece so often."""
    try:
        for _ in range(most):
            sock.sendall(piece)
            time.sleep(pause_s)
    except OSError:
        return True
    return False


def get(port: int, source: str = "127.0.0.1") -> int:
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(transport=transport, trust_env=False, timeout=20) as client:
        return client.get(f"http://127.0.0.1:{port}/").status_code


def test_an_endless_head_is_refused() -> None:
    with server() as port:
        for head in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"):
            with closing(connect(port, sent=head)) as sock:
                filler = b"X: y\r\n" if head.endswith(b"\n") else b"a"
                assert is_cut_off(sock, filler * 2000, 5000)
        with closing(connect(port, sent=b"GET / HTTP/1.1\r\nX: " + b"a" * 4080)) as sock:
            sock.sendall(b"a" * 100)
            assert b" 431 " in answer_of(sock)


def test_a_head_in_one_piece_is_measured_too() -> None:
    with server() as port, closing(connect(port, sent=b"GET / HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\n\r\n")) as sock:
        assert b" 431 " in answer_of(sock)


@pytest.mark.parametrize("sent", [b"", b"G", HALF, b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /"])
def test_a_head_that_is_not_completed_is_closed(sent: bytes) -> None:
    limits = Limits(**{**_fields(SHORT), "head_s": 0.5})
    with server(limits) as port, closing(connect(port, sent=sent)) as sock:
        sock.settimeout(15)
        began = time.monotonic()
        answer_of(sock)
        assert time.monotonic() - began < 10


def test_a_slow_body_is_closed_and_a_steady_one_is_not() -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n"
    with server() as port:
        with closing(connect(port, sent=post)) as slow:
            assert is_cut_off(slow, b"x", 400, pause_s=0.05)
        with closing(connect(port, sent=post)) as steady:
            for _ in range(20):
                steady.sendall(b"x" * 1000)
                time.sleep(0.1)
            assert b"20000 bytes" in steady.recv(65536)


def test_a_large_body_that_comes_at_once_is_taken() -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
    with server() as port, closing(connect(port, sent=post + b"x" * 200_000)) as sock:
        assert b"200000 bytes" in sock.recv(65536)


def test_endless_trailers_and_tiny_chunks_are_closed() -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for piece in (b"1;" + b"e" * 1000 + b"\r\nx\r\n", b"0\r\n" + b"T: y\r\n" * 10000):
        with server() as port, closing(connect(port, sent=post)) as sock:
            assert is_cut_off(sock, piece, 2000, pause_s=0.001)


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    with server() as port, closing(connect(port, sent=b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")) as sock:
        time.sleep(3)
        taken = len(answer_of(sock))
        assert taken < 2000 * 65536


def test_requests_do_not_pile_up_behind_one_another() -> None:
    slow = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    with server() as port, closing(connect(port, sent=slow + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 200)) as sock:
        assert answer_of(sock).count(b"HTTP/1.1 200") <= 6


def test_one_address_takes_no_more_than_its_share() -> None:
    with server() as port, ExitStack() as crowd:
        mine = [crowd.enter_context(closing(connect(port, "127.0.0.1", HALF))) for _ in range(12)]
        assert get(port) == 200
        assert len(mine) == 12


def test_the_oldest_half_open_connection_makes_room() -> None:
    limits = Limits(**{**_fields(SHORT), "head_s": 60.0})
    with server(limits) as port, ExitStack() as crowd:
        for number in range(60):
            crowd.enter_context(closing(connect(port, f"127.0.0.{2 + number % 30}", HALF)))
        for number in range(3):
            assert get(port, f"127.0.0.{100 + number}") == 200


def test_users_are_served_while_more_half_open_connections_stand_than_there_are_descriptors(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The service has 1,024 descriptors and cannot get more. Admission writes to its database all the while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CROWD + 500:
        pytest.skip("this process may not open so many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + 500), hard))
    try:
        with serving(stand_in_orthanc()) as orthanc, _service(orthanc, tmp_path) as (process, url):
            port = int(url.rpartition(":")[2])
            assert psutil.Process(process.pid).rlimit(resource.RLIMIT_NOFILE) == (1024, 1024)
            with ExitStack() as crowd:
                for _ in range(CROWD):
                    crowd.enter_context(closing(connect(port, sent=HALF)))
                with httpx.Client(base_url=url, auth=RIGHT, trust_env=False, timeout=20) as client:
                    began = client.get("/enrichment/api/v1/health").json()["admission"]["last_round"]

                    def goes_on() -> bool:
                        health = client.get("/enrichment/api/v1/health").json()
                        assert health["database"]["ok"]
                        assert not health["admission"]["error"]
                        return bool(health["admission"]["last_round"] > began)

                    wait_until(goes_on, what="the next round of admission")
                    assert client.post("/enrichment/api/v1/pause").json() == {"paused": True}
                used = psutil.Process(process.pid).num_fds()
                record_property(NOTE, f"{used} descriptors in use")
                assert used < 900
            log = (tmp_path / "state" / "service.log").read_text()
            assert "too many connections" in log
            assert "Too many open files" not in log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def _service(orthanc: str, directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    archive = {"Url": f"{orthanc}/dicom-web", "OrthancUrl": orthanc, "User": "pacs", "Password": "right"}
    section = {
        "StateDirectory": str(directory / "state"), "Service": {"Port": 0}, "Workers": 0, "Rules": [],
        "Archives": {"local": archive},
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "orthanc_plugin.cli", "service", "--stdin"]
    limited = ["prlimit", "--nofile=1024:1024", *command]
    process = subprocess.Popen(limited, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"secret\n{json.dumps(section)}\n")
        process.stdin.flush()
        yield process, f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _fields(limits: Limits) -> dict[str, float]:
    return {name: getattr(limits, name) for name in Limits.__slots__}
