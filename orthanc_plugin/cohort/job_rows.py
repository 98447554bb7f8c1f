"""Rows of the job database: every decision on a series of an archive, and every delivery."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orthanc_plugin.cohort.schema import DELIVERIES, JOBS, Cell
from orthanc_plugin.cohort.unit import Row, cells_of
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import DeliveryView
from orthanc_plugin.jobs.rows import Decision, models_of
from orthanc_plugin.jobs.search import Search

_PAGE = 1000


def rows_of_jobs(queue: JobQueue, archive: str) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the decisions on the series of an archive, then the deliveries of its jobs; oldest first."""
    decisions = [*_decisions(queue, archive)]
    for decision in reversed(decisions):
        yield JOBS.name, cells_of(JOBS, _job(decision))
    jobs = {decision.job_id for decision in decisions if decision.job_id}
    deliveries = [view for view in _deliveries(queue) if view.job_id in jobs]
    for view in sorted(deliveries, key=lambda view: view.workflow_id):
        yield DELIVERIES.name, cells_of(DELIVERIES, _delivery(view))


def _decisions(queue: JobQueue, archive: str) -> Iterator[Decision]:
    """Read page by page: the ledger may hold 100,000 rows."""
    offset = 0
    while page := queue.ledger.decisions(Search(archive=archive), limit=_PAGE, offset=offset):
        yield from page
        offset += len(page)


def _deliveries(queue: JobQueue) -> Iterator[DeliveryView]:
    offset = 0
    while page := queue.deliveries.list(limit=_PAGE, offset=offset):
        yield from page
        offset += len(page)


def _job(decision: Decision) -> Row:
    begun, ended = decision.started_at, decision.ended_at
    return {
        "job_id": decision.job_id,
        "archive": decision.archive,
        "study_instance_uid": decision.study_instance_uid,
        "series_instance_uid": decision.series_instance_uid,
        "state": decision.state.value,
        "rule": decision.rule,
        "models": models_of(decision.argument).strip(","),
        "priority": decision.priority.value,
        "first_seen": _text(decision.first_seen),
        "started_at": _text(begun),
        "ended_at": _text(ended),
        "seconds": (ended - begun).total_seconds() if begun and ended else None,
        "objects": len(decision.summary.objects),
        "current": not decision.superseded_by,
        "detail": decision.detail,
        "reason": str(decision.reason),
    }


def _delivery(view: DeliveryView) -> Row:
    return {
        "job_id": view.job_id,
        "kind": view.kind,
        "destination": view.destination,
        "state": view.state.value,
        "created_at": _text(view.created_at),
        "ended_at": _text(view.ended_at),
        "notes": "\n".join(view.notes),
        "reason": view.error,
    }


def _text(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""
