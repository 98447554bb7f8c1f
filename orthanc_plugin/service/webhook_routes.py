"""The routes of the API that list the webhooks and try one out."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.config.webhooks import WebhookSettings
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.webhooks import try_out
from orthanc_plugin.service.routes import answer, in_thread, problem
from orthanc_plugin.service.schema_pages import Tried, WebhookList, WebhookShape


class WebhookRoutes:
    """Handlers of webhooks."""

    def __init__(self, webhooks: Mapping[str, WebhookSettings]) -> None:
        self._webhooks = webhooks

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{root}/webhooks", in_thread(self.listed)),
            Route(f"{root}/webhooks/{{name}}/test", in_thread(self.tried), methods=["POST"]),
        ]

    def listed(self, request: Request) -> Response:
        """List the webhooks of the configuration."""
        return answer(WebhookList(webhooks=webhooks_of(self._webhooks)))

    def tried(self, request: Request) -> Response:
        """Send a signed notice of the event `test`; answer 409 if the other side refuses it or does not answer."""
        name = str(request.path_params["name"])
        if name not in self._webhooks:
            raise HTTPException(404, "the configuration has no such webhook")
        try:
            said = try_out(self._webhooks, name, f"test-{secrets.token_hex(16)}", datetime.now(UTC))
        except EnrichError as error:
            return problem(409, str(error))
        return answer(Tried(answer=said))


def webhooks_of(webhooks: Mapping[str, WebhookSettings]) -> tuple[WebhookShape, ...]:
    """Describe webhooks without their secrets."""
    return tuple(WebhookShape(name=name, url=w.url, events=tuple(w.events)) for name, w in webhooks.items())
