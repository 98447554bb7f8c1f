"""Writes down who did what at the front door, once the outcome is known.

Lists, health and files of the pages name no patient and are not recorded. A viewer asks for a series in hundreds of
requests; the same person who looks at the same thing again within five minutes makes no new line.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import parse_qs

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orthanc_plugin.audit.event import Event, Outcome, Subject, What, subject
from orthanc_plugin.audit.trail import Trail
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.service.callers import Caller
from orthanc_plugin.service.permissions import API, Right, right_for

_log = logging.getLogger(__name__)

AGAIN_S = 300.0
MOST_REMEMBERED = 10_000
_SEEN = (What.VIEW, What.SEARCH)
_JOB = re.compile(r"/jobs/([^/]+)")
_SERIES_PAGE = re.compile(r"/enrichment/series/([^/]+)")
_DICOMWEB = re.compile(r"/dicom-web/studies/([^/]+)(?:/series/([^/]+))?")
_WHAT = {
    Right.EXPORT: What.EXPORT, Right.PATIENT: What.PATIENT, Right.STORE: What.STORE, Right.DELETE: What.DELETE,
    Right.SETTINGS: What.SETTINGS,
}  # fmt: skip


@dataclass
class Recorder:
    """Writes events of callers to the log. If the log cannot be written, it says so once and goes on.

    trail: the log.
    clock: time of events.
    """

    trail: Trail
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    problem: str = ""
    _last: OrderedDict[Event, float] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, event: Event) -> None:
        """Write one event, unless it is the same look at the same thing again."""
        if event.what in _SEEN and self._is_again(event):
            return
        try:
            self.trail.append(event)
            self.problem = ""
        except OSError as error:
            said = f"the audit log cannot be written: {error.strerror or type(error).__name__}"
            if said != self.problem:
                _log.error(said)
            self.problem = said

    def told(self, caller: Caller, what: What, detail: str) -> None:
        """Record a login, or what the gate refuses."""
        outcome = Outcome.SUCCESS if caller.rights and what is What.LOGIN else Outcome.FAILURE
        self.record(replace(self.event(caller, what), outcome=outcome, detail=detail))

    def event(self, caller: Caller, what: What) -> Event:
        """Begin an event of a caller."""
        return Event(self.clock(), what, caller.name, str(caller.way), caller.address)

    def _is_again(self, event: Event) -> bool:
        key, now = replace(event, at=datetime.min.replace(tzinfo=UTC)), time.monotonic()
        with self._lock:
            if now - self._last.get(key, -AGAIN_S) < AGAIN_S:
                return True
            self._last.pop(key, None)
            self._last[key] = now
            while len(self._last) > MOST_REMEMBERED:
                self._last.popitem(last=False)
        return False


class AuditTrail:
    """ASGI middleware behind the gate that records each act.

    Parameters
    ----------
    app : ASGIApp
        The application.
    recorder : Recorder
        Writes the events.
    job : callable
        Returns the decision behind a job id, or None.
    """

    def __init__(self, app: ASGIApp, recorder: Recorder, job: Callable[[str], Decision | None]) -> None:
        self._app, self._recorder, self._job = app, recorder, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record what was done as soon as its outcome is known, before the first byte of the answer leaves."""
        caller = scope.get("caller")
        what = _what(scope) if scope["type"] == "http" and isinstance(caller, Caller) else None
        if what is None or not isinstance(caller, Caller):
            await self._app(scope, receive, send)
            return
        scope["notes"] = list[Subject]()

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                event = self._recorder.event(caller, what)
                await run_in_threadpool(self._write, event, scope, message["status"])
            await send(message)

        await self._app(scope, receive, recorded)

    def _write(self, event: Event, scope: Scope, status: int) -> None:
        outcome = Outcome.SUCCESS if status < 400 else Outcome.FAILURE
        named = self._named(scope)
        if outcome is Outcome.FAILURE and event.what in _SEEN:
            return  # nothing was seen
        detail = named.detail or _detail(scope)
        self._recorder.record(replace(
            event, outcome=outcome, detail=detail, archive=named.archive, study=named.study, series=named.series,
            job=named.job, more=named.more,
        ))  # fmt: skip

    def _named(self, scope: Scope) -> Subject:
        """Tell what a request is about: by its path, its query, or what its handler noted."""
        notes: list[Subject] = scope["notes"]
        if notes:
            return notes[-1]
        path = scope["path"]
        if (job := _JOB.search(path)) and (row := self._row(job[1])) is not None:
            return Subject(row.archive, row.study_instance_uid, (row.series_instance_uid,), job[1])
        if page := _SERIES_PAGE.fullmatch(path):
            return Subject(series=_uids(page[1]))
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if web := _DICOMWEB.match(path):
            return Subject(study="".join(_uids(web[1])), series=_uids(web[2] or ""))
        study, series = (query.get(f"{name}_instance_uid", query.get(name, [""]))[0] for name in ("study", "series"))
        return Subject(study="".join(_uids(study)), series=_uids(series))

    def _row(self, job_id: str) -> Decision | None:
        try:
            return self._job(job_id)
        except sa.exc.SQLAlchemyError:  # the act failed for the same reason, and is recorded without its series
            return None


def note(request: Request, *series: str, study: str = "", archive: str = "", detail: str = "", count: int = 0) -> None:
    """Leave with a request what it is about, where only the handler knows that. Texts that are no UIDs are left out."""
    notes: list[Subject] = request.scope.get("notes", [])  # the router copies the scope, not the list
    notes.append(subject(*series, study=study, archive=archive, detail=detail, count=count))


def _what(scope: Scope) -> What | None:
    """Tell which act a request is; None for what is not recorded."""
    method, path = scope["method"], scope["path"]
    right = right_for(method, path)
    if right is Right.WATCH:
        return None
    if right in _WHAT:
        return _WHAT[right]
    if right is Right.ACT:
        return What.ACT if method == "POST" else What.VIEW
    if _JOB.search(path) or _SERIES_PAGE.fullmatch(path) or _DICOMWEB.match(path):
        return What.VIEW
    is_search = path.rstrip("/") in ("/dicom-web/studies", "/dicom-web/series", "/dicom-web/instances")
    return What.SEARCH if is_search and method == "GET" else None


def _detail(scope: Scope) -> str:
    """Name an act by the words of its route, never by what a caller wrote."""
    method, path = scope["method"], scope["path"]
    if path.startswith("/dicom-web"):
        return f"{method} by DICOMweb"
    words = [word for word in path.removeprefix(API).removeprefix("/enrichment").split("/") if word in _WORDS]
    return " ".join(words)


_WORDS = frozenset(
    ("jobs", "series", "retry", "cancel", "withdraw", "deliveries", "decide-again", "backfills", "stop", "act", "rules",
     "compare", "files", "pause", "resume", "webhooks", "test", "patients", "find", "inspect", "radiomics.csv",
     "radiomics.json", "radiomics.parquet", "scan", "slices", "pictures", "objects", "corrections", "radiomics",
     "preview.png")
)  # fmt: skip


def _uids(text: str) -> tuple[str, ...]:
    return (text,) if is_uid(text) else ()
