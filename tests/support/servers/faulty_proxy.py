"""A proxy before an archive that loses, delays, refuses or cuts answers."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_BYTES, SLOW_WAIT_S = 1, 1.0
RETRY_AFTER_S = "1"
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class Fault(StrEnum):
    """What becomes of one request."""

    NONE = "passed on"
    LOST = "carried out, but the answer is lost"
    UNAVAILABLE = "503 with Retry-After"
    TRUNCATED = "carried out, but the answer ends in the middle"
    SLOW = "answered at one byte a second"


Choose = Callable[[str, str, int], Fault]
"""Gives the fault of a request: method, path, and how often this path was asked for by this method before."""


def none(method: str, path: str, before: int) -> Fault:
    """Pass on everything."""
    return Fault.NONE


class FaultyProxy:
    """A proxy on a free loopback port.

    Attributes
    ----------
    choose : callable
        May be changed while the proxy runs.
    hits : Counter
        How often each fault happened.
    hurry : Event
        While it is set, slow answers go on at full speed.
    """

    def __init__(self, choose: Choose = none) -> None:
        self.choose, self.hits, self.hurry = choose, Counter[Fault](), threading.Event()
        self._asked: Counter[tuple[str, str]] = Counter()
        self._upstream = ""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True

    def before(self, url: str) -> str:
        """Stand before the archive at a URL; return the URL through the proxy."""
        parts = urllib.parse.urlsplit(url)
        self._upstream = parts.netloc
        return f"http://127.0.0.1:{self._server.server_port}{parts.path}"

    @contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        """Serve."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.hurry.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def next_fault(self, method: str, path: str) -> Fault:
        """Choose what becomes of a request, and count it."""
        with self._lock:
            fault = self.choose(method, path, self._asked[method, path])
            self._asked[method, path] += 1
            self.hits[fault] += 1
            return fault

    def ask(self, handler: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        """Pass a request on; return status, headers and body."""
        length = int(handler.headers.get("Content-Length") or 0)
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            connection.request(handler.command, handler.path, handler.rfile.read(length), dict(handler.headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        fault = self.proxy.next_fault(self.command, self.path.partition("?")[0])
        self.close_connection = fault is not Fault.NONE
        if fault is Fault.UNAVAILABLE:
            self._refuse()
            return
        status, headers, body = self.proxy.ask(self)
        if fault is not Fault.LOST:
            self._answer(fault, status, headers, body)

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(503)
        self.send_header("Retry-After", RETRY_AFTER_S)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, fault: Fault, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        if fault is Fault.TRUNCATED:
            body = body[: len(body) // 2]
        while fault is Fault.SLOW and body and not self.proxy.hurry.wait(SLOW_WAIT_S):
            self.wfile.write(body[:SLOW_BYTES])
            body = body[SLOW_BYTES:]
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client gave up
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        """Say nothing."""
