"""The workflows: the steps of a job and of a delivery, and which of them are tried again.

After a crash the engine replays a workflow: it runs the interrupted step again, and no step that is recorded. The body
is therefore deterministic, without clock and without I/O outside its steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import sqlalchemy as sa
from dbos import DBOS, StepOptions

from orthanc_plugin.correlation import about
from orthanc_plugin.domain.job import EnrichJob, Found, JobState, StageOutcome, ending
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.errors import EnrichError, Refusal, StoreError, TransientError
from orthanc_plugin.identity import digest
from orthanc_plugin.jobs.deleted import OTHER_ORTHANC, is_other_index
from orthanc_plugin.jobs.deliveries import destination_of, job_in, job_of
from orthanc_plugin.jobs.delivery import Copied, Delivery, copy_objects
from orthanc_plugin.jobs.engine import AGAIN, DELIVER, ENRICH, NOTIFY, WAITS, WITHDRAW
from orthanc_plugin.jobs.heartbeat import AtWork
from orthanc_plugin.jobs.memory import NoRoomError
from orthanc_plugin.jobs.sessions import Sessions
from orthanc_plugin.jobs.stage import run_stage
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.webhooks import Notice, send
from orthanc_plugin.jobs.withdrawal import Withdrawal, withdraw
from orthanc_plugin.logs import describe
from orthanc_plugin.pipeline.order import stages_of
from orthanc_plugin.results.kinds import reference_of

SHORT_SLEEP_S = 0.5
UNCLEAR_TRIES = 4
"""Tries, over 35 s, until an archive is believed not to support what it refuses without saying so."""
MAX_RECOVERY_ATTEMPTS = 2
"""Further runs of a job that kills its worker: it ends after three runs (the default of the engine is 100)."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a step is tried, and the wait before the second try; each further wait is twice as long.

    With the defaults, a job survives an archive that is away for about ten minutes (5 + 10 + ... + 320 s).
    """

    tries: int = 8
    first_wait_s: float = 5.0

    def pause(self, tries: int) -> None:
        """Wait before a try, the first being 1; in short sleeps, between which a cancelled job can be interrupted."""
        until = time.monotonic() + (self.first_wait_s * 2 ** (tries - 2) if tries > 1 else 0.0)
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SHORT_SLEEP_S))


class AbandonedError(BaseException):
    """The database refused what a workflow must record.

    The engine records every `Exception` as the end of the workflow. This one leaves it open, and the watch of the
    worker resumes it at the first step that is not recorded.
    """


def register_workflows(sessions: Sessions, steps: Steps, retries: Retries, at_work: AtWork | None = None) -> None:
    """Register the workflows with the engine: once in a process, before the engine launches."""
    working = at_work or AtWork()

    @DBOS.workflow(name=ENRICH, max_recovery_attempts=MAX_RECOVERY_ATTEMPTS)
    def enrich(argument: str) -> str:
        with _at_work(working):
            try:
                return run_job(sessions, steps, EnrichJob.from_json(argument), retries)
            except NoRoomError as reason:
                steps.queue.put_back(str(DBOS.workflow_id), str(reason))
                raise
            finally:
                with suppress(sa.exc.DBAPIError):  # the next job of this worker ends the promise, too
                    sessions.leave()

    @DBOS.workflow(name=WITHDRAW, max_recovery_attempts=MAX_RECOVERY_ATTEMPTS)
    def withdraw_results(argument: str) -> str:
        body = partial(_withdrawn, sessions, Withdrawal.from_json(argument), steps, str(DBOS.workflow_id))
        with _at_work(working):
            return _need(_step(retries, WITHDRAW, body), steps)

    @DBOS.workflow(name=DELIVER, max_recovery_attempts=MAX_RECOVERY_ATTEMPTS)
    def deliver(argument: str) -> str:
        with _at_work(working):
            body = partial(_copied, sessions, Delivery.from_json(argument), steps, str(DBOS.workflow_id), retries)
            return _need(_step(retries, DELIVER, body), steps)

    @DBOS.workflow(name=NOTIFY, max_recovery_attempts=MAX_RECOVERY_ATTEMPTS)
    def notify(argument: str) -> str:
        body = partial(_notified, sessions, Notice.from_json(argument), str(DBOS.workflow_id))
        with _at_work(working):
            return _need(_step(retries, NOTIFY, body))


def _need(outcome: StageOutcome, steps: Steps | None = None) -> str:
    """Return what a delivery did, one note a line; tell the webhooks if it failed at last."""
    if outcome.state is not JobState.RUNNING:
        if steps is not None:
            _tell_failure(steps, str(DBOS.workflow_id), outcome.detail)
        raise EnrichError(outcome.detail)  # the engine keeps it as the error of the delivery
    return "\n".join(outcome.stage.notes)


def _tell_failure(steps: Steps, workflow_id: str, detail: str) -> None:
    row = steps.queue.ledger.of_job(job_of(workflow_id))
    if row is not None:
        steps.webhooks.delivery_failed(steps.queue.deliveries, row, destination_of(workflow_id), detail)


def _notified(sessions: Sessions, notice: Notice, workflow_id: str) -> Found:
    name = destination_of(workflow_id)
    said = send(sessions.configuration.webhooks, name, digest(workflow_id), notice, sessions.clock())
    return Found(notes=(f"{notice.event}: {said}",))


@contextmanager
def _at_work(at_work: AtWork) -> Iterator[None]:
    """Count the workflow as worked on, and leave it open if the database fails."""
    workflow_id = str(DBOS.workflow_id)
    with at_work.on(workflow_id), about(job=job_in(workflow_id)):
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise AbandonedError from error


def _withdrawn(sessions: Sessions, withdrawal: Withdrawal, steps: Steps, workflow_id: str) -> Found:
    archive, series = sessions.archives.get(withdrawal.archive), withdrawal.unless_series
    row = steps.queue.ledger.of_job(job_of(workflow_id))
    feed = sessions.feeds.get(row.archive) if row and row.reason == Refusal.GONE else None
    if row and feed is not None and is_other_index(row.archive, feed.index(), steps.queue.ledger):
        raise EnrichError(f"nothing withdrawn; archive {row.archive}: {OTHER_ORTHANC}, then retry the withdrawal")
    if withdrawal.of_masks:
        others = steps.queue.ledger.named_elsewhere(job_of(workflow_id), withdrawal.archive)
        kept = tuple(item for item in withdrawal.objects if item.sop_instance_uid not in others)
        withdrawal = replace(withdrawal, objects=kept)
    elif steps.queue.ledger.still_counts(job_of(workflow_id), withdrawal.archive):
        return Found(notes=("nothing withdrawn: the results are valid again, or those of another job, too",))
    if series and archive is not None and archive.same_series_studies(series):
        return Found(notes=("nothing withdrawn: this archive holds the series",))
    return Found(notes=(f"{withdraw(sessions.removals, withdrawal, sessions.rejecting)} objects withdrawn",))


def _copied(sessions: Sessions, delivery: Delivery, steps: Steps, workflow_id: str, retries: Retries) -> Found:
    """Copy the results; take the copies back if a withdrawal was queued meanwhile, which may have run before."""
    is_outdated = partial(steps.queue.deliveries.is_outdated, workflow_id)
    names, job_id = steps.queue.ledger, job_of(workflow_id)
    settings = sessions.configuration.archives.get(delivery.destination)
    fallbacks = settings.fallback if settings else ()
    copied = Copied()
    if not is_outdated():
        copied = copy_objects(
            sessions.archives,
            delivery,
            fallbacks,
            lambda ds: names.add_substitute(job_id, reference_of(ds)),
            believes=_tries() >= min(UNCLEAR_TRIES, retries.tries),
        )
    row = names.of_job(job_id)
    instead = row.summary.instead if row else ()
    if is_outdated():
        withdrawal = Withdrawal(delivery.destination, (*delivery.objects, *instead))
        return _withdrawn(sessions, withdrawal, steps, workflow_id)
    return Found(notes=(*copied.notes, *_tidied(sessions, delivery, copied, instead)))


def _tidied(
    sessions: Sessions, delivery: Delivery, copied: Copied, instead: tuple[StoredObject, ...]
) -> tuple[str, ...]:
    """Withdraw what an earlier try left in another form: originals beside substitutes, or substitutes beside them."""
    now = set(copied.instead.values())
    other = (
        *(item for item in delivery.objects if item.sop_instance_uid in copied.not_sent),
        *(item for item in instead if item.sop_instance_uid not in now),
    )
    holds = sessions.archives[delivery.destination].holds
    left = tuple(o for o in other if holds(o.study_instance_uid, o.series_instance_uid, o.sop_instance_uid))
    if not left:
        return ()
    try:
        count = withdraw(sessions.removals, Withdrawal(delivery.destination, left), sessions.rejecting)
    except TransientError:
        raise
    except EnrichError as error:
        return (f"sent earlier in another form, and still there: {error}",)
    return (f"{count} objects withdrawn that were sent earlier in another form",)


def run_job(sessions: Sessions, steps: Steps, job: EnrichJob, retries: Retries) -> str:
    """Run the steps of one job and return the state in which it ended."""
    job_id = str(DBOS.workflow_id)
    with about(series=job.series_instance_uid, archive=job.archive):
        if not DBOS.run_step(_options("begin", retries), steps.begin, job_id):
            return JobState.SUPERSEDED
        with closing(sessions.open(job, steps.queue.custody.deaths(job_id))) as session:
            outcomes = list(stages_of(session, partial(_step, retries)))
        DBOS.run_step(_options("close", retries), steps.close, job, job_id, outcomes)
        return ending(outcomes).state


def tell_wait(waits_for: str) -> None:
    """Say what the running stage waits for, beside its work; an empty text ends the wait. Call it inside a step."""
    DBOS.set_event("stage", f"{WAITS}{waits_for}" if waits_for else "retrieve")


def _step(retries: Retries, name: str, body: Callable[[], Found]) -> StageOutcome:
    """Run one stage as a step of the engine."""

    def attempt() -> str:
        tries = min(_tries(), retries.tries)
        retries.pause(tries)
        DBOS.set_event("stage", name)
        try:
            return run_stage(name, body, last_try=tries >= retries.tries).to_json()
        except (TransientError, StoreError) as error:
            DBOS.set_event(
                "stage", f"{WAITS}{AGAIN}{tries + 1} of {retries.tries} of {name}, because {describe(error)}"
            )
            raise

    return StageOutcome.from_json(DBOS.run_step(_options(name, replace(retries, first_wait_s=0.0)), attempt))


def _tries() -> int:
    """Return which try of the running step this is, from 1 on; a very large number outside a step."""
    status = DBOS.step_status
    return (status.current_attempt or 0) + 1 if status is not None else sys.maxsize


def _options(name: str, retries: Retries) -> StepOptions:
    return {
        "name": name,
        "should_retry": _worth_another_try,
        "retries_allowed": True,
        "max_attempts": retries.tries,
        "interval_seconds": retries.first_wait_s,
        "backoff_rate": 2.0,
    }


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, (TransientError, StoreError, sa.exc.DBAPIError))
