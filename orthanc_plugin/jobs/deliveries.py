"""The deliveries in the job engine: one line of them for each archive, so that a dead one delays no other.

A delivery copies results to an archive, withdraws outdated ones from it, or tells a webhook of an event. It is a
workflow of its own, has the states of a job, and is retried and cancelled like one. Each run of a job has deliveries
of its own, because the engine runs an id only once. Of several runs, the latest is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from dbos import DBOSClient, EnqueueOptions, WorkflowStatus

from orthanc_plugin.domain.job import OPEN_STATES, JobState
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.identity import digest
from orthanc_plugin.jobs.engine import (
    APPLICATION_VERSION,
    DELIVER,
    DELIVER_TO,
    NOTIFY,
    STATE_OF,
    WITHDRAW,
    error_text,
    run_again,
    statuses_of,
)
from orthanc_plugin.jobs.record import DeliveryView

MOST_COUNTED = 10_000
"""Deliveries that are counted; there are more than that only after a long outage."""
KINDS = (DELIVER, WITHDRAW, NOTIFY)
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

    def add(
        self, job_id: str, destination: str, argument: str, kind: str = DELIVER, run: datetime | None = None
    ) -> None:
        """Queue a delivery of a job's results; further calls for the same objects of the same run do nothing.

        A withdrawal ends the copies of the same results that wait. A copy that runs sees the withdrawal at its end.

        Parameters
        ----------
        job_id : str
            The job whose results are copied or withdrawn.
        destination : str
            The archive that gets or loses them, or the webhook, after `@`.
        argument : str
            What the worker is told.
        kind : str
            `deliver`, `withdraw` or `notify`.
        run : datetime, optional
            When the job began that made the results; a job that ran again has another run.
        """
        before = self._runs(job_id, destination)
        workflow_id = f"{kind}:{job_id}:{destination}:{_run_name(run)}-{digest(argument)[:8]}"
        options: EnqueueOptions = {
            "queue_name": _queue_of(kind),
            "workflow_name": kind,
            "workflow_id": workflow_id,
            "app_version": APPLICATION_VERSION,
            "queue_partition_key": destination,
        }
        self._client.enqueue(options, argument)
        same = [view for view in before if view.kind == kind and view.workflow_id != workflow_id]
        self._client.delete_workflows([view.workflow_id for view in same if view.state not in OPEN_STATES])
        if kind == WITHDRAW:
            copies = (view for view in before if view.kind == DELIVER and view.state is JobState.QUEUED)
            self._client.cancel_workflows([view.workflow_id for view in copies])

    def forget_runs(self, job_id: str) -> None:
        """Forget the runs of a job that ended, and its deliveries that are not open."""
        done = [view.workflow_id for view in self._of_job(job_id) if view.state not in OPEN_STATES]
        self._client.delete_workflows([job_id, *done])

    def of_job(self, job_id: str) -> tuple[DeliveryView, ...]:
        """Return the deliveries of one job: of each kind and destination, the latest run."""
        return tuple({(view.kind, view.destination): view for view in self._of_job(job_id)}.values())

    def is_outdated(self, workflow_id: str) -> bool:
        """Tell whether a withdrawal of the same results from the same archive follows a copy, or is done."""
        _, job_id, destination, run = _parts(workflow_id)
        withdrawals = (view for view in self._runs(job_id, destination) if view.kind == WITHDRAW)
        runs = (_parts(view.workflow_id)[3] for view in withdrawals if view.state is not JobState.CANCELLED)
        return any(not run or _start(other) >= _start(run) for other in runs)

    def list(self, *states: JobState, limit: int = 50, offset: int = 0) -> tuple[DeliveryView, ...]:
        """Return deliveries of some states, or all, newest first."""
        words = [word for state in states for word in statuses_of(state)]
        if states and not words:
            return ()  # no delivery is ever skipped or superseded
        found = self._client.list_workflows(
            name=[*KINDS],
            status=words or None,
            limit=limit,
            offset=offset,
            sort_desc=True,
            load_input=False,
        )
        return tuple(_view(workflow) for workflow in found)

    def arguments(self, views: Iterable[DeliveryView]) -> dict[str, str]:
        """Return what workers are told of deliveries, by the ids of their workflows."""
        wanted = [view.workflow_id for view in views]
        found = self._client.list_workflows(workflow_ids=wanted) if wanted else []
        return {workflow.workflow_id: str(workflow.input["args"][0]) for workflow in found if workflow.input}

    def counts(self) -> dict[JobState, int]:
        """Count the deliveries that are not done, by state, in one query: it looks at all jobs that wait."""
        words = [word for state in UNFINISHED for word in statuses_of(state)]
        found = self._client.list_workflows(
            name=[*KINDS], status=words, limit=MOST_COUNTED, sort_desc=True, load_input=False
        )
        return dict(Counter(_view(workflow).state for workflow in found))

    def retry(self, job_id: str, destination: str) -> None:
        """Run the deliveries of a job to one archive again that failed, were cancelled, or sent something instead.

        The archive may have learned to take the originals.

        Raises
        ------
        EnrichError
            If there is none.
        """
        runs = self.of_job(job_id)
        instead = [view for view in runs if view.destination == destination and view.sent_instead]
        if not self._run_again(self._runs(job_id, destination), instead):
            raise EnrichError(f"job {job_id} has no delivery to {destination} that failed or was cancelled")

    def retry_failed(self, job_id: str) -> None:
        """Run every copy of a job's results again that failed or was cancelled; withdrawals only by `retry`."""
        self._run_again([view for view in self.of_job(job_id) if view.kind == DELIVER])

    def cancel_withdrawals(self, job_id: str) -> None:
        """End the open withdrawals of a job that runs again: it makes the same objects."""
        self._cancel(view for view in self._of_job(job_id) if view.kind == WITHDRAW)

    def forget(self, job_id: str) -> None:
        """Remove the copies of a job's results that are not done: another job takes its place."""
        for delivery in self.of_job(job_id):
            if delivery.kind == DELIVER and delivery.state is not JobState.DONE:
                self._client.cancel_workflow(delivery.workflow_id)
                self._client.delete_workflow(delivery.workflow_id)

    def cancel(self, job_id: str, destination: str) -> None:
        """End the open deliveries of a job to one archive; raise EnrichError if there is none."""
        if not self._cancel(self._runs(job_id, destination)):
            raise EnrichError(f"job {job_id} has no open delivery to {destination}")

    def _cancel(self, deliveries: Iterable[DeliveryView]) -> int:
        opened = [view.workflow_id for view in deliveries if view.state in OPEN_STATES]
        self._client.cancel_workflows(opened)
        return len(opened)

    def _run_again(self, deliveries: Sequence[DeliveryView], done: Sequence[DeliveryView] = ()) -> int:
        ended = [*(view for view in deliveries if view.state in (JobState.FAILED, JobState.CANCELLED)), *done]
        for view in ended:
            run_again(self._client, view.workflow_id, _queue_of(view.kind), view.destination)
        return len(ended)

    def _of_job(self, job_id: str) -> tuple[DeliveryView, ...]:
        prefixes = [f"{kind}:{job_id}:" for kind in KINDS]
        found = self._client.list_workflows(workflow_id_prefix=prefixes, load_input=False)
        return tuple(_view(workflow) for workflow in found)

    def _runs(self, job_id: str, destination: str) -> tuple[DeliveryView, ...]:
        return tuple(view for view in self._of_job(job_id) if view.destination == destination)


