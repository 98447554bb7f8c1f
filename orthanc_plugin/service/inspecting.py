"""The routes of the API that show what would be done with a series: each step and check, and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, InputError, Refusal, TransientError
from orthanc_plugin.jobs.inspection import Inspection
from orthanc_plugin.jobs.inspector import Inspector, Place
from orthanc_plugin.quality.picture import middle_slice_png
from orthanc_plugin.service.routes import answer, in_thread
from orthanc_plugin.service.schema_inspected import Inspected

QUERY = ("archive", "study_instance_uid", "series_instance_uid")


class InspectRoutes:
    """Handlers that inspect a series. One is inspected at a time: its volume lies in the memory of the service."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector, self._one = inspector, Lock()

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{root}/inspect", in_thread(self.inspect, QUERY)),
            Route(f"{root}/inspect/picture.png", in_thread(self.picture, QUERY)),
        ]

    def inspect(self, request: Request) -> Response:
        """Return each step, what each rule says, and each figure."""
        with self._alone():
            inspection, _ = self._inspected(request)
        return answer(Inspected.model_validate(inspection))

    def picture(self, request: Request) -> Response:
        """Return the middle slice with the outline of the body as PNG; 404 where the series cannot be read."""
        with self._alone():
            inspection, series = self._inspected(request)
            if series is None:
                raise HTTPException(404, f"the series cannot be read ({inspection.reason}), so there is no picture")
            png = middle_slice_png(series.volume)
        return Response(png, media_type="image/png")

    def _inspected(self, request: Request) -> tuple[Inspection, CtSeries | None]:
        archive, study_uid, series_uid = (request.query_params.get(name, "") for name in QUERY)
        if not (study_uid and series_uid):
            raise HTTPException(400, "study_instance_uid and series_instance_uid must be given")
        try:
            return self._inspector.inspect(Place(archive or "local", study_uid, series_uid))
        except TransientError as error:
            raise HTTPException(503, str(error)) from error
        except InputError as error:
            raise HTTPException(404 if error.reason is Refusal.GONE else 400, str(error)) from error
        except ConfigError as error:
            raise HTTPException(404, str(error)) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._one.acquire(blocking=False):
            raise HTTPException(503, "another series is being inspected; ask again in a moment")
        try:
            yield
        finally:
            self._one.release()
