"""The service's web application in front of a stand-in for Orthanc, on a real job database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.job import EnrichJob, JobState, StageView
from orthanc_plugin.domain.plan import Output, Plan, PlannedModel, StoredObject
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.service.admitting import AdmissionState
from orthanc_plugin.service.app import Backstage, build_app
from orthanc_plugin.service.readiness import Readiness
from orthanc_plugin.service.workers import WorkerState
from tests.support.servers.asgi_server import serving
from tests.support.servers.tls import Authority, tls_front

USER, PASSWORD, SECRET = "pacs", "right", "5ec2e7"
RIGHT, WRONG = httpx.BasicAuth(USER, PASSWORD), httpx.BasicAuth(USER, "wrong")
SEEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Hints:
    """Stands in for admission: keeps what it is told."""

    taken: list[Hint] = field(default_factory=list)

    def hint(self, hint: Hint) -> None:
        if hint.archive != "local":
            raise EnrichError(f"no archive {hint.archive} in the configuration")
        self.taken.append(hint)


@dataclass(frozen=True)
class FrontDoor:
    url: str
    queue: JobQueue
    hints: Hints
    routes: Sequence[Route]

    def ask(self, path: str, method: str = "GET", auth: httpx.Auth | None = RIGHT, **more: object) -> httpx.Response:
        """Answer to one request; redirects are not followed."""
        with httpx.Client(base_url=self.url, auth=auth, trust_env=False, timeout=30) as client:
            return client.request(method, path, **more)  # type: ignore[arg-type]


@contextmanager
def front_door(
    directory: Path,
    authority: Authority | None = None,
    database: str = "",
    section: Mapping[str, object] = MappingProxyType({}),
    archives: Mapping[str, object] | None = None,
) -> Iterator[FrontDoor]:
    """The application with one user, one secret and a job database, an empty one in `directory`.

    `authority`: private CA of the Orthanc behind it, which then answers by TLS only. `database`: URL of another one.
    `section`: further settings.
    `archives`: further archives.
    """
    with ExitStack() as servers:
        orthanc = servers.enter_context(serving(stand_in_orthanc()))
        more = {}
        if authority is not None:
            port = servers.enter_context(tls_front(int(orthanc.rpartition(":")[2]), authority.sign()))
            orthanc, more = f"https://127.0.0.1:{port}", {"CaFile": str(authority.file)}
        configuration = _configuration(orthanc, directory, more, database, section, archives or {})
        with closing(JobQueue(configuration.database)) as queue:
            hints = Hints()
            app = build_app(
                Backstage(
                    configuration,
                    SECRET,
                    queue,
                    hints.hint,
                    lambda: AdmissionState(1, SEEN, "", ("1 series: archive far is away",)),
                    lambda: (WorkerState(0, 4711, 0, None),),
                    Readiness((), Provider.CPU),
                    SEEN,
                )
            )
            with serving(app) as url:
                inside = app
                while not isinstance(inside, Starlette):  # behind signs of life, cross-site check, gate and audit log
                    inside = inside._app  # type: ignore[attr-defined]
                yield FrontDoor(url, queue, hints, [route for route in inside.routes if isinstance(route, Route)])


def skipped(series: str, reason: str = "too-few-slices", detail: str = "2 slices, 20 are needed") -> Decision:
    """A decision not to enrich."""
    fingerprint = f"fingerprint of {series}"
    return Decision(
        "local",
        "1.2.3",
        series,
        fingerprint,
        0,
        "",
        SEEN,
        Verdict.SKIP,
        JobState.SKIPPED,
        reason,
        detail,
        ended_at=SEEN,
    )


def enqueue(queue: JobQueue, series: str, rule: str = "default") -> str:
    """Queue a job for a series; returns its id."""
    job_id = f"{abs(hash(series)):064x}"
    plan = Plan(rule, (PlannedModel("chest_structures", "0" * 64),), (Output.SEG,), "local")
    job = EnrichJob("local", "1.2.3", series, f"fingerprint of {series}", 0, plan)
    decision = Decision(
        "local", "1.2.3", series, job.fingerprint, 0, "", SEEN, Verdict.ENRICH, JobState.QUEUED,
        job_id=job_id, rule=rule, argument=job.to_json(),
    )  # fmt: skip
    assert queue.enqueue(decision, job)
    return job_id


def finish(
    queue: JobQueue,
    job_id: str,
    state: JobState = JobState.DONE,
    detail: str = "",
    note: str = "",
    location: BodyLocation | None = None,
    checks: tuple[CheckResult, ...] = (),
) -> None:
    """End a job as a worker would."""
    located = (StageView("locate bpr", 1.2, 390.0, "cpu", location=location),) if location is not None else ()
    stage = StageView("segment chest_structures", 6.7, 477.2, "cpu", {"lung_left": 2171.6}, (note,), checks=checks)
    stored = StoredObject(Output.SEG, "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3", "2.25.7", "2.25.8", False)
    assert queue.ledger.start(job_id)
    queue.ledger.end(job_id, state, "failed" if detail else "", detail, Summary((*located, stage), (stored,)))


def stand_in_orthanc() -> Starlette:
    """Orthanc's `/system`, `/statistics` and an empty DICOMweb, for one user."""

    def system(request: Request) -> Response:
        right = request.headers.get("authorization") == RIGHT._auth_header
        return JSONResponse({"Version": "1.10.1"}) if right else Response(status_code=401)

    def nothing(request: Request) -> Response:
        return JSONResponse([])

    def statistics(request: Request) -> Response:
        return JSONResponse({"CountInstances": 0})

    return Starlette(
        routes=[
            Route("/system", system),
            Route("/statistics", statistics),
            Route("/dicom-web/instances", nothing),
            Route("/dicom-web/{path:path}", system, methods=["GET", "POST"]),
        ]
    )


def _configuration(
    orthanc: str,
    directory: Path,
    more: dict[str, str],
    database: str,
    further: Mapping[str, object],
    archives: Mapping[str, object],
) -> Configuration:
    archive = {"Url": f"{orthanc}/dicom-web", "OrthancUrl": orthanc, "User": USER, "Password": PASSWORD} | more
    section = {"StateDirectory": str(directory), "Archives": {"local": archive, **archives}}
    viewer = {"Viewer": {"Directory": str(directory / "no-ohif")}}
    return parse_section({**section, **viewer, **({"Database": database} if database else {}), **further}, {})