def _queue_of(kind: str) -> str:
    return NOTIFY if kind == NOTIFY else DELIVER_TO


def job_of(workflow_id: str) -> str:
    """Return the job of a delivery, given the id of its workflow."""
    return _parts(workflow_id)[1]


def job_in(workflow_id: str) -> str:
    """Return the job that a workflow is about: it is the job itself, or its delivery."""
    return job_of(workflow_id) if ":" in workflow_id else workflow_id


def destination_of(workflow_id: str) -> str:
    """Return the archive or webhook of a delivery, given the id of its workflow."""
    return _parts(workflow_id)[2]


def _parts(workflow_id: str) -> tuple[str, str, str, str]:
    """Return kind, job, destination and run; 0.1.0 wrote no run."""
    kind, job_id, destination, run = (*workflow_id.split(":", 3), "")[:4]
    return kind, job_id, destination, run


def _run_name(run: datetime | None) -> str:
    return run.astimezone(UTC).strftime("%Y%m%d%H%M%S%f") if run else "0"


def _start(run: str) -> str:
    return run.partition("-")[0]


def _view(workflow: WorkflowStatus) -> DeliveryView:
    kind, job_id, destination, _ = _parts(workflow.workflow_id)
    state = STATE_OF.get(workflow.status, JobState.FAILED)
    error = error_text(workflow) if state in (JobState.FAILED, JobState.CANCELLED) else ""
    # 0.1.0 kept no notes.
    notes = tuple(workflow.output.splitlines()) if isinstance(workflow.output, str) else ()
    return DeliveryView(
        destination, state, error, kind, job_id, _time(workflow.created_at), _time(workflow.completed_at), notes,
        workflow.workflow_id,
    )  # fmt: skip


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
