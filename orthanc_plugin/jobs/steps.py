"""What a worker writes to the job database when a job begins and when it ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orthanc_plugin.domain.job import OPEN_STATES, EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.delivery import Delivery
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary, summarise, with_earlier, without_masks
from orthanc_plugin.jobs.webhooks import Webhooks
from orthanc_plugin.jobs.withdrawal import outdated_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Steps:
    """The first and the last step of a job, on the queue that it came from.

    keep_superseded: results that newer ones supersede stay where they are.
    webhooks: who is told how a job ended.
    keep_without_source: reports on masks that were deleted stay, too.
    """

    queue: JobQueue
    keep_superseded: bool = False
    webhooks: Webhooks = field(default=Webhooks())
    keep_without_source: bool = False

    def begin(self, job_id: str) -> bool:
        """Write that the job runs; False if the job is no longer wanted."""
        return self.queue.ledger.start(job_id)

    def close(self, job: EnrichJob, job_id: str, outcomes: Sequence[StageOutcome]) -> None:
        """Queue the deliveries, write the end of the job, and queue the withdrawal of what no longer counts.

        The engine runs this step again after a crash, so it does nothing twice.
        """
        row = self.queue.ledger.of_job(job_id)
        end, made = ending(outcomes), summarise(outcomes)
        if row is not None and not self.keep_without_source:
            row = self._without_masks(row, made)
        summary = with_earlier(made, row.summary) if row is not None else made
        if left := len(summary.objects) - len(made.objects):
            logger.warning(
                "job %s: %d objects of earlier runs or of an earlier plan stay; it does not make them", job_id, left
            )
        if end.state is JobState.DONE and not (row and row.state is JobState.CANCELLED):
            for destination in job.plan.destinations:
                delivery = Delivery(job.plan.home_archive, destination, made.objects)
                self.queue.deliveries.add(job_id, destination, delivery.to_json(), run=row.started_at if row else None)
        if end.reason == Refusal.GONE:  # deleting an instance makes no event, so what is left needs a hint
            hint = Hint(job.archive, job.study_instance_uid, job.series_instance_uid)
            self.queue.ledger.keep_note(hint.key, hint.to_json())
        if row is None:
            return
        state = end.state if row.state in OPEN_STATES else row.state  # a person may have cancelled it meanwhile
        ended = replace(row, state=state, reason=end.reason, summary=summary)
        self._withdraw_outdated(ended)
        self.queue.ledger.end(job_id, end.state, end.reason, end.detail, summary)
        self._withdraw_outdated(ended)  # of two jobs on one series that end at once, the later one sees both ends
        self.webhooks.tell(self.queue.deliveries, replace(ended, detail=end.detail))
        logger.info("job %s: %s %s", job_id, end.state, end.reason)

    def _without_masks(self, row: Decision, made: Summary) -> Decision:
        """Withdraw the reports on masks that are gone, and return the row without them."""
        gone = without_masks(row.summary, made)
        self.queue.withdrawals.of_masks(row, gone)
        kept = tuple(item for item in row.summary.objects if item not in gone)
        return replace(row, summary=replace(row.summary, objects=kept))

    def _withdraw_outdated(self, ended: Decision) -> None:
        """Queue the withdrawal of results of the series that newer ones supersede, and of its own if it is gone."""
        if self.keep_superseded:
            return
        others = self.queue.ledger.of_series(ended.archive, ended.series_instance_uid)
        rows = tuple(
            replace(ended, superseded_by=row.superseded_by) if row.job_id == ended.job_id else row for row in others
        )
        gone = [row for row in rows if row.job_id == ended.job_id and ended.reason == Refusal.GONE]
        for row in (*gone, *outdated_of(rows)):
            self.queue.withdrawals.add(row)
