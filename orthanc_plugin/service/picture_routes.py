"""The routes of the API that show a job's scan: what can be drawn, and each plane as PNG."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.scans import Scans
from orthanc_plugin.results.sc.scan import WINDOWS
from orthanc_plugin.service.routes import answer, archive_errors, in_thread, known_job
from orthanc_plugin.service.schema_pages import DrawnPlane, DrawnScan, DrawnStructure

QUERY = ("window", "outlines", "hide")


class PictureRoutes:
    """Handlers of pictures.

    Parameters
    ----------
    queue : JobQueue
        Jobs.
    scans : Scans
        Draws.
    """

    def __init__(self, queue: JobQueue, scans: Scans) -> None:
        self._queue, self._scans = queue, scans

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{root}/jobs/{{id}}/scan", in_thread(self.scan)),
            Route(f"{root}/jobs/{{id}}/slices/{{plane}}/{{index}}.png", in_thread(self.picture, QUERY)),
        ]

    def scan(self, request: Request) -> Response:
        """Return the planes and structures that can be drawn."""
        job_id = known_job(self._queue, request)
        with archive_errors():
            scan = self._scans.scan(job_id)
        return answer(
            DrawnScan(
                planes=tuple(DrawnPlane.model_validate(plane) for plane in scan.planes),
                structures=tuple(DrawnStructure.model_validate(structure) for structure in scan.structures),
                windows=tuple(WINDOWS),
            )
        )

    def picture(self, request: Request) -> Response:
        """Return one plane as PNG, with the outlines of the structures."""
        job_id, query = known_job(self._queue, request), request.query_params
        window, outlines = query.get("window") or next(iter(WINDOWS)), query.get("outlines") or "yes"
        if window not in WINDOWS or outlines not in ("yes", "no"):
            raise HTTPException(400, f"window must be one of {', '.join(WINDOWS)}, and outlines yes or no")
        hidden = None if outlines == "no" else frozenset(filter(None, query.get("hide", "").split(",")))
        plane, index = str(request.path_params["plane"]), str(request.path_params["index"])
        with archive_errors():
            try:
                png = self._scans.png(job_id, plane, _number(index), window, hidden)
            except LookupError:
                raise HTTPException(
                    404, "the scan has no such plane; /scan of this job names those that it has"
                ) from None
        return Response(png, media_type="image/png")


def _number(index: str) -> int:
    """Read the number of a plane; raise LookupError where no scan has so many."""
    if not (index.isascii() and index.isdigit() and len(index) < 10):
        raise LookupError(index)
    return int(index)
