"""Serves an ASGI application on a free loopback port while a test runs, as the service serves its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from orthanc_plugin.service.server import listen
from tests.support.servers.orthanc_server import wait_until


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Root URL of the application."""
    sock = listen("127.0.0.1", port)
    server = uvicorn.Server(
        uvicorn.Config(app, ws="none", log_config=None, proxy_headers=False, timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    try:
        wait_until(lambda: server.started, what="the test server")
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        sock.close()
