"""A job of the ledger as the API and the command line show it."""

from __future__ import annotations

from orthanc_plugin.domain.job import OPEN_STATES, JobState, Priority
from orthanc_plugin.jobs.record import DeliveryView, JobView, Summary
from orthanc_plugin.jobs.rows import Decision


def waits_for_backfill(row: Decision) -> bool:
    """Tell whether it is a job of a backfill that no worker has begun."""
    return row.state is JobState.QUEUED and row.priority is Priority.BACKFILL


def view_of(
    row: Decision,
    summary: Summary,
    stage: str = "",
    deliveries: tuple[DeliveryView, ...] = (),
    stuck: bool = False,
    waits_for: str = "",
) -> JobView:
    """Show a job; `summary` is what it has done so far."""
    error = "" if row.state in OPEN_STATES else row.detail or row.reason
    return JobView(
        row.job_id, row.state, row.archive, row.study_instance_uid, row.series_instance_uid, row.rule,
        row.first_seen, row.started_at, row.ended_at, error, summary.stages, summary.objects, stage, deliveries, stuck,
        row.priority, waits_for,
    )  # fmt: skip
