"""An id for each request, of the caller or a new one: the answer carries it, and so do the lines in the log."""

from __future__ import annotations

from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orthanc_plugin.correlation import REQUEST_ID, about

HEADER = "X-Request-ID"


class RequestIds:
    """ASGI middleware around all others.

    Parameters
    ----------
    app : ASGIApp
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _id_of(Headers(scope=scope))

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request
            await send(message)

        with about(request=request):
            await self._app(scope, receive, named)


def _id_of(headers: Headers) -> str:
    """Return the id of the caller if it is a UUID: any other text could hold a value of a patient."""
    given = headers.getlist(HEADER)
    return given[0] if len(given) == 1 and REQUEST_ID.fullmatch(given[0]) else uuid4().hex
