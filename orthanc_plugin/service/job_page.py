"""The page of one job: where its scan lies in the body, its quality checks, its preview and its radiomics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from orthanc_plugin.domain.body import Region
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.service.dashboard import page_templates
from orthanc_plugin.service.routes import in_thread, known_job
from orthanc_plugin.service.score_plot import plot_scores, runs


class JobPage:
    """Handler of the page.

    Parameters
    ----------
    queue : JobQueue
        Jobs.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._page = page_templates().get_template("job.html")

    def routes(self) -> list[Route]:
        """Return the route of the page."""
        return [Route("/enrichment/jobs/{id}", in_thread(self.page))]

    def page(self, request: Request) -> Response:
        """Render the page of a job, or answer 404 if there is no such job."""
        job = self._queue.show(known_job(self._queue, request))
        plot = plot_scores(job.location) if job.location is not None else None
        page = self._page.render(
            job=job, location=job.location, plot=plot, runs=runs, regions=tuple(reversed(Region)),
            kinds={str(stored.kind) for stored in job.objects},
        )  # fmt: skip
        return HTMLResponse(page)
