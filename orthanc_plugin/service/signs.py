"""Signs of life without a login, for container engines and load balancers: they say yes or no, and nothing else.

`/enrichment/live`: this process answers. `/enrichment/ready`: the job database answers, too, and nobody stops us.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LIVE, READY = "/enrichment/live", "/enrichment/ready"
REMEMBERED_S = 2.0
"""Anybody may ask: the database is asked this seldom."""


class Signs:
    """ASGI middleware that answers the two paths, and passes everything else on.

    Parameters
    ----------
    app : ASGIApp
    engine : sqlalchemy.Engine
        Engine of the job database.
    stopping : callable
        Whether the service is about to stop.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, app: ASGIApp, engine: sa.Engine, stopping: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._engine, self._stopping, self._clock = app, engine, stopping, clock
        self._lock = threading.Lock()
        self._asked_at, self._answers = float("-inf"), False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        path = scope["path"] if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else ""
        if path not in (LIVE, READY):
            await self._app(scope, receive, send)
            return
        ready = path == LIVE or (not self._stopping() and await run_in_threadpool(self._database_answers))
        await PlainTextResponse("yes\n" if ready else "no\n", 200 if ready else 503)(scope, receive, send)

    def _database_answers(self) -> bool:
        with self._lock:
            if self._clock() - self._asked_at > REMEMBERED_S:
                try:
                    with self._engine.connect() as connection:
                        connection.execute(sa.text("SELECT 1"))
                    self._answers = True
                except sa.exc.SQLAlchemyError:
                    self._answers = False
                self._asked_at = self._clock()
            return self._answers
