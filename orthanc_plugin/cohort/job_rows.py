"""Rows of the job database: every decision on a series of an archive, every delivery, and what shadow models found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from orthanc_plugin.cohort.schema import DELIVERIES, JOBS, SHADOW, Cell
from orthanc_plugin.cohort.unit import Row, cells_of
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.plan import PlannedModel
from orthanc_plugin.domain.shadow import Compared
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import DeliveryView
from orthanc_plugin.jobs.rows import Decision, models_of
from orthanc_plugin.jobs.search import Search

_PAGE = 1000


def rows_of_jobs(queue: JobQueue, archive: str) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the decisions on the series of an archive, the deliveries of its jobs, and shadow runs; oldest first."""
    decisions = [*_decisions(queue, archive)]
    for decision in reversed(decisions):
        yield JOBS.name, cells_of(JOBS, _job(decision))
    jobs = {decision.job_id for decision in decisions if decision.job_id}
    deliveries = [view for view in _deliveries(queue) if view.job_id in jobs]
    for view in sorted(deliveries, key=lambda view: view.workflow_id):
        yield DELIVERIES.name, cells_of(DELIVERIES, _delivery(view))
    seen = set[tuple[str, str]]()
    runs = [(decision, model) for decision in decisions for model in _shadows(decision)]  # the newest first
    for row in reversed([row for decision, model in runs for row in reversed(_shadow(decision, model, seen))]):
        yield SHADOW.name, cells_of(SHADOW, row)


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


def _shadows(decision: Decision) -> tuple[PlannedModel, ...]:
    if not decision.argument:
        return ()
    try:
        return EnrichJob.from_json(decision.argument).plan.shadow
    except ValueError:  # a text that another version wrote
        return ()


def _shadow(decision: Decision, shadow: PlannedModel, seen: set[tuple[str, str]]) -> list[Row]:
    """Give the rows of one shadow run; one with a reason if nothing was compared, none if it did not come to it.

    seen: series and shadow models of newer jobs.
    """
    stage = next((s for s in decision.summary.stages if s.name == f"shadow {shadow.name}"), None)
    if stage is None:
        return []
    key = decision.series_instance_uid, shadow.digest
    digests = {model.name: model.digest for model in EnrichJob.from_json(decision.argument).plan.models}
    row: Row = {
        "job_id": decision.job_id,
        "study_instance_uid": decision.study_instance_uid,
        "series_instance_uid": decision.series_instance_uid,
        "rule": decision.rule,
        "shadow": shadow.name,
        "shadow_digest": shadow.digest,
        "ended_at": _text(decision.ended_at),
        "current": not decision.superseded_by and key not in seen,
    }
    if not stage.compared:  # an older comparison stays the current one
        return [row | {"reason": "; ".join(stage.notes) or "no structure to compare"}]
    seen.add(key)
    note = "\n".join(stage.notes)
    return [row | _of_structure(one, digests) | {"note": note} for one in stage.compared]


def _of_structure(one: Compared, digests: Mapping[str, str]) -> Row:
    reason = "" if one.model_volume_ml is not None else "no model of the rule stored this structure"
    return {
        "model": one.model,
        "model_digest": digests.get(one.model, ""),
        "label": one.label,
        "structure_code": one.code,
        "modifier_code": one.modifier,
        "shadow_ml": one.volume_ml,
        "model_ml": one.model_volume_ml,
        "dice": one.dice,
        "reason": reason,
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
