"""A real HTTP server on this machine that offers one file, with every trick a download has to survive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class FileServer:
    """What the server offers, and what it was asked.

    content: bytes of the file.
    headers: ETag, Last-Modified and what else it tells of it.
    ranges: whether it answers to Range.
    drops: after how many bytes of the body each answer breaks off, in turn; then none does.
    statuses: statuses of the first answers, without a body.
    location: where it redirects every request for another path than this one's.
    asked: headers of each request for the file.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    ranges: bool = True
    drops: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/weights.zip"

    def part(self, asked: dict[str, str]) -> int | None:
        """First byte that a request wants of this very version."""
        found = re.fullmatch(r"bytes=(\d+)-", asked.get("Range", ""))
        same = asked.get("If-Range") in (self.headers.get("ETag"), self.headers.get("Last-Modified"))
        return int(found[1]) if found and self.ranges and same else None


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Serve until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            if server.location and self.path != "/weights.zip":
                self.answer(302, b"", {"Location": server.location})
                return
            server.asked.append(dict(self.headers.items()))
            if server.statuses:
                self.answer(server.statuses.pop(0), b"", {})
                return
            start = server.part(server.asked[-1])
            if start is None:
                self.answer(200, server.content, server.headers)
            elif start >= len(server.content):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(server.content)}"})
            else:
                last = len(server.content) - 1
                told = {"Content-Range": f"bytes {start}-{last}/{len(server.content)}"}
                self.answer(206, server.content[start:], server.headers | told)

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: server.drops.pop(0)] if server.drops and body else body)
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.port = http.server_address[1]
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
