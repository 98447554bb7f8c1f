"""The web server of the service: it listens on a socket, reports when it answers, and stops on an event."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from orthanc_plugin.errors import TransientError
from orthanc_plugin.service.limits import BACKLOG, Doorkeeper, LimitedProtocol, limits_here

GRACE_S = 3
"""Time for unfinished answers at a stop; after it they are cut off."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes any free port.

    Raises
    ------
    TransientError
        If the address is in use: the previous service may still be stopping.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = error.strerror or type(error).__name__
        raise TransientError(f"Service.Host {host}, Service.Port {port} cannot be used: {reason}") from error
    return sock


class FrontDoorServer(uvicorn.Server):
    """A uvicorn server that stops when an event is set and leaves signals to the process.

    Parameters
    ----------
    app : ASGIApp
        The application.
    stopping : threading.Event
        Stops the server when set.
    started : callable
        Called as soon as the server answers.
    keeper : Doorkeeper, optional
        Limits of its connections.
    """

    def __init__(
        self,
        app: ASGIApp,
        stopping: threading.Event,
        started: Callable[[], None],
        keeper: Doorkeeper | None = None,
    ) -> None:
        self._keeper = keeper or Doorkeeper(limits_here())
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", partial(LimitedProtocol, self._keeper)),
                backlog=BACKLOG,
                lifespan="on",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._stopping = stopping
        self._started = started

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Install no signal handlers: the process handles signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, then report it."""
        await super().startup(sockets)
        self._started()

    async def on_tick(self, counter: int) -> bool:
        """Check ten times a second whether to stop, and which connections are too slow."""
        self._keeper.sweep()
        return self._stopping.is_set() or await super().on_tick(counter)
