"""Live events: how far running jobs are, and that the lists have changed, as server-sent events.

All listeners share one look at the database a second; without a listener nobody looks. A stream ends after some minutes
and the browser opens the next one, which checks the login again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.progress import progress_of
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.service.routes import guarded, problem
from orthanc_plugin.service.schema_pages import Changed, Event, Progress, Running

LOOK_S = 1.0
LONGEST_S = 300.0
ALIVE_S = 15.0
"""A comment this often keeps proxies from closing a stream that has nothing to tell."""
MOST_LISTENERS = 100
MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class _Look:
    """What the database says now. changed: differs whenever a list may differ."""

    running: Running
    changed: Changed


class Events:
    """Handler of the stream.

    Parameters
    ----------
    queue : JobQueue
        Jobs, and the decisions in its ledger.
    stopping : callable
        Tells whether the service stops, which ends all streams.
    """

    def __init__(self, queue: JobQueue, stopping: Callable[[], bool]) -> None:
        self._queue, self._stopping = queue, stopping
        self._lock, self._looked_at, self._listeners = asyncio.Lock(), 0.0, 0
        self._last: _Look | None = None

    def routes(self, root: str) -> list[Route]:
        """Return the route."""
        return [Route(f"{root}/events", guarded(self.stream))]

    async def stream(self, request: Request) -> Response:
        """Stream events; 503 if too many listen."""
        if self._listeners >= MOST_LISTENERS:
            return problem(503, "too many pages listen to events")
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        if request.method == "HEAD":  # nobody would read the stream
            return Response(media_type="text/event-stream", headers=headers)
        return StreamingResponse(self._told(), media_type="text/event-stream", headers=headers)

    async def _told(self) -> AsyncIterator[str]:
        self._listeners += 1
        began = spoke = time.monotonic()
        last: _Look | None = None
        try:
            while not self._stopping() and time.monotonic() - began < LONGEST_S:
                try:
                    look = await self._look()
                except sa.exc.SQLAlchemyError:
                    return  # the browser tries again
                for event in _news(last, look):
                    spoke = time.monotonic()
                    yield event
                if time.monotonic() - spoke > ALIVE_S:
                    spoke = time.monotonic()
                    yield ": nothing new\n\n"
                last = look
                await asyncio.sleep(LOOK_S)
        finally:
            self._listeners -= 1

    async def _look(self) -> _Look:
        async with self._lock:
            if self._last is None or time.monotonic() - self._looked_at >= LOOK_S / 2:
                self._last = await run_in_threadpool(self._read)
                self._looked_at = time.monotonic()
            return self._last

    def _read(self) -> _Look:
        ledger = self._queue.ledger
        rows = ledger.open_jobs(JobState.RUNNING)[:MOST_SHOWN]
        running = tuple(
            Progress.model_validate(progress_of(self._queue.show(row.job_id), self._queue.job(row.job_id)))
            for row in rows
        )
        changed = Changed(counts=ledger.counts(), last_row=ledger.last_row(), paused=self._queue.paused)
        return _Look(Running(jobs=running), changed)


def _news(last: _Look | None, look: _Look) -> list[str]:
    """Write the events by which two looks differ."""
    news = []
    if last is None or last.running != look.running:
        news.append(_event(Event.PROGRESS, look.running.model_dump_json()))
    if last is None or last.changed != look.changed:
        news.append(_event(Event.CHANGED, look.changed.model_dump_json()))
    return news


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
