"""Custody: which worker the engine counts a workflow on, and what becomes of it when that worker is gone."""

from __future__ import annotations

from collections.abc import Callable

from dbos import DBOSClient

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.engine import ENRICH, NO_WORKER_SURVIVED
from orthanc_plugin.jobs.ledger import Ledger
from orthanc_plugin.jobs.record import Summary

MOST_TAKE_OVERS = 2
"""Take-overs of one workflow: after three dead workers it ends, as after three crashes of one worker."""
_TAKEN_OVER = "taken-over:"
"""Prefix of the ledger's notes that count take-overs."""


class Custody:
    """Returns the workflows of dead workers to their queues.

    Parameters
    ----------
    client : DBOSClient
        Client of the job engine.
    ledger : Ledger
        Counts the take-overs.
    progress : callable
        What a job has done so far.
    """

    def __init__(self, client: DBOSClient, ledger: Ledger, progress: Callable[[str], Summary]) -> None:
        self._client, self._ledger, self._progress = client, ledger, progress

    def forget(self, workflow_id: str) -> None:
        """Begin to count take-overs anew: a person asks for another try."""
        self._ledger.drop_note(f"{_TAKEN_OVER}{workflow_id}")

    def resume_dead(self, executor_id: str) -> int:
        """Return the jobs of a worker that is gone for good to the queue, and say how many there were.

        A worker that starts again under the same executor id takes up its jobs by itself.
        """
        jobs = self._client.list_workflows(status="PENDING", executor_id=executor_id, load_input=False)
        for job in jobs:
            self._client.resume_workflow(job.workflow_id, queue_name=job.queue_name or ENRICH)
        return len(jobs)

    def deaths(self, job_id: str) -> int:
        """Count the workers that died while they ran a job; one that was told to stop does not count."""
        found = self._client.list_workflows(workflow_ids=[job_id], load_input=False)
        recovered = sum(max(0, (workflow.recovery_attempts or 0) - 1) for workflow in found)
        return recovered + int(self._ledger.note(f"{_TAKEN_OVER}{job_id}") or 0)

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
            key = f"{_TAKEN_OVER}{workflow_id}"
            times = int(self._ledger.note(key) or 0) + 1
            if times > MOST_TAKE_OVERS:
                so_far = self._progress(workflow_id)
                self._ledger.end(workflow_id, JobState.FAILED, "failed", NO_WORKER_SURVIVED, so_far)
                self._client.cancel_workflow(workflow_id)
            else:
                self._ledger.keep_note(key, str(times))
                self.resume(workflow_id)
        return len(held)
