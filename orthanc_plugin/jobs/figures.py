"""Figures of the ledger for monitoring: how long the queue is, what failed and how, and how long stages took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orthanc_plugin import errors
from orthanc_plugin.domain.job import JobState, StageView
from orthanc_plugin.jobs.database import database_time
from orthanc_plugin.jobs.rows import decisions, summary_of_text

OTHER = "other"
_ERRORS = frozenset(name for name, kind in vars(errors).items() if isinstance(kind, type))
MOST_ENDED = 1000
"""Jobs that one look reads; a service that was away for long counts the rest at its next looks."""


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What one look at the ledger tells.

    oldest_s: seconds since the decision on the job that has waited longest; None if no job waits.
    failed: failed jobs by the kind of their error. skipped: series without result by reason.
    """

    oldest_s: float | None
    failed: Mapping[str, int]
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ended: when, as the ledger writes it, and its stages."""

    at: str
    job_id: str
    state: JobState
    stages: tuple[StageView, ...]


def queue_figures(engine: sa.Engine) -> QueueFigures:
    """Read the figures of the queue in three short queries."""
    waiting = sa.select(sa.func.min(decisions.c.first_seen)).where(decisions.c.state == JobState.QUEUED)
    reasons = sa.select(decisions.c.reason, sa.func.count()).where(decisions.c.state == JobState.SKIPPED)
    kind = sa.func.substr(decisions.c.detail, 1, 40)
    details = sa.select(kind, sa.func.count()).where(decisions.c.state == JobState.FAILED).group_by(kind)
    with engine.connect() as connection:
        oldest = connection.execute(waiting).scalar_one_or_none()
        now = database_time(connection)
        skipped = {str(reason): int(n) for reason, n in connection.execute(reasons.group_by(decisions.c.reason))}
        failed: Counter[str] = Counter()
        for detail, number in connection.execute(details):
            failed[_error_of(str(detail))] += int(number)
    age = (now - datetime.fromisoformat(oldest)).total_seconds() if oldest else None
    return QueueFigures(age if age is None else max(0.0, age), failed, skipped)


def _error_of(detail: str) -> str:
    name = detail.partition(":")[0]
    return name if name in _ERRORS else OTHER


def last_end(engine: sa.Engine) -> tuple[str, str]:
    """Return time and id of the job that ended last."""
    return next(((end.at, end.job_id) for end in _ended(engine, ("", ""), newest=True, most=1)), ("", ""))


def ended_since(engine: sa.Engine, since: tuple[str, str]) -> Sequence[Ended]:
    """Return the jobs that ended after one, oldest first; `since` is its time and id."""
    return _ended(engine, since, newest=False, most=MOST_ENDED)


def _ended(engine: sa.Engine, since: tuple[str, str], *, newest: bool, most: int) -> Sequence[Ended]:
    key = sa.tuple_(decisions.c.ended_at, decisions.c.job_id)
    columns = (decisions.c.ended_at, decisions.c.job_id, decisions.c.state, decisions.c.summary)
    query = sa.select(*columns).where(decisions.c.job_id != "", decisions.c.ended_at != "", key > since)
    order = [column.desc() if newest else column for column in (decisions.c.ended_at, decisions.c.job_id)]
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(*order).limit(most))
        return [Ended(at, job, JobState(state), summary_of_text(summary).stages) for at, job, state, summary in rows]


def kind_of_stage(name: str) -> str:
    """Return a stage's name without the model, such as `segment` of `segment chest_structures`."""
    return name.partition(" ")[0] or OTHER
