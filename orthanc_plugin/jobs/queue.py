"""The queue: takes decisions with their jobs, and tells how the jobs go.

It is a client of the job engine (DBOS); the workers are other processes, see `worker`. The database holds JSON only.
One transaction writes a job and its row in the ledger. The names and the version that DBOS records are declared here.
"""

from __future__ import annotations

import logging

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus
from sqlalchemy.exc import DBAPIError, IntegrityError

from orthanc_plugin.domain.job import OPEN_STATES, EnrichJob, JobState, StageOutcome
from orthanc_plugin.errors import EnrichError, TransientError
from orthanc_plugin.jobs.heartbeat import Heartbeats
from orthanc_plugin.jobs.ledger import Decision, Ledger, make_database_file
from orthanc_plugin.jobs.record import DeliveryView, JobView, Summary, summarise

APPLICATION_NAME = "enrich"
APPLICATION_VERSION = "steps-1"
"""Raise it when the steps of the workflow change: a worker resumes only jobs of its own version."""
ENRICH, DELIVER = "enrich", "deliver"
"""Names of the two workflows, and of their queues."""
POLL_S = 1.0
DELIVERIES_AT_ONCE = 2
MOST_TAKE_OVERS = 2
"""Take-overs of one workflow: after three dead workers it ends, as after three crashes of one worker."""
TAKEN_OVER = "taken-over:"
"""Prefix of the ledger's notes that count take-overs."""
NO_WORKER_SURVIVED = "the worker died each time it ran this job"

_STATES = {
    "ENQUEUED": JobState.QUEUED,
    "DELAYED": JobState.QUEUED,
    "PENDING": JobState.RUNNING,
    "SUCCESS": JobState.DONE,
}
logger = logging.getLogger(__name__)


