"""The deliveries in the job engine: one line of them for each destination, so that a dead one delays no other.

A delivery is a workflow of its own. It has the states of a job, and is retried and cancelled like one.
"""

from __future__ import annotations

from datetime import UTC, datetime

from dbos import DBOSClient, EnqueueOptions, WorkflowStatus

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.engine import (
    APPLICATION_VERSION,
    DELIVER,
    DELIVER_TO,
    STATE_OF,
    error_text,
    statuses_of,
)
from orthanc_plugin.jobs.record import DeliveryView

MOST_COUNTED = 10_000
"""Deliveries of one state that are counted; there are more than that only after a long outage."""
UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.CANCELLED)


class Deliveries:
    """Queues, lists, retries and cancels deliveries.

    Parameters
    ----------
    client : DBOSClient
        Client of the job engine.
    """

    def __init__(self, client: DBOSClient) -> None:
        self._client = client

    def add(self, job_id: str, destination: str, argument: str) -> None:
        """Queue the copy of a job's results to one destination; further calls for the same copy do nothing."""
        options: EnqueueOptions = {
            "queue_name": DELIVER_TO,
            "workflow_name": DELIVER,
            "workflow_id": _id(job_id, destination),
            "app_version": APPLICATION_VERSION,
            "queue_partition_key": destination,
        }
        self._client.enqueue(options, argument)

    def of_job(self, job_id: str) -> tuple[DeliveryView, ...]:
        """Return the deliveries of one job."""
        found = self._client.list_workflows(workflow_id_prefix=f"{DELIVER}:{job_id}:", load_input=False)
        return tuple(_view(workflow) for workflow in found)

    def list(self, state: JobState | None = None, limit: int = 50, offset: int = 0) -> tuple[DeliveryView, ...]:
        """Return deliveries of one state, or all, newest first."""
        found = self._client.list_workflows(
            name=DELIVER, status=statuses_of(state), limit=limit, offset=offset, sort_desc=True, load_input=False
        )
        return tuple(_view(workflow) for workflow in found)

    def counts(self) -> dict[JobState, int]:
        """Count the deliveries that are not done, by state."""
        counted = {state: len(self.list(state, MOST_COUNTED)) for state in UNFINISHED}
        return {state: number for state, number in counted.items() if number}

    def retry(self, job_id: str, destination: str) -> None:
        """Run a delivery again that failed or was cancelled; raise EnrichError if there is none."""
        found = self._one(job_id, destination)
        if STATE_OF.get(found.status, JobState.FAILED) not in (JobState.FAILED, JobState.CANCELLED):
            raise EnrichError(
                f"the delivery to {destination} is {_view(found).state}; only one that ended can be retried"
            )
        self._run_again(found.workflow_id, destination)

    def retry_failed(self, job_id: str) -> int:
        """Run every delivery of a job again that failed or was cancelled, and say how many there were."""
        ended = [d for d in self.of_job(job_id) if d.state in (JobState.FAILED, JobState.CANCELLED)]
        for delivery in ended:
            self._run_again(_id(job_id, delivery.destination), delivery.destination)
        return len(ended)

    def cancel(self, job_id: str, destination: str) -> None:
        """End an open delivery; raise EnrichError if there is none."""
        found = _view(self._one(job_id, destination))
        if found.state not in (JobState.QUEUED, JobState.RUNNING):
            raise EnrichError(f"the delivery to {destination} is {found.state}; only an open one can be cancelled")
        self._client.cancel_workflow(_id(job_id, destination))

    def _one(self, job_id: str, destination: str) -> WorkflowStatus:
        found = self._client.list_workflows(workflow_ids=[_id(job_id, destination)], load_input=False)
        if not found:
            raise EnrichError(f"job {job_id} has no delivery to {destination}")
        return found[0]

    def _run_again(self, workflow_id: str, destination: str) -> None:
        self._client.rewind_workflow(
            workflow_id,
            queue_name=DELIVER_TO,
            queue_partition_key=destination,
            application_version=APPLICATION_VERSION,
        )


def _id(job_id: str, destination: str) -> str:
    return f"{DELIVER}:{job_id}:{destination}"


def _view(workflow: WorkflowStatus) -> DeliveryView:
    _, job_id, destination = workflow.workflow_id.split(":", 2)
    state = STATE_OF.get(workflow.status, JobState.FAILED)
    error = error_text(workflow) if state in (JobState.FAILED, JobState.CANCELLED) else ""
    return DeliveryView(destination, state, error, job_id, _time(workflow.created_at), _time(workflow.completed_at))


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
