"""The pages for those who run the service: series with their jobs, deliveries, backfills, and the system's health.

They show UIDs and no patient data. What is slow because an archive must be asked is loaded after the page.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.engine import NOTIFY
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.orders import Orders
from orthanc_plugin.jobs.progress import progress_of
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import JobView
from orthanc_plugin.jobs.webhooks import Notice
from orthanc_plugin.service.health import HealthCheck
from orthanc_plugin.service.pages import HERE, is_part, render
from orthanc_plugin.service.routes import guarded, in_thread
from orthanc_plugin.service.schema_pages import Progress, WebhookShape
from orthanc_plugin.service.searching import PAGE, link, page_of

CHOICES_S = 30.0
ORDERS = 25


@dataclass(frozen=True, slots=True)
class Line:
    """A decision as the list shows it. progress: of a running job."""

    row: Decision
    job: JobView
    progress: Progress | None


class Dashboard:
    """Handlers of the pages.

    Parameters
    ----------
    queue : JobQueue
        Jobs, and the decisions in its ledger.
    health : HealthCheck
        Health of the service and of all it depends on.
    archives : collection of str
        Names of the archives.
    models : collection of str
        Names of the models that rules name.
    webhooks : sequence of WebhookShape
        Webhooks of the configuration.
    """

    def __init__(
        self,
        queue: JobQueue,
        health: HealthCheck,
        archives: Collection[str],
        models: Collection[str],
        webhooks: Sequence[WebhookShape],
    ) -> None:
        self._queue, self._health, self._orders = queue, health, Orders(queue.ledger)
        self._archives, self._models, self._webhooks = tuple(archives), tuple(models), webhooks
        self._choices: tuple[float, Mapping[str, tuple[str, ...]]] = (-CHOICES_S, {})

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the pages, of their static files and of the redirects to them."""
        return [
            Route("/enrichment", guarded(self.home)),
            Route("/enrichment/", in_thread(self.page, PAGE)),
            Route("/enrichment/deliveries", in_thread(self.deliveries, ("state", "offset"))),
            Route("/enrichment/backfill", in_thread(self.backfill)),
            Route("/enrichment/system", guarded(self.system)),
            Mount("/enrichment/static", StaticFiles(directory=HERE / "static")),
        ]

    async def home(self, request: Request) -> Response:
        """Redirect to the dashboard."""
        return RedirectResponse("/enrichment/", 303)

    def page(self, request: Request) -> Response:
        """Render the series that were decided on, as far as a search finds them."""
        query = request.query_params
        page = page_of(query)
        rows = self._queue.ledger.decisions(page.search, limit=page.limit + 1, offset=page.offset)
        return render(
            "dashboard.html",
            active="series",
            lines=self._lines(rows[: page.limit]),
            counts=self._queue.ledger.counts(),
            states=list(JobState),
            paused=self._queue.paused,
            query=query,
            filtered=bool(link(query, limit="", offset="")),
            link=lambda **changes: link(query, **changes),
            page=page,
            more=len(rows) > page.limit,
            choices=self._known(),
            archives=self._archives,
            models=self._models,
        )

    def deliveries(self, request: Request) -> Response:
        """Render the deliveries, by default those that failed."""
        query = {"state": "failed", **request.query_params}
        page = page_of(query)
        found = self._queue.deliveries.list(*page.search.states, limit=page.limit + 1, offset=page.offset)
        jobs = self._queue.ledger.jobs_among(d.job_id for d in found)
        notices = self._queue.deliveries.arguments(d for d in found if d.kind == NOTIFY and d.job_id not in jobs)
        return render(
            "deliveries.html", active="deliveries", deliveries=found[: page.limit], more=len(found) > page.limit,
            state=query["state"], states=("failed", "cancelled", "queued", "running", "done"), page=page,
            counts=self._queue.deliveries.counts(), jobs=jobs,
            skips={workflow_id: Notice.from_json(text) for workflow_id, text in notices.items()},
        )  # fmt: skip

    def backfill(self, request: Request) -> Response:
        """Render the backfills."""
        orders = self._orders.all()[:ORDERS]
        reasons = self._known()["reason"]
        return render("backfill.html", active="backfill", orders=orders, archives=self._archives, reasons=reasons)

    async def system(self, request: Request) -> Response:
        """Render the health of everything; as a part, only the problems."""
        health = await self._health.look()
        template = "problems.html" if is_part(request) else "system.html"
        return render(template, active="system", health=health, webhooks=self._webhooks)

    def _lines(self, rows: tuple[Decision, ...]) -> list[Line]:
        return [self._line(row, view) for row, view in zip(rows, self._queue.views(rows), strict=True)]

    def _line(self, row: Decision, view: JobView) -> Line:
        if row.state is not JobState.RUNNING:
            return Line(row, view, None)
        shown = self._queue.show(row.job_id)
        return Line(row, shown, Progress.model_validate(progress_of(shown, self._queue.job(row.job_id))))

    def _known(self) -> Mapping[str, tuple[str, ...]]:
        """Return the rules and reasons that one can choose from."""
        at, known = self._choices
        if time.monotonic() - at >= CHOICES_S:
            known = {name: self._queue.ledger.known(name) for name in ("rule", "reason")}
            self._choices = (time.monotonic(), known)
        return known
