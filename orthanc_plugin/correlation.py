"""Ids that correlate the lines of a log: of a request, a job, a series and an archive.

They follow the code that runs (`contextvars`) and go with it into the threads of a `CarryingPool`. An id that is not
written as ids are is left out: a text from outside could hold a value of a patient, or forge a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

REQUEST_ID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
"""A UUID, with or without hyphens, as nginx and Envoy make them: no value of a patient looks like one."""
_FORMS = {
    "request": REQUEST_ID,
    "job": re.compile(r"[0-9a-f]{64}"),
    "series": re.compile(r"[0-9.]{1,64}"),
    "archive": re.compile(r"[\w-]{1,32}", re.ASCII),
}
_ids: ContextVar[Mapping[str, str]] = ContextVar("ids", default={})  # noqa: B039 - nobody changes it in place


def current_ids() -> Mapping[str, str]:
    """Return what the code that runs now is about."""
    return _ids.get()


@contextmanager
def about(*, request: str = "", job: str = "", series: str = "", archive: str = "") -> Iterator[None]:
    """Let every line that is logged inside carry these ids, beside those of the code around it."""
    given = {"request": request, "job": job, "series": series, "archive": archive}
    token = _ids.set({**_ids.get(), **{name: text for name, text in given.items() if _FORMS[name].fullmatch(text)}})
    try:
        yield
    finally:
        _ids.reset(token)


class CarryingPool(ThreadPoolExecutor):
    """A pool of threads whose tasks carry the ids of the code that submits them."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Submit a task with a copy of the context."""
        return super().submit(copy_context().run, partial(fn, *args, **kwargs))
