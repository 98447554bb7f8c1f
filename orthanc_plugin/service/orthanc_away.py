"""What a caller gets while Orthanc does not respond: nobody can log in, but a person is told what goes on all the same.

The page holds nothing of the database, because nobody has shown who asks. It tries again by itself.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from orthanc_plugin.service.pages import HERE, render, wants_page

RETRY_S = 5
_STATIC = "/enrichment/static/"


class OrthancAway:
    """ASGI application that answers 503, to a browser by a page with its style and icon."""

    def __init__(self) -> None:
        self._files = StaticFiles(directory=HERE / "static")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer any request."""
        path = str(scope["path"])
        if path.startswith(_STATIC) and scope["method"] in ("GET", "HEAD"):
            await self._files({**scope, "root_path": _STATIC.rstrip("/")}, receive, send)
            return
        answer: Response = PlainTextResponse("Orthanc does not respond.\n", 503)
        if wants_page(Request(scope)):
            answer = render("away.html", status=503, retry_s=RETRY_S)
        answer.headers["Retry-After"] = str(RETRY_S)
        await answer(scope, receive, send)
