"""The names and the version that the job engine (DBOS) records, and its states in our words."""

from __future__ import annotations

import sqlalchemy as sa
from dbos import DBOSClient, WorkflowStatus, error

from orthanc_plugin.domain.job import OPEN_STATES, JobState, Priority

APPLICATION_NAME = "enrich"
APPLICATION_VERSION = "steps-1"
"""Raise it when the steps of the workflow change: jobs of another version then begin anew (`JobQueue.adopt`)."""
ENRICH, DELIVER, WITHDRAW, NOTIFY = "enrich", "deliver", "withdraw", "notify"
"""Names of the workflows; jobs and notices have a queue of the same name."""
DELIVER_TO = "deliver-to"
"""Queue of deliveries and withdrawals with one partition for each archive. 0.1.0 used one queue `deliver` for all."""
WAITS = "waits for "
"""Beginning of the event `stage` while a running job waits."""
AGAIN = "try "
"""Beginning of what it waits for while a step is tried again."""
NO_WORKER_SURVIVED = "the worker died each time it ran this job"

QUEUE_PRIORITY = {Priority.URGENT: 10, Priority.NORMAL: 20, Priority.BACKFILL: 30}
"""The engine takes the smallest number first, and before all of them a job without one, as 0.1.0 queued them."""

STATE_OF = {
    "ENQUEUED": JobState.QUEUED,
    "DELAYED": JobState.QUEUED,
    "PENDING": JobState.RUNNING,
    "SUCCESS": JobState.DONE,
    "CANCELLED": JobState.CANCELLED,
}
QUEUED_WORDS = tuple(word for word, state in STATE_OF.items() if state is JobState.QUEUED)
UNFINISHED_WORDS = tuple(word for word, state in STATE_OF.items() if state in OPEN_STATES)
_FAILED = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


def engine_workflows(engine: sa.Engine) -> sa.TableClause:
    """Return the engine's table of workflows, for joins with ours: its client would build an object of each.

    Source
    ------
    DBOS, "System Tables": `workflow_status`, in PostgreSQL in the schema `dbos`.
    """
    schema = "dbos" if engine.dialect.name == "postgresql" else None
    return sa.table("workflow_status", sa.column("workflow_uuid", sa.Text), sa.column("status", sa.Text), schema=schema)


def statuses_of(state: JobState) -> list[str]:
    """Return the engine's words for a state."""
    return _FAILED if state is JobState.FAILED else [word for word, same in STATE_OF.items() if same is state]


def run_again(client: DBOSClient, workflow_id: str, queue_name: str, partition: str | None = None) -> None:
    """Run a workflow again that ended, from its first step; do nothing if another process was faster."""
    try:
        client.rewind_workflow(
            workflow_id,
            queue_name=queue_name,
            queue_partition_key=partition,
            application_version=APPLICATION_VERSION,
        )
    except error.DBOSException:
        (found,) = client.list_workflows(workflow_ids=[workflow_id], load_input=False)
        if STATE_OF.get(found.status) not in OPEN_STATES:
            raise


def error_text(workflow: WorkflowStatus) -> str:
    """Say why a workflow has no result."""
    if workflow.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return NO_WORKER_SURVIVED
    if workflow.status == "CANCELLED":
        return "cancelled"
    if workflow.status == "SUCCESS":
        return "the retry did not begin; retry the job again"
    return str(workflow.error) if workflow.error is not None else ""
