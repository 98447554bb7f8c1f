"""The deliveries in the job engine: one line of them for each archive, so that a dead one delays no other.

A delivery copies results to an archive, or withdraws outdated ones from it. It is a workflow of its own, has the states
of a job, and is retried and cancelled like one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dbos import DBOSClient, EnqueueOptions, WorkflowStatus

from orthanc_plugin.domain.job import OPEN_STATES, JobState
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.engine import (
    APPLICATION_VERSION,
    DELIVER,
    DELIVER_TO,
    STATE_OF,
    WITHDRAW,
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

    def add(self, job_id: str, destination: str, argument: str, kind: str = DELIVER) -> None:
        """Queue a delivery of a job's results; further calls for the same one do nothing.

        Parameters
        ----------
        job_id : str
            The job whose results are copied or withdrawn.
        destination : str
            The archive that gets or loses them.
        argument : str
            What the worker is told.
        kind : str
            `deliver` or `withdraw`.
        """
        options: EnqueueOptions = {
            "queue_name": DELIVER_TO,
            "workflow_name": kind,
            "workflow_id": f"{kind}:{job_id}:{destination}",
            "app_version": APPLICATION_VERSION,
            "queue_partition_key": destination,
        }
        self._client.enqueue(options, argument)

    def of_job(self, job_id: str) -> tuple[DeliveryView, ...]:
        """Return the deliveries of one job."""
        prefixes = [f"{kind}:{job_id}:" for kind in (DELIVER, WITHDRAW)]
        found = self._client.list_workflows(workflow_id_prefix=prefixes, load_input=False)
        return tuple(_view(workflow) for workflow in found)

    def list(self, state: JobState | None = None, limit: int = 50, offset: int = 0) -> tuple[DeliveryView, ...]:
        """Return deliveries of one state, or all, newest first."""
        found = self._client.list_workflows(
            name=[DELIVER, WITHDRAW],
            status=statuses_of(state),
            limit=limit,
            offset=offset,
            sort_desc=True,
            load_input=False,
        )
        return tuple(_view(workflow) for workflow in found)

    def counts(self) -> dict[JobState, int]:
        """Count the deliveries that are not done, by state."""
        counted = {state: len(self.list(state, MOST_COUNTED)) for state in UNFINISHED}
        return {state: number for state, number in counted.items() if number}

    def retry(self, job_id: str, destination: str) -> None:
        """Run the deliveries of a job to one archive again that failed or were cancelled.

        Raises
        ------
        EnrichError
            If there is none.
        """
        if not self._run_again([d for d in self.of_job(job_id) if d.destination == destination]):
            raise EnrichError(f"job {job_id} has no delivery to {destination} that failed or was cancelled")

    def retry_failed(self, job_id: str) -> None:
        """Run every copy of a job's results again that failed or was cancelled; withdrawals only by `retry`."""
        self._run_again([delivery for delivery in self.of_job(job_id) if delivery.kind == DELIVER])

    def cancel_withdrawals(self, job_id: str) -> None:
        """End the open withdrawals of a job that runs again: it makes the same objects."""
        opened = [d for d in self.of_job(job_id) if d.kind == WITHDRAW and d.state in OPEN_STATES]
        self._client.cancel_workflows([_id(delivery) for delivery in opened])

    def forget(self, job_id: str) -> None:
        """Remove the copies of a job's results that are not done: another job takes its place."""
        for delivery in self.of_job(job_id):
            if delivery.kind == DELIVER and delivery.state is not JobState.DONE:
                self._client.cancel_workflow(_id(delivery))
                self._client.delete_workflow(_id(delivery))

    def cancel(self, job_id: str, destination: str) -> None:
        """End the open deliveries of a job to one archive; raise EnrichError if there is none."""
        opened = [d for d in self.of_job(job_id) if d.destination == destination and d.state in OPEN_STATES]
        if not opened:
            raise EnrichError(f"job {job_id} has no open delivery to {destination}")
        self._client.cancel_workflows([_id(delivery) for delivery in opened])

    def _run_again(self, deliveries: Sequence[DeliveryView]) -> int:
        ended = [d for d in deliveries if d.state in (JobState.FAILED, JobState.CANCELLED)]
        for delivery in ended:
            self._client.rewind_workflow(
                _id(delivery),
                queue_name=DELIVER_TO,
                queue_partition_key=delivery.destination,
                application_version=APPLICATION_VERSION,
            )
        return len(ended)


def job_of(workflow_id: str) -> str:
    """Return the job of a delivery, given the id of its workflow."""
    return workflow_id.split(":", 2)[1]


def _id(delivery: DeliveryView) -> str:
    return f"{delivery.kind}:{delivery.job_id}:{delivery.destination}"


def _view(workflow: WorkflowStatus) -> DeliveryView:
    kind, job_id, destination = workflow.workflow_id.split(":", 2)
    state = STATE_OF.get(workflow.status, JobState.FAILED)
    error = error_text(workflow) if state in (JobState.FAILED, JobState.CANCELLED) else ""
    # 0.1.0 kept no notes.
    notes = tuple(workflow.output.splitlines()) if isinstance(workflow.output, str) else ()
    return DeliveryView(
        destination, state, error, kind, job_id, _time(workflow.created_at), _time(workflow.completed_at), notes=notes
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
