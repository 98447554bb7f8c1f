"""The border of every route: an error behind it becomes an answer with a code and discloses no details."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route

from orthanc_plugin.correlation import about
from orthanc_plugin.errors import EnrichError, TransientError
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.logs import describe
from orthanc_plugin.service.pages import render, wants_page
from orthanc_plugin.service.schema import Error, Problem
from orthanc_plugin.service.shape import Shape

_log = logging.getLogger(__name__)

BlockingHandler = Callable[[Request], Response]
Handler = Callable[[Request], Awaitable[Response]]

_CODES = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    409: "wrong-state",
    413: "too-large",
    500: "internal",
    501: "not-installed",
    503: "unavailable",
}
_UNEXPECTED = "unexpected error; the log of the service shows where it happened"
BodyT = TypeVar("BodyT", bound=BaseModel)


def answer(shape: Shape, status: int = 200) -> Response:
    """Answer with a body of the API as JSON."""
    return Response(shape.model_dump_json(), status, media_type="application/json")


def problem(status: int, message: str) -> Response:
    """Answer with the error body that all routes of the API share."""
    return answer(Error(error=Problem(code=_code(status), message=message)), status)


def _code(status: int) -> str:
    return _CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "-")


def told(request: Request, status: int, message: str) -> Response:
    """Answer with an error: a page for a person, the error body of the API for a program."""
    if not wants_page(request):
        return problem(status, message)
    return render("problem.html", active="", status=status, message=message)


def http_problem(request: Request, error: Exception) -> Response:
    """Answer for what no handler answers: refusals, unknown routes and wrong methods, and unexpected errors."""
    if not isinstance(error, HTTPException):
        return told(request, 500, _UNEXPECTED)
    status, said, headers = error.status_code, error.detail, dict(error.headers or {})
    if status == 404 and said == HTTPStatus.NOT_FOUND.phrase:
        if (found := _other_spelling(request)) is not None:
            return RedirectResponse(found, 307)
        said = "there is nothing at this address; /enrichment/ leads to all pages, /enrichment/api/ lists the API"
    if status == 405:
        headers["Allow"] = ", ".join(_methods(request))
        said = f"this address takes only {headers['Allow']}"
    response = told(request, status, said)
    response.headers.update(headers)
    return response


def _other_spelling(request: Request) -> str | None:
    """Return the address with or without a slash at its end, if there is a page; never one of another host or scheme.

    Starlette's own redirect names a scheme, which is the wrong one behind a TLS proxy.
    """
    path = request.url.path
    other = path[:-1] if path.endswith("/") else f"{path}/"
    scope = {**request.scope, "path": other}
    if request.method not in ("GET", "HEAD") or all(r.matches(scope)[0] is not Match.FULL for r in _routes(request)):
        return None
    return quote(other) + (f"?{request.url.query}" if request.url.query else "")


def _methods(request: Request) -> list[str]:
    fitting = (route for route in _routes(request) if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in fitting for method in route.methods or ()}) or ["GET", "HEAD"]


def _routes(request: Request) -> list[Route]:
    return [route for route in request.app.routes if isinstance(route, Route)]


def known_job(queue: JobQueue, request: Request) -> str:
    """Return the job id in the path, or raise 404 if there is no such job."""
    job_id = str(request.path_params["id"])
    if queue.ledger.of_job(job_id) is None:
        raise HTTPException(404, "there is no such job")
    return job_id


@contextmanager
def archive_errors() -> Iterator[None]:
    """Answer 503 if the archive does not respond, and 404 if it no longer has the object."""
    try:
        yield
    except TransientError as error:
        raise HTTPException(503, str(error)) from error
    except EnrichError as error:
        raise HTTPException(404, str(error)) from error


def _check_query(request: Request, known: tuple[str, ...]) -> None:
    """Raise 400 for a query parameter that the route does not have, or has twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    if not set(names) <= set(known):
        allowed = f"may have the parameters {', '.join(known)}" if known else "has no parameters"
        raise HTTPException(400, f"unknown query parameter: this route {allowed}")
    if len(set(names)) < len(names):
        raise HTTPException(400, "a query parameter is given twice")


def in_thread(handler: BlockingHandler, query: tuple[str, ...] = ()) -> Handler:
    """Run a blocking handler in a thread, so that its database calls do not block the server."""

    async def handle(request: Request) -> Response:
        return await run_in_threadpool(handler, request)

    return guarded(handle, query)


def guarded(handler: Handler, query: tuple[str, ...] = ()) -> Handler:
    """Wrap a handler so that every exception becomes an answer.

    Parameters
    ----------
    handler : callable
    query : tuple of str
        Parameters that the route has. Any other is refused: a filter that is ignored looks like an answer.
    """

    @functools.wraps(handler)
    async def handle(request: Request) -> Response:
        with about(job=str(request.path_params.get("id", ""))):
            try:
                _check_query(request, query)
                return await handler(request)
            except (HTTPException, ClientDisconnect):
                raise
            except sa.exc.SQLAlchemyError as error:
                _log.error("%s: %s", _route(request), describe(error))
                return told(request, 503, "the job database does not respond")
            except Exception as error:
                _log.error("%s: %s", _route(request), describe(error))
                return told(request, 500, _UNEXPECTED)

    return handle


def _route(request: Request) -> str:
    """Return the path without what the caller wrote into it, which could be a value of a patient."""
    given = {str(text): name for name, text in request.path_params.items()}
    return "/".join(f"{{{given[word]}}}" if word in given else word for word in request.url.path.split("/"))


async def body_of(request: Request, most: int) -> bytes:
    """Read the body; raise 413 if it is longer than that many bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"the body may have at most {most} bytes")
    return bytes(body)


def parsed(shape: type[BodyT], content: bytes) -> BodyT:
    """Read a body of that shape; raise 400 if it is not one."""
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:
        raise HTTPException(400, broken_rules(error, shape)) from None


def broken_rules(error: ValidationError, shape: type[BaseModel]) -> str:
    """Name fields and broken rules but nothing that the body holds: neither its values nor names of its own."""
    details = error.errors(include_input=False, include_url=False, include_context=False)
    rules = (_rule(str(d["type"]), tuple(map(str, d["loc"])), d["msg"], shape) for d in details)
    return "; ".join(dict.fromkeys(rules))


def _rule(kind: str, place: tuple[str, ...], said: str, shape: type[BaseModel]) -> str:
    if kind in ("json_invalid", "model_type"):
        return "body: must be a JSON object"
    if kind == "extra_forbidden":
        return f"body: has a field that this route does not know; it knows {', '.join(shape.model_fields)}"
    rule = "is missing" if kind == "missing" else re.sub(r"^\w+ should ", "must ", said).removeprefix("Value error, ")
    return f"{'.'.join(place) or 'body'}: {rule}"
