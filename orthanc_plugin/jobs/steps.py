"""The steps of a worker: the stages of a job, and what the ledger is told at its begin and end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.delivery import Delivery
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.queue import JobQueue, summarise
from orthanc_plugin.jobs.record import EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.jobs.stages import Stages

logger = logging.getLogger(__name__)


class Steps(Stages):
    """The stages, with a ledger that learns how jobs go and a queue that takes their deliveries.

    Parameters
    ----------
    configuration, archives, clock
        As in `Stages`.
    queue : JobQueue
        Of the job database.
    """

    def __init__(
        self,
        configuration: Configuration,
        archives: Mapping[str, Archive],
        queue: JobQueue,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(configuration, archives, clock)
        self._queue = queue

    def begin(self, job: EnrichJob, job_id: str) -> bool:
        """Whether the job is still wanted; the ledger then says that it runs."""
        return self._queue.ledger.start(job_id)

    def close(self, job: EnrichJob, job_id: str, outcomes: Sequence[StageOutcome]) -> None:
        """Queue the deliveries, then write the end of the job to the ledger."""
        self.release()
        end, summary = ending(outcomes), summarise(outcomes)
        if end.state is JobState.DONE:
            for destination in job.plan.destinations:
                delivery = Delivery(job.plan.home_archive, destination, summary.objects)
                self._queue.deliver(job_id, destination, delivery.to_json())
        if end.reason == Refusal.GONE:  # deleting an instance makes no event: what is left is hinted from here
            hint = Hint(job.archive, job.study_instance_uid, job.series_instance_uid)
            self._queue.ledger.keep_note(hint.key, hint.to_json())
        self._queue.ledger.end(job_id, end.state, end.reason, end.detail, summary)
        logger.info("job %s: %s %s", job_id, end.state, end.reason)
