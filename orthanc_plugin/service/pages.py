"""What all pages share: their templates, the words and numbers in them, and the answers for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from orthanc_plugin.domain.told_apart import told_apart
from orthanc_plugin.jobs.record import JobView
from orthanc_plugin.service import words
from orthanc_plugin.service.callers import CALLER, Way
from orthanc_plugin.service.findings import segmented

SHORT_UID = 12
_CLASS = re.compile(r"^[A-Za-z]+Error: ")
HERE = Path(__file__).parent


@cache
def page_templates() -> Environment:
    """Load the templates of all pages and the filters they use. The templates escape all text."""
    pages = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    filters: dict[str, Callable[..., object]] = {
        "short": short_uid,
        "seconds": seconds,
        "time": clock_time,
        "volumes": volumes,
        "ml": millilitres,
        "spaced": spaced,
        "message": message,
        "check": words.check,
        "reason": words.reason,
        "kind": words.kind,
        "query": urlencode,
    }
    pages.filters |= filters
    return pages


def render(template: str, /, **values: object) -> Response:
    """Answer with a page; `status` is its status code, 200 if it is left out."""
    status, caller = values.get("status", 200), CALLER.get()
    user = caller.name if caller is not None and caller.way is Way.SESSION else ""
    return HTMLResponse(
        page_templates().get_template(template).render(session_of=user, **values),
        status if isinstance(status, int) else 200,
    )


def is_part(request: Request) -> bool:
    """Tell whether htmx asks for a part of a page. A person who opens the same address gets it as a page."""
    return request.headers.get("hx-request") == "true"


def wants_page(request: Request) -> bool:
    """Tell whether a person asks: a browser that opens an address prefers HTML."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/enrichment/api/v1/")


def short_uid(uid: str) -> str:
    """Shorten a UID to its end: UIDs of one site share their beginning."""
    return uid if len(uid) <= SHORT_UID else "…" + uid[-SHORT_UID:]


def seconds(value: float) -> str:
    """Format a duration for people."""
    return f"{value:.1f} s" if value < 100 else f"{int(value) // 60} min {int(value) % 60:02d} s"


def clock_time(moment: datetime | None) -> str:
    """Format date and time in UTC, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def millilitres(volume_ml: float) -> str:
    """Format a volume with three significant digits or all before the point."""
    return f"{volume_ml:,.{0 if volume_ml >= 100 else 1 if volume_ml >= 1 else 2}f} mL"


def message(error: str) -> str:
    """Drop the name of its class from the message of an error."""
    return _CLASS.sub("", error)


def spaced(key: str) -> str:
    """Write a key as words."""
    return key.replace("_", " ")


def volumes(job: JobView) -> tuple[tuple[str, float], ...]:
    """List name and volume (mL) of each structure of all models of a job."""
    found = segmented(job)
    names = told_apart([(spaced(key), model) for model, key, _ in found])
    return tuple((name, volume_ml) for name, (_, _, volume_ml) in zip(names, found, strict=True))
