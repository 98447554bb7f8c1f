"""The search among decisions as an address writes it. Every page and every route of the API reads the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from starlette.exceptions import HTTPException

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.jobs.search import Search

FILTERS = ("state", "archive", "study", "series", "reason", "text", "rule", "model", "since", "until", "standing")
PAGE = (*FILTERS, "limit", "offset")
"""Query parameters of the lists."""
DEFAULT_LIMIT, LARGEST_LIMIT, LARGEST_OFFSET = 50, 500, 1_000_000
MOST_STUDIES = 100


@dataclass(frozen=True, slots=True)
class Page:
    """The rows that a caller asks for."""

    search: Search
    limit: int
    offset: int


def page_of(query: Mapping[str, str]) -> Page:
    """Read filters and page; raise 400 for a value that cannot be."""
    limit = _number(query, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT)
    return Page(search_of(query), limit, _number(query, "offset", 0, 0, LARGEST_OFFSET))


def search_of(query: Mapping[str, str]) -> Search:
    """Read the filters; a filter that is empty is not asked for."""
    states = tuple(filter(None, query.get("state", "").split(",")))
    if not set(states) <= set(JobState):
        raise HTTPException(400, f"state: must be one or more of {', '.join(JobState)}, separated by commas")
    studies = tuple(filter(None, query.get("study", "").split(",")))
    if len(studies) > MOST_STUDIES or not all(map(is_uid, studies)):
        raise HTTPException(400, f"study: must be at most {MOST_STUDIES} StudyInstanceUIDs, separated by commas")
    standing = query.get("standing", "")
    if standing not in ("", "yes"):
        raise HTTPException(400, "standing: must be yes, or left out")
    return Search(
        states=tuple(map(JobState, states)),
        archive=query.get("archive", ""),
        studies=studies,
        series=query.get("series", "").strip(),
        reason=query.get("reason", ""),
        text=query.get("text", ""),
        rule=query.get("rule", ""),
        model=query.get("model", ""),
        since=_time(query, "since"),
        until=_time(query, "until", whole_day=True),
        standing=bool(standing),
    )


def link(query: Mapping[str, str], **changes: object) -> dict[str, str]:
    """Give a query with changes; what is empty, and an offset of 0, is left out."""
    now = {**{name: query.get(name, "") for name in PAGE}, **{name: str(value) for name, value in changes.items()}}
    return {name: value for name, value in now.items() if value and (name, value) != ("offset", "0")}


def _time(query: Mapping[str, str], name: str, *, whole_day: bool = False) -> datetime | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise HTTPException(400, f"{name}: must be a date or a time such as 2026-01-31 or 2026-01-31T12:00") from None
    try:
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment + timedelta(days=1) if whole_day and _is_day(text) else moment
    except OverflowError:  # the first or the last day there is
        raise HTTPException(400, f"{name}: must be a time of the years 2 to 9998") from None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise HTTPException(400, f"{name}: must be a number from {least} to {most}")
    return int(text)
