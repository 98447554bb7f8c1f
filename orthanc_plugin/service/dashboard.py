"""The dashboard: one page with health, jobs and decisions. It shows UIDs and no patient data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.orders import Order, Orders
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import DeliveryView, JobView
from orthanc_plugin.service.health import HealthCheck
from orthanc_plugin.service.routes import guarded

ROWS = 25
SHORT_UID = 12
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the tables of the page show."""

    jobs: tuple[JobView, ...] = ()
    decisions: tuple[Decision, ...] = ()
    deliveries: tuple[DeliveryView, ...] = ()
    backfills: tuple[Order, ...] = ()


class Dashboard:
    """Handlers of the pages.

    Parameters
    ----------
    queue : JobQueue
        Jobs, and the decisions in its ledger.
    health : HealthCheck
        Health of the service and of all it depends on.
    """

    def __init__(self, queue: JobQueue, health: HealthCheck) -> None:
        self._queue, self._health, self._orders = queue, health, Orders(queue.ledger)
        self._page = page_templates().get_template("dashboard.html")

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the page, of its static files and of the redirects to it."""
        return [
            Route("/enrichment", guarded(self.home)),
            Route("/enrichment/", guarded(self.page)),
            Mount("/enrichment/static", StaticFiles(directory=_HERE / "static")),
        ]

    async def home(self, request: Request) -> Response:
        """Redirect to the dashboard."""
        return RedirectResponse("/enrichment/", 303)

    async def page(self, request: Request) -> Response:
        """Render the dashboard."""
        health = await self._health.look()
        rows = await run_in_threadpool(self._rows, [*health.deliveries]) if health.database.ok else _Rows()
        archives = [archive.name for archive in health.archives]
        return HTMLResponse(
            self._page.render(health=health, shown=rows, archives=archives, states=list(JobState), rows=ROWS)
        )

    def _rows(self, states: Sequence[JobState]) -> _Rows:
        jobs = tuple(
            self._queue.show(job.id) if job.state is JobState.RUNNING else job for job in self._queue.list(limit=ROWS)
        )
        open_deliveries = (d for state in states for d in self._queue.deliveries.list(state, ROWS))
        decisions = self._queue.ledger.decisions(limit=ROWS)
        return _Rows(jobs, decisions, tuple(open_deliveries), self._orders.all()[:ROWS])


def page_templates() -> Environment:
    """Load the templates of all pages and the filters they use. The templates escape all text."""
    pages = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pages.filters |= {
        "short": short_uid,
        "seconds": seconds,
        "time": clock_time,
        "volumes": volumes,
        "notes": notes,
    }
    return pages


def short_uid(uid: str) -> str:
    """Shorten a UID to its end: UIDs of one site share their beginning."""
    return uid if len(uid) <= SHORT_UID else "…" + uid[-SHORT_UID:]


def seconds(value: float) -> str:
    """Format a duration for people."""
    return f"{value:.1f} s" if value < 100 else f"{int(value) // 60} min {int(value) % 60:02d} s"


def clock_time(moment: datetime | None) -> str:
    """Format date and time in UTC, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def volumes(job: JobView) -> dict[str, float]:
    """Collect the volume (mL) of each structure over all models of a job."""
    return {key: volume_ml for stage in job.stages for key, volume_ml in stage.volumes_ml.items()}


def notes(job: JobView) -> list[str]:
    """Collect the notes of all stages, each once."""
    return list(dict.fromkeys(note for stage in job.stages for note in stage.notes))