class JobQueue:
    """The job database as every process but the engine's workers sees it.

    Parameters
    ----------
    database_url : str
        Database of the ledger and the engine; missing tables are created.

    Raises
    ------
    TransientError
        If the database cannot be opened.
    """

    version = APPLICATION_VERSION

    def __init__(self, database_url: str) -> None:
        make_database_file(database_url)
        try:
            DBOS.migrate(database_url)
            self.ledger = Ledger(database_url)
            self.heartbeats = Heartbeats(self.ledger.engine)
        except DBAPIError as error:
            said = str(error.orig).partition("\n")[0]  # the driver names host and user, never the password
            raise TransientError(f"the job database cannot be opened: {said}") from error
        self._client = DBOSClient(system_database_url=database_url, serializer=DBOSPortableJSONSerializer())
        # The database holds the limits, and a worker needs them when it first asks for jobs.
        self._client.register_queue(ENRICH, worker_concurrency=1, polling_interval_sec=POLL_S)
        self._client.register_queue(DELIVER, worker_concurrency=DELIVERIES_AT_ONCE, polling_interval_sec=POLL_S)

    def close(self) -> None:
        """Close the connections."""
        self._client.destroy()
        self.ledger.close()

    def enqueue(self, decision: Decision, job: EnrichJob | None = None) -> bool:
        """Write a decision and its job, if it has one; supersede the earlier decisions on the series.

        Returns
        -------
        bool
            False if this content was decided on before; nothing is written then.
        """
        try:
            with self.ledger.begin() as connection:
                self.ledger.add(connection, decision)
                superseded = self.ledger.supersede(connection, decision)
                if job is not None:
                    self._client.enqueue_in_transaction(connection, _options(ENRICH, decision.job_id), job.to_json())
        except IntegrityError:
            return False
        self._client.cancel_workflows(list(superseded))
        return True

    def list(
        self, state: str | None = None, limit: int = 50, offset: int = 0, *, without_job: bool = False
    ) -> tuple[JobView, ...]:
        """Return the jobs as the ledger has them, newest first; `without_job`: also skips, which have no job."""
        rows = self.ledger.decisions(state=state, jobs_only=not without_job, limit=limit, offset=offset)
        return tuple(_view(row, row.summary) for row in rows)

    def show(self, job_id: str) -> JobView:
        """Return a job with its stages so far and its deliveries; raise EnrichError if there is no such job."""
        row = self._row(job_id)
        deliveries = tuple(
            DeliveryView(w.workflow_id.rpartition(":")[2], _STATES.get(w.status, JobState.FAILED), _delivery_error(w))
            for w in self._client.list_workflows(workflow_id_prefix=f"{DELIVER}:{row.job_id}:")
        )
        if row.state is not JobState.RUNNING:
            return _view(row, row.summary, deliveries=deliveries)
        stage = self._client.get_event(row.job_id, "stage", timeout_seconds=0.05) or ""
        return _view(row, self._progress(row.job_id), str(stage), deliveries)

    def job(self, job_id: str) -> EnrichJob:
        """Return what the worker was told; raise EnrichError if there is no such job."""
        return EnrichJob.from_json(self._row(job_id).argument)

    def retry(self, job_id: str) -> None:
        """Run a job that ended again, from its first step; it adopts what is stored already.

        Raises
        ------
        EnrichError
            If there is no such job, or it has not ended.
        """
        row = self._row(job_id)
        self.ledger.drop_note(f"{TAKEN_OVER}{row.job_id}")
        if not self.ledger.reopen(row.job_id):
            raise EnrichError(f"job {row.job_id} is {row.state}; only a job that ended can be retried")
        self._run_again(ENRICH, row.job_id, row.argument)
        for delivery in self._client.list_workflows(workflow_id_prefix=f"{DELIVER}:{row.job_id}:", status="ERROR"):
            self._client.rewind_workflow(delivery.workflow_id, queue_name=DELIVER)

    def cancel(self, job_id: str) -> None:
        """End an open job after the stage that runs now; raise EnrichError if there is no such job."""
        row = self._row(job_id)
        self._client.cancel_workflow(row.job_id)
        self.ledger.end(row.job_id, JobState.FAILED, "cancelled", "cancelled by a person")

    def withdraw(self, job_id: str, reason: str, detail: str) -> bool:
        """Skip a job that no worker has begun; return False if one has."""
        if not self.ledger.withdraw(job_id, reason, detail):
            return False
        self._client.cancel_workflow(job_id)
        return True

    def deliver(self, job_id: str, destination: str, argument: str) -> None:
        """Queue the copy of a job's results to one destination; further calls for the same copy do nothing."""
        self._client.enqueue(_options(DELIVER, f"{DELIVER}:{job_id}:{destination}"), argument)

    def resume_dead(self, executor_id: str) -> int:
        """Return the jobs of a worker that is gone for good to the queue, and say how many there were.

        A worker that starts again under the same executor id takes up its jobs by itself.
        """
        jobs = self._client.list_workflows(status="PENDING", executor_id=executor_id, load_input=False)
        for job in jobs:
            self._client.resume_workflow(job.workflow_id, queue_name=job.queue_name or ENRICH)
        return len(jobs)

    def held_by(self, executor_id: str) -> frozenset[str]:
        """Return the workflows that the engine counts as running on a worker."""
        held = self._client.list_workflows(status="PENDING", executor_id=executor_id, load_input=False)
        return frozenset(workflow.workflow_id for workflow in held)

    def holders(self) -> frozenset[str]:
        """Return the workers on which the engine counts a workflow as running."""
        running = self._client.list_workflows(status="PENDING", load_input=False)
        return frozenset(workflow.executor_id for workflow in running if workflow.executor_id)

    def resume(self, workflow_id: str) -> None:
        """Return a running workflow to its queue; recorded steps are kept."""
        for workflow in self._client.list_workflows(workflow_ids=[workflow_id], status="PENDING", load_input=False):
            self._client.resume_workflow(workflow_id, queue_name=workflow.queue_name or ENRICH)

    def take_over(self, executor_id: str) -> int:
        """Return the workflows of a dead worker to the queue, and say how many there were.

        A workflow that several workers in a row did not survive ends here: `settle` writes that it failed.
        """
        held = self.held_by(executor_id)
        for workflow_id in held:
            key = f"{TAKEN_OVER}{workflow_id}"
            times = int(self.ledger.note(key) or 0) + 1
            if times > MOST_TAKE_OVERS:
                self.ledger.end(workflow_id, JobState.FAILED, "failed", NO_WORKER_SURVIVED)
                self._client.cancel_workflow(workflow_id)
            else:
                self.ledger.keep_note(key, str(times))
                self.resume(workflow_id)
        return len(held)

    def settle(self) -> None:
        """End jobs in the ledger that the engine ended without their worker: cancelled or poisonous ones."""
        rows = {row.job_id: row for row in self.ledger.open_jobs()}
        if not rows:
            return
        for workflow in self._client.list_workflows(workflow_ids=[*rows], load_input=False):
            if _STATES.get(workflow.status) in OPEN_STATES:
                continue
            if self.ledger.end(workflow.workflow_id, JobState.FAILED, "failed", _error_text(workflow)):
                logger.warning("job %s ended as %s", workflow.workflow_id, workflow.status)

    def _row(self, job_id: str) -> Decision:
        row = self.ledger.of_job(job_id)
        if row is None:
            raise EnrichError(f"there is no job {job_id}")
        return row

    def _run_again(self, workflow: str, workflow_id: str, argument: str) -> None:
        if self._client.list_workflows(workflow_ids=[workflow_id], load_input=False):
            self._client.rewind_workflow(workflow_id, queue_name=workflow, application_version=APPLICATION_VERSION)
        else:
            self._client.enqueue(_options(workflow, workflow_id), argument)

    def _progress(self, job_id: str) -> Summary:
        steps = self._client.list_workflow_steps(job_id)
        outcomes = [StageOutcome.from_json(step["output"]) for step in steps if isinstance(step["output"], str)]
        return summarise(outcomes)


def _options(workflow: str, workflow_id: str) -> EnqueueOptions:
    return {
        "queue_name": workflow,
        "workflow_name": workflow,
        "workflow_id": workflow_id,
        "app_version": APPLICATION_VERSION,
    }


def _delivery_error(workflow: WorkflowStatus) -> str:
    return _error_text(workflow) if _STATES.get(workflow.status) is None else ""


def _error_text(workflow: WorkflowStatus) -> str:
    if workflow.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return NO_WORKER_SURVIVED
    if workflow.status == "CANCELLED":
        return "cancelled"
    if workflow.status == "SUCCESS":
        return "the retry did not begin; retry the job again"
    return str(workflow.error) if workflow.error is not None else ""


def _view(row: Decision, summary: Summary, stage: str = "", deliveries: tuple[DeliveryView, ...] = ()) -> JobView:
    error = "" if row.state in OPEN_STATES else row.detail or row.reason
    return JobView(
        row.job_id, row.state, row.archive, row.study_instance_uid, row.series_instance_uid, row.rule,
        row.first_seen, row.started_at, row.ended_at, error, summary.stages, summary.objects, stage, deliveries,
    )  # fmt: skip
