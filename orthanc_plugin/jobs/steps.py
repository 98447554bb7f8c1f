"""What a worker writes to the job database when a job begins and when it ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orthanc_plugin.domain.job import OPEN_STATES, Ending, EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.delivery import Delivery
from orthanc_plugin.jobs.engine import WITHDRAW
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary, summarise
from orthanc_plugin.jobs.withdrawal import withdrawals_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Steps:
    """The first and the last step of a job, on the queue that it came from.

    keep_superseded: results that newer ones supersede stay where they are.
    """

    queue: JobQueue
    keep_superseded: bool = False

    def begin(self, job_id: str) -> bool:
        """Write that the job runs; False if the job is no longer wanted."""
        return self.queue.ledger.start(job_id)

    def close(self, job: EnrichJob, job_id: str, outcomes: Sequence[StageOutcome]) -> None:
        """Queue deliveries and withdrawals, then write the end of the job."""
        end, summary = ending(outcomes), self._with_earlier(job_id, summarise(outcomes))
        if end.state is JobState.DONE:
            for destination in job.plan.destinations:
                delivery = Delivery(job.plan.home_archive, destination, summary.objects)
                self.queue.deliveries.add(job_id, destination, delivery.to_json())
        if end.reason == Refusal.GONE:  # deleting an instance makes no event, so what is left needs a hint
            hint = Hint(job.archive, job.study_instance_uid, job.series_instance_uid)
            self.queue.ledger.keep_note(hint.key, hint.to_json())
        if not self.keep_superseded:
            self._withdraw_outdated(job, job_id, end, summary)
        self.queue.ledger.end(job_id, end.state, end.reason, end.detail, summary)
        logger.info("job %s: %s %s", job_id, end.state, end.reason)

    def _with_earlier(self, job_id: str, summary: Summary) -> Summary:
        """Add the objects of an earlier run that a retry did not reach: they are in the archive all the same."""
        row = self.queue.ledger.of_job(job_id)
        known = {item.sop_instance_uid for item in summary.objects}
        earlier = row.summary.objects if row is not None else ()
        return replace(summary, objects=(*summary.objects, *(o for o in earlier if o.sop_instance_uid not in known)))

    def _withdraw_outdated(self, job: EnrichJob, job_id: str, end: Ending, summary: Summary) -> None:
        """Queue the withdrawal of earlier results that this job supersedes, or of its own if its source is gone."""
        rows = self.queue.ledger.of_series(job.archive, job.series_instance_uid)
        mine = next((row for row in rows if row.job_id == job_id), None)
        if end.reason == Refusal.GONE:
            outdated = [replace(mine, summary=summary)] if mine is not None else []
        elif end.state is JobState.DONE and mine is not None and not mine.superseded_by:
            outdated = [row for row in rows if row.superseded_by and row.state not in OPEN_STATES]
        else:
            return
        for row in outdated:
            for withdrawal in withdrawals_of(row):
                self.queue.deliveries.add(row.job_id, withdrawal.archive, withdrawal.to_json(), WITHDRAW)
