"""What a worker writes to the job database when a job begins and when it ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.delivery import Delivery
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import summarise

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Steps:
    """The first and the last step of a job, on the queue that it came from."""

    queue: JobQueue

    def begin(self, job_id: str) -> bool:
        """Write that the job runs; False if the job is no longer wanted."""
        return self.queue.ledger.start(job_id)

    def close(self, job: EnrichJob, job_id: str, outcomes: Sequence[StageOutcome]) -> None:
        """Queue the deliveries, then write the end of the job."""
        end, summary = ending(outcomes), summarise(outcomes)
        if end.state is JobState.DONE:
            for destination in job.plan.destinations:
                delivery = Delivery(job.plan.home_archive, destination, summary.objects)
                self.queue.deliveries.add(job_id, destination, delivery.to_json())
        if end.reason == Refusal.GONE:  # deleting an instance makes no event, so what is left needs a hint
            hint = Hint(job.archive, job.study_instance_uid, job.series_instance_uid)
            self.queue.ledger.keep_note(hint.key, hint.to_json())
        self.queue.ledger.end(job_id, end.state, end.reason, end.detail, summary)
        logger.info("job %s: %s %s", job_id, end.state, end.reason)
