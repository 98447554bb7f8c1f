"""The queue: takes decisions with their jobs, and tells how the jobs go.

It is a client of the job engine (DBOS); the workers are other processes, see `worker`. The database holds JSON only.
One transaction writes a job and its row in the ledger. `deliveries` are workflows of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus, error
from sqlalchemy.exc import DBAPIError, IntegrityError

from orthanc_plugin.correlation import about
from orthanc_plugin.domain.job import OPEN_STATES, EnrichJob, JobState, Priority, StageOutcome
from orthanc_plugin.errors import EnrichError, TransientError
from orthanc_plugin.jobs.custody import Custody
from orthanc_plugin.jobs.database import make_database_file
from orthanc_plugin.jobs.deliveries import Deliveries, job_in
from orthanc_plugin.jobs.engine import (
    APPLICATION_VERSION,
    DELIVER,
    DELIVER_TO,
    ENRICH,
    NOTIFY,
    QUEUE_PRIORITY,
    STATE_OF,
    WAITS,
    error_text,
    run_again,
)
from orthanc_plugin.jobs.heartbeat import Heartbeats
from orthanc_plugin.jobs.ledger import Decision, Ledger
from orthanc_plugin.jobs.migrations import check_schema
from orthanc_plugin.jobs.record import JobView, Summary, summarise
from orthanc_plugin.jobs.search import Search
from orthanc_plugin.jobs.views import view_of, waits_for_backfill
from orthanc_plugin.jobs.withdrawal import Withdrawals

POLL_S = 1.0
PATIENT_POLL_S, OLD_POLL_S = 2.0, 15.0
"""An idle worker spends its time on polls. Nobody waits for a copy or a notice by the second, and only 0.1.0 filled the
old queue of deliveries."""
OLD_DELIVERIES_AT_ONCE = 2
MOST_LOOKED_AT = 200
"""Waiting workflows whose version one look checks; there may be a hundred thousand."""
MOST_ASKED_FOR = 1000
"""Workflows that one statement asks for by their ids."""
PAUSED = "paused"
"""The ledger's note that says that no worker takes a new job."""
HELD = "backfill-held"
"""The ledger's note that says why the jobs of backfills wait."""
STUCK_S = 120.0
"""A running job is stuck when no worker has said for so long that it works on it, unless the settings say otherwise."""

logger = logging.getLogger(__name__)


