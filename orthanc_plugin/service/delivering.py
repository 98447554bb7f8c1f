"""The routes of the API that act on deliveries, those that belong to no job included: the notices of skips."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.deliveries import Deliveries
from orthanc_plugin.jobs.record import DeliveryView
from orthanc_plugin.service.routes import answer, in_thread, problem
from orthanc_plugin.service.schema import Delivery, DeliveryList


class Delivering:
    """Handlers that act on the deliveries of one subject to one destination.

    Parameters
    ----------
    deliveries : Deliveries
    """

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        place = f"{root}/deliveries/{{subject}}/{{destination}}"
        return [
            Route(f"{place}/retry", in_thread(self.retry), methods=["POST"]),
            Route(f"{place}/cancel", in_thread(self.cancel), methods=["POST"]),
        ]

    def retry(self, request: Request) -> Response:
        """Run deliveries again that failed or were cancelled. Answers 404 if there is none, 409 if none ended so."""
        return self._act(request, self._deliveries.retry)

    def cancel(self, request: Request) -> Response:
        """End open deliveries. Answers 404 if there is none, and 409 if all have ended."""
        return self._act(request, self._deliveries.cancel)

    def _act(self, request: Request, act: Callable[[str, str], None]) -> Response:
        subject, destination = str(request.path_params["subject"]), str(request.path_params["destination"])
        if not self._found(subject, destination):
            raise HTTPException(404, "there is no such delivery")
        try:
            act(subject, destination)
        except EnrichError as error:
            return problem(409, str(error))
        found = tuple(map(Delivery.model_validate, self._found(subject, destination)))
        return answer(DeliveryList(deliveries=found, limit=len(found), offset=0))

    def _found(self, subject: str, destination: str) -> list[DeliveryView]:
        return [view for view in self._deliveries.of_job(subject) if view.destination == destination]
