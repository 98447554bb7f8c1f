"""The border of every route: an error behind it becomes an answer with a code and discloses no details."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

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
    503: "unavailable",
}


def answer(shape: Shape, status: int = 200) -> Response:
    """Answer with a body of the API as JSON."""
    return Response(shape.model_dump_json(), status, media_type="application/json")


def problem(status: int, message: str) -> Response:
    """Answer with the error body that all routes of the API share."""
    return answer(Error(error=Problem(code=_CODES[status], message=message)), status)


def told(request: Request, status: int, message: str) -> Response:
    """Answer with an error: a page for a person, the error body of the API for a program."""
    if not wants_page(request):
        return problem(status, message)
    return render("problem.html", active="", status=status, message=message)


def http_problem(request: Request, error: Exception) -> Response:
    """Answer for Starlette's own refusals (unknown route, wrong method)."""
    status, said = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "unexpected")
    response = told(request, status, said)
    response.headers.update((error.headers or {}) if isinstance(error, HTTPException) else {})
    return response


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
                return told(request, 500, "unexpected error; the log of the service shows where it happened")

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


def broken_rules(error: ValidationError) -> str:
    """Name fields and broken rules but no values: the JSON library's own text may quote the body."""
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, d['loc'])) or 'body'}: {d['type'].replace('_', ' ')}" for d in details)