class JobQueue:
    """The job database as every process but the engine's workers sees it.

    Parameters
    ----------
    database_url : str
        Database of the ledger and the engine; missing tables are created.
    stuck_s : float
        Seconds without a sign of a worker until a running job counts as stuck.

    Raises
    ------
    ConfigError
        If a later release has changed the database.
    TransientError
        If the database cannot be opened.
    """

    def __init__(self, database_url: str, stuck_s: float = STUCK_S) -> None:
        self._stuck_s = stuck_s
        make_database_file(database_url)
        try:
            check_schema(database_url)
            DBOS.migrate(database_url)
            self.ledger = Ledger(database_url)
            self.heartbeats = Heartbeats(self.ledger.engine)
        except DBAPIError as failure:
            said = str(failure.orig).partition("\n")[0]  # the driver names host and user, never the password
            raise TransientError(f"the job database cannot be opened: {said}") from failure
        self._client = DBOSClient(system_database_url=database_url, serializer=DBOSPortableJSONSerializer())
        # The database holds the limits, and a worker needs them when it first asks for jobs.
        self._register_jobs()
        self._client.register_queue(DELIVER, worker_concurrency=OLD_DELIVERIES_AT_ONCE, polling_interval_sec=OLD_POLL_S)
        self._client.register_queue(DELIVER_TO, partition_worker_concurrency=1, polling_interval_sec=PATIENT_POLL_S)
        self._client.register_queue(NOTIFY, partition_worker_concurrency=1, polling_interval_sec=PATIENT_POLL_S)
        self.deliveries = Deliveries(self._client)
        self.withdrawals = Withdrawals(self.ledger, self.deliveries)
        self.custody = Custody(self._client, self.ledger, self._progress)

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
                    self._client.enqueue_in_transaction(
                        connection, _options(decision.job_id, decision.priority), job.to_json()
                    )
        except IntegrityError:
            return False
        self._client.cancel_workflows(list(superseded))
        return True

    def decide_again(self, decision: Decision, job: EnrichJob | None = None, *, cancelled_too: bool = False) -> bool:
        """Put a new decision in the place of the one on the same content; return whether that changed anything.

        A job of another plan takes the place of the old one and adopts what is stored. A job of the same plan runs
        again, unless it is done or open. A skip takes the place of another skip, and of a job that is not done: what is
        stored stays. A running job is left alone, and one that a person cancelled, unless `cancelled_too`.
        """
        rows = self.ledger.of_series(decision.archive, decision.series_instance_uid)
        old = next((row for row in rows if row.fingerprint == decision.fingerprint), None)
        if old is None or old.superseded_by or old.state is JobState.RUNNING:
            return False
        if old.state is JobState.CANCELLED and not cancelled_too:
            return False
        if job is not None and old.state is JobState.QUEUED:  # it keeps its place before the jobs of backfills
            decision = replace(decision, priority=min(old.priority, decision.priority, key=QUEUE_PRIORITY.__getitem__))
        if job is not None and old.job_id == decision.job_id:
            if old.state in (JobState.QUEUED, JobState.DONE):
                return False
            self.retry(old.job_id)
            return True
        if job is None and (
            old.state is JobState.DONE or (old.reason, old.detail) == (decision.reason, decision.detail)
        ):
            return False
        if not self.ledger.replace(old, decision):
            return False
        if old.job_id:
            self._client.cancel_workflow(old.job_id)
            self.deliveries.forget(old.job_id)
        if job is not None:
            self.deliveries.cancel_withdrawals(old.job_id)  # the new job adopts these objects
            self._run_again(decision)
        return True

    def hold_backfill(self, why: str) -> None:
        """Let the jobs of backfills wait as long as there is a reason why, or let workers take them again.

        The engine cannot delay what is queued already, so a job that waits is cancelled there and queued again later.
        """
        if not why:
            if self.ledger.note(HELD) is not None:
                self.ledger.drop_note(HELD)
                self.settle()
            return
        if self.ledger.note(HELD) != why:
            self.ledger.keep_note(HELD, why)
        if not self.ledger.queued_backfill():
            return
        queued = self.ledger.backfill_in_engine()
        for start in range(0, len(queued), MOST_ASKED_FOR):
            self._client.cancel_workflows(list(queued[start : start + MOST_ASKED_FOR]))

    def list(
        self, state: JobState | None = None, limit: int = 50, offset: int = 0, *, without_job: bool = False
    ) -> tuple[JobView, ...]:
        """Return the jobs as the ledger has them, newest first; `without_job`: also skips, which have no job."""
        search = Search(states=(state,) if state else (), jobs_only=not without_job)
        return self.views(self.ledger.decisions(search, limit=limit, offset=offset))

    def views(self, rows: Sequence[Decision]) -> tuple[JobView, ...]:
        """Return decisions as the ledger has them, with what waits for what, and which are stuck."""
        stuck = self.stuck() if any(row.state is JobState.RUNNING for row in rows) else frozenset()
        held = self._held(rows)
        return tuple(view_of(row, row.summary, stuck=row.job_id in stuck, waits_for=held(row)) for row in rows)

    def show(self, job_id: str) -> JobView:
        """Return a job with its stages so far and its deliveries; raise EnrichError if there is no such job."""
        row = self._row(job_id)
        deliveries = self.deliveries.of_job(row.job_id)
        if row.state is not JobState.RUNNING:
            return view_of(row, row.summary, deliveries=deliveries, waits_for=self._held([row])(row))
        stage = str(self._client.get_event(row.job_id, "stage", timeout_seconds=0.05) or "")
        waits_for = stage.removeprefix(WAITS) if stage.startswith(WAITS) else ""
        stage = "retrieve" if waits_for else stage
        return view_of(row, self._progress(row.job_id), stage, deliveries, row.job_id in self.stuck(), waits_for)

    def stuck(self) -> frozenset[str]:
        """Return the running jobs that no worker has said for a while to work on."""
        since = self.heartbeats.now() - timedelta(seconds=self._stuck_s)
        alive = [beat for beat in self.heartbeats.all().values() if beat.at > since]
        worked_on = {workflow_id for beat in alive for workflow_id in beat.works_on}
        running = (
            row
            for row in self.ledger.open_jobs(JobState.RUNNING)
            if row.started_at is not None and row.started_at < since
        )
        return frozenset(row.job_id for row in running if row.job_id not in worked_on)

    def job(self, job_id: str) -> EnrichJob:
        """Return what the worker was told; raise EnrichError if there is no such job."""
        return EnrichJob.from_json(self._row(job_id).argument)

    def retry(self, job_id: str) -> None:
        """Run a job again that ended, from its first step (it adopts what is stored already), or one that is stuck.

        Raises
        ------
        EnrichError
            If there is no such job, it is open and not stuck, or a newer one supersedes it.
        """
        row = self._row(job_id)
        self.custody.forget(row.job_id)
        if row.state is JobState.RUNNING and row.job_id in self.stuck():
            self.custody.resume(row.job_id)
            return
        if row.superseded_by:
            raise EnrichError(f"job {row.job_id} is superseded: a newer job has the series")
        if row.state not in OPEN_STATES:
            self._await_end(row.job_id)
        self.deliveries.cancel_withdrawals(row.job_id)
        if not self.ledger.reopen(row.job_id):
            raise EnrichError(f"job {row.job_id} is {row.state}; only a job that ended or is stuck can be retried")
        try:
            self._run_again(row)
        except (error.DBOSException, DBAPIError):
            self.ledger.end(row.job_id, row.state, row.reason, row.detail)  # else it would wait for nothing
            raise
        self.deliveries.retry_failed(row.job_id)

    def retry_all(self, reason: str, text: str = "") -> tuple[str, ...]:
        """Run every job again that ended for a reason and was not superseded.

        Parameters
        ----------
        reason : str
            The reason in the ledger: `failed`, `cancelled`, or the code of a skip.
        text : str
            Only jobs whose error contains this text.
        """
        ended = self.ledger.ended_for(reason, text)
        for job_id in ended:
            self.retry(job_id)
        return ended

    def cancel(self, job_id: str) -> None:
        """End an open job; its worker gives up the stage that runs.

        Raises
        ------
        EnrichError
            If there is no such job, or it has ended.
        """
        row = self._row(job_id)
        so_far = self._progress(row.job_id)
        if not self.ledger.end(row.job_id, JobState.CANCELLED, "cancelled", "cancelled by a person", so_far):
            raise EnrichError(f"job {row.job_id} is {row.state}; only an open job can be cancelled")
        self._client.cancel_workflow(row.job_id)

    def prioritise(self, job_id: str, priority: Priority) -> None:
        """Let a job that waits be taken up sooner or later.

        The engine keeps the priority with which it queued a job, so the job is queued anew. If this process dies in
        between, `settle` queues it.

        Raises
        ------
        EnrichError
            If there is no such job, or it does not wait.
        """
        row = self._row(job_id)
        if not self.ledger.prioritise(row.job_id, priority):
            raise EnrichError(f"job {row.job_id} is {row.state}; only a job that waits has a priority")
        known = self._known([row.job_id]).get(row.job_id)
        if known is not None and known.status not in ("ENQUEUED", "DELAYED", "CANCELLED"):
            return  # a worker has just taken it
        if known is not None:
            self._client.cancel_workflow(row.job_id)
            self._client.delete_workflow(row.job_id)
        self._client.enqueue(_options(row.job_id, priority), row.argument)

    def cancelled(self, workflow_ids: frozenset[str]) -> frozenset[str]:
        """Return those of these workflows that are cancelled."""
        if not workflow_ids:
            return frozenset()
        found = self._client.list_workflows(workflow_ids=[*workflow_ids], status="CANCELLED", load_input=False)
        return frozenset(workflow.workflow_id for workflow in found)

    @property
    def paused(self) -> bool:
        """Whether workers take no new job."""
        return self.ledger.note(PAUSED) is not None

    def pause(self, paused: bool) -> None:
        """Let workers take no new job, or let them take jobs again. Running jobs and deliveries go on."""
        if paused:
            self.ledger.keep_note(PAUSED, "yes")
        else:
            self.ledger.drop_note(PAUSED)
        self._register_jobs()

    def put_back(self, job_id: str, why: str) -> None:
        """Let a running job wait again; `settle` queues it, and meanwhile its worker takes the next job."""
        if self.ledger.put_back(job_id):  # otherwise a person cancelled it meanwhile
            self._client.cancel_workflow(job_id)
            with about(job=job_id):
                logger.warning("job %s goes back to the queue: %s", job_id, why)

    def withdraw(self, job_id: str, reason: str, detail: str) -> bool:
        """Skip a job that no worker has begun; return False if one has."""
        if not self.ledger.withdraw(job_id, reason, detail):
            return False
        self._client.cancel_workflow(job_id)
        return True

    def settle(self) -> tuple[Decision, ...]:
        """Bring the ledger and the engine together, and return the jobs that thereby failed.

        Jobs that the engine ended without their worker end in the ledger, too. Jobs that the engine lost, or that
        `adopt` did not queue again before its process died, are queued again.
        """
        failed: list[Decision] = []
        held = self.ledger.note(HELD) is not None
        rows = {row.job_id: row for row in self.ledger.unsettled(held=held)}
        known = self._known([*rows])
        for job_id, row in rows.items():
            workflow = known.get(job_id)
            if held and row.priority is Priority.BACKFILL and workflow is not None and workflow.status == "CANCELLED":
                self.ledger.put_back(job_id)  # a worker began it while it was cancelled
            elif workflow is None or workflow.status == "CANCELLED":
                self._run_again(row)
            elif STATE_OF.get(workflow.status) in OPEN_STATES:
                continue
            elif self.ledger.end(job_id, JobState.FAILED, "failed", error_text(workflow), self._progress(job_id)):
                with about(job=job_id):
                    logger.warning("job %s ended as %s", job_id, workflow.status)
                failed.append(self._row(job_id))
        return tuple(failed)

    def adopt(self, living: frozenset[str]) -> int:
        """Queue the waiting workflows of other versions under this one, and say how many there were.

        Parameters
        ----------
        living : frozenset of str
            Versions that have a living worker; their workflows stay with them.
        """
        # Oldest first: those of an earlier version come before ours, and the window moves on as workers take jobs.
        waiting = self._client.list_workflows(
            status=["ENQUEUED", "DELAYED"], limit=MOST_LOOKED_AT, sort_desc=False, load_input=False
        )
        others = [w for w in waiting if w.app_version not in (None, APPLICATION_VERSION, *living)]
        for workflow in others:
            self._client.cancel_workflow(workflow.workflow_id)
            line = (workflow.queue_name or ENRICH, workflow.queue_partition_key)
            run_again(self._client, workflow.workflow_id, *line)
            with about(job=job_in(workflow.workflow_id)):
                logger.info("workflow %s of version %s begins anew", workflow.workflow_id, workflow.app_version)
        return len(others)

    def _register_jobs(self) -> None:
        at_once = 0 if self.paused else 1
        self._client.register_queue(ENRICH, worker_concurrency=at_once, polling_interval_sec=POLL_S)

    def _held(self, rows: Sequence[Decision]) -> Callable[[Decision], str]:
        """Return what tells what a waiting job waits for, beside its turn."""
        if not any(row.state is JobState.QUEUED for row in rows):
            return lambda row: ""
        paused, held = "a person who resumes the queue" if self.paused else "", self.ledger.note(HELD) or ""
        return lambda row: (paused or (held if waits_for_backfill(row) else "")) if row.state is JobState.QUEUED else ""

    def _known(self, job_ids: Sequence[str]) -> Mapping[str, WorkflowStatus]:
        """Return the workflows of many jobs: PostgreSQL takes at most 65,535 parameters in one statement."""
        parts = (job_ids[start : start + MOST_ASKED_FOR] for start in range(0, len(job_ids), MOST_ASKED_FOR))
        found = (self._client.list_workflows(workflow_ids=[*part], load_input=False) for part in parts)
        return {workflow.workflow_id: workflow for some in found for workflow in some}

    def _row(self, job_id: str) -> Decision:
        row = self.ledger.of_job(job_id)
        if row is None:
            raise EnrichError(f"there is no job {job_id}")
        return row

    def _await_end(self, job_id: str) -> None:
        """Wait a moment for the engine: a job ends in the ledger first, and the engine retries only what ended."""
        for _ in range(50):
            if not self._client.list_workflows(workflow_ids=[job_id], status=["PENDING"], load_input=False):
                return
            time.sleep(0.1)
        raise EnrichError(f"the worker of job {job_id} still ends it; retry the job later")

    def _run_again(self, row: Decision) -> None:
        if self._client.list_workflows(workflow_ids=[row.job_id], load_input=False):
            run_again(self._client, row.job_id, ENRICH)
        else:
            self._client.enqueue(_options(row.job_id, row.priority), row.argument)

    def _progress(self, job_id: str) -> Summary:
        steps = self._client.list_workflow_steps(job_id)
        outcomes = [StageOutcome.from_json(step["output"]) for step in steps if isinstance(step["output"], str)]
        return summarise(outcomes)


def _options(job_id: str, priority: Priority) -> EnqueueOptions:
    return {
        "queue_name": ENRICH,
        "workflow_name": ENRICH,
        "workflow_id": job_id,
        "app_version": APPLICATION_VERSION,
        "priority": QUEUE_PRIORITY[priority],
    }
