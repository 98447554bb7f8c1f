"""The web application: the cross-site check guards the gate, and the gate guards every route."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from orthanc_plugin.archive.connection import account_of
from orthanc_plugin.archive.tls import client_context
from orthanc_plugin.audit.trail import Trail
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs.corrected import Corrections
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.inspector import Inspector
from orthanc_plugin.jobs.numbers import StoredResults
from orthanc_plugin.jobs.pseudonym import patient_column
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.scans import Scans
from orthanc_plugin.jobs.tokens import Tokens
from orthanc_plugin.service.acting import Acting
from orthanc_plugin.service.admitting import AdmissionState
from orthanc_plugin.service.api import ROOT, Api
from orthanc_plugin.service.auditing import AuditTrail, Recorder
from orthanc_plugin.service.dashboard import Dashboard
from orthanc_plugin.service.delivering import Delivering
from orthanc_plugin.service.events import Events
from orthanc_plugin.service.findings import Cards
from orthanc_plugin.service.gate import Entrance, Gate, OrthancLogin
from orthanc_plugin.service.health import HealthCheck
from orthanc_plugin.service.inspecting import InspectRoutes
from orthanc_plugin.service.job_page import JobPage
from orthanc_plugin.service.login import LoginPages
from orthanc_plugin.service.metrics import Metrics
from orthanc_plugin.service.openapi import OpenApi
from orthanc_plugin.service.people import People
from orthanc_plugin.service.picture_routes import PictureRoutes
from orthanc_plugin.service.proxy import METHODS, PREFIX, PassThrough
from orthanc_plugin.service.readiness import Readiness
from orthanc_plugin.service.request_ids import RequestIds
from orthanc_plugin.service.routes import http_problem
from orthanc_plugin.service.rule_tester import RuleTester
from orthanc_plugin.service.same_origin import SameOrigin
from orthanc_plugin.service.signs import Signs
from orthanc_plugin.service.viewer import OhifFiles, Viewer
from orthanc_plugin.service.webhook_routes import WebhookRoutes, webhooks_of
from orthanc_plugin.service.workers import WorkerState

# Orthanc closes idle connections after one second. Close ours sooner, so that no request uses a closed one.
_IDLE_S = 0.5
_MOST_TRANSFERS = 200


@dataclass(frozen=True)
class Backstage:
    """Everything that the routes need."""

    configuration: Configuration
    secret: str
    queue: JobQueue
    take_hint: Callable[[Hint], None]
    admission_state: Callable[[], AdmissionState]
    workers: Callable[[], tuple[WorkerState, ...]]
    readiness: Readiness
    started_at: datetime
    stopping: Callable[[], bool] = lambda: False

    @cached_property
    def scans(self) -> Scans:
        """Pictures in memory."""
        return Scans(self.queue, self.configuration.archives)

    @cached_property
    def recorder(self) -> Recorder:
        """Writes the audit log."""
        audit = self.configuration.audit
        return Recorder(Trail(self.configuration.state_directory, audit.key.get_secret_value()))


def build_app(backstage: Backstage) -> ASGIApp:
    """Build the whole web application.

    Raises
    ------
    ConfigError
        If no archive is an Orthanc: the service needs one to check logins.
    """
    front = front_archive(backstage.configuration)
    login, transfers = _client(20, front), _client(_MOST_TRANSFERS, front)
    archives = backstage.configuration.archives
    health = health_of(backstage)
    queue, configuration = backstage.queue, backstage.configuration
    inspector = Inspector(configuration)
    results = StoredResults(queue, archives, patient=patient_column(configuration))
    scans = backstage.scans
    metrics = Metrics(queue, health)
    metrics.start()
    api = Api(queue, health, backstage.take_hint, results, archives)
    models = [card.name for card in backstage.readiness.models]
    viewer = Viewer(configuration.viewer)
    orthanc, entrance = OrthancLogin(login, front.orthanc_url), entrance_of(backstage, front)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with login, transfers:
            yield

    inside = Starlette(
        routes=[
            *api.routes(),
            *Acting(queue).routes(ROOT),
            *Delivering(queue.deliveries).routes(ROOT),
            *Events(queue, backstage.stopping).routes(ROOT),
            *People(archives).routes(ROOT),
            *PictureRoutes(queue, scans).routes(ROOT),
            *InspectRoutes(inspector).routes(ROOT),
            *RuleTester(configuration, inspector, queue).routes(ROOT),
            *WebhookRoutes(configuration.webhooks).routes(ROOT),
            *metrics.routes(),
            *OpenApi().routes(),
            *LoginPages(orthanc, entrance).routes(),
            *Dashboard(queue, health, archives, models, webhooks_of(configuration.webhooks)).routes(),
            *JobPage(
                queue, results, scans, Cards(configuration.models_directory), Corrections(queue, archives)
            ).routes(),
            Route(f"{PREFIX}{{path:path}}", PassThrough(transfers, front.url), methods=list(METHODS)),
            *viewer.routes(),
        ],
        exception_handlers={HTTPException: http_problem, Exception: http_problem},
        lifespan=lifespan,
    )
    inside.router.redirect_slashes, inside.router.default = False, OhifFiles(viewer)
    audited = AuditTrail(inside, backstage.recorder, lambda job_id: queue.ledger.of_job(job_id))
    door = SameOrigin(Gate(audited, orthanc, backstage.secret, entrance))
    return RequestIds(Signs(door, queue.ledger.engine, backstage.stopping))


def entrance_of(backstage: Backstage, front: ArchiveSettings) -> Entrance:
    """Make what the gate needs: roles, tokens of the API, and the account for callers whom Orthanc does not know."""
    tokens = Tokens(backstage.queue.ledger.engine)
    return Entrance(backstage.configuration.access, tokens.find, account_of(front), backstage.recorder.told)


def health_of(backstage: Backstage) -> HealthCheck:
    """Make the check of everything that the service depends on."""
    configuration = backstage.configuration
    return HealthCheck(
        configuration.archives, backstage.queue, backstage.readiness, backstage.started_at,
        backstage.admission_state, backstage.workers, configuration.state_directory,
    )  # fmt: skip


def front_archive(configuration: Configuration) -> ArchiveSettings:
    """Return the Orthanc behind the front door: the archive "local", else the first that is an Orthanc."""
    orthancs = {name: archive for name, archive in configuration.archives.items() if archive.orthanc_url}
    if not orthancs:
        raise ConfigError("no archive in Enrichment.Archives has an OrthancUrl; the service needs one to check logins")
    return orthancs.get("local") or next(iter(orthancs.values()))


def _client(connections: int, front: ArchiveSettings) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, keepalive_expiry=_IDLE_S)
    verify = client_context("behind the front door", front) if front.uses_tls else True
    return httpx.AsyncClient(limits=limits, verify=verify, trust_env=False, follow_redirects=False)
