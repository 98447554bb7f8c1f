"""A job database, a worker that runs here, and archives in memory: what becomes of results after their job."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from dbos import DBOS

from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, StageView
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import RefusedError
from orthanc_plugin.jobs.engine import WITHDRAW
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.worker import engine_configuration
from orthanc_plugin.jobs.workflow import Retries, register_workflows
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD
from tests.support.fakes.hand_job import HandProcess, job
from tests.support.fakes.memory_archive import MemoryArchive, ct_slice


@dataclass
class Removal:
    """Removes from an archive in memory, or refuses."""

    archive: MemoryArchive
    refuses: bool = False
    asked: list[str] = field(default_factory=list)

    def remove(self, study_uid: str, series_uid: str, sop_uid: str, manufacturer: str) -> bool:
        self.asked.append(manufacturer)
        if self.refuses:
            raise RefusedError("archive local has another object under this UID; it stays")
        self.archive.instances = {k: ds for k, ds in self.archive.instances.items() if k[3] != sop_uid}
        return True


RESULT = ct_slice(1, series="1.2.77.1", study="1.2.77")
OBJECT = StoredObject(Output.SEG, str(RESULT.SOPClassUID), "1.2.77", "1.2.77.1", str(RESULT.SOPInstanceUID), False)
MADE = replace(job(None), plan=replace(job(None).plan, destinations=("far",)))
SEGMENT = f"segment {CARD.name}"


class Place:
    """A job database, a worker that runs here once it is started, and archives in memory."""

    def __init__(self, url: str) -> None:
        self.url, self.queue = url, JobQueue(url)
        self.steps, self.retries = Steps(self.queue), Retries(tries=2, first_wait_s=0.1)
        self.process, self.far = HandProcess(CHEST), MemoryArchive("far")
        self.archives = {"local": self.process.archive, "far": self.far}
        self.process.archive.put(RESULT)
        self.process.sessions = replace(
            self.process.sessions,
            archives=self.archives,
            removals={name: Removal(archive) for name, archive in self.archives.items()},  # type: ignore[misc]
        )

    def work(self) -> None:
        DBOS(config=engine_configuration(self.url, "worker-0"))
        register_workflows(self.process.sessions, self.steps, self.retries)
        DBOS.launch()

    def decide(self, job_id: str) -> EnrichJob:
        """Decide on the next content of the one series."""
        made = replace(MADE, fingerprint=f"fingerprint of {job_id}")
        now = datetime.now(UTC)
        assert self.queue.enqueue(
            Decision(
                made.archive, made.study_instance_uid, made.series_instance_uid, made.fingerprint, 0, "", now,
                Verdict.ENRICH, JobState.QUEUED, job_id=job_id, argument=made.to_json(),
            ),
            made,
        )  # fmt: skip
        self.queue._client.cancel_workflow(job_id)  # the tests play the worker of jobs
        return made

    def end(self, job_id: str, made: EnrichJob, state: JobState = JobState.RUNNING, reason: str = "") -> None:
        """End a job that began."""
        outcome = StageOutcome(StageView(SEGMENT, 0.1, 1.0), OBJECT, state, reason)
        self.steps.close(made, job_id, [outcome])

    def done(self, job_id: str) -> EnrichJob:
        made = self.decide(job_id)
        assert self.queue.ledger.start(job_id)
        self.end(job_id, made)
        return made

    def again(self, job_id: str, made: EnrichJob) -> None:
        """Run a job again that ended."""
        assert self.queue.ledger.reopen(job_id)
        assert self.queue.ledger.start(job_id)
        self.end(job_id, made)

    def states(self, job_id: str) -> dict[tuple[str, str], JobState]:
        return {(d.kind, d.destination): d.state for d in self.queue.deliveries.of_job(job_id)}

    def all_withdrawn(self, job_id: str) -> bool:
        return {state for (kind, _), state in self.states(job_id).items() if kind == WITHDRAW} == {JobState.DONE}

    def all_ended(self, job_id: str, number: int) -> bool:
        return list(self.states(job_id).values()) == [JobState.DONE] * number
