"""An archive of old studies in memory, and a service that works on orders."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.admission import Admission
from orthanc_plugin.jobs.orders import Order, Orders
from orthanc_plugin.jobs.queue import JobQueue
from tests.support.fakes.memory_archive import MemoryArchive, ct_series

MODELS = {"chest_structures": "d" * 64, "head_neck_oar": "f" * 64, "other": "e" * 64}
QUERY = {"StudyDate": "20251201-20260131", "ModalitiesInStudy": "CT"}


class Site:
    """An archive of old studies and a service that started after they came; `start` is its restart."""

    def __init__(self, directory: Path, studies: int, *, feed: bool = True, **backfill: object) -> None:
        self.archive = MemoryArchive()
        for number in range(studies):
            self.archive.put(*ct_series(study=f"1.{number + 1}", series=f"1.{number + 1}.3", patient=f"P{number}"))
        self.section: dict[str, object] = {
            "StateDirectory": str(directory),
            "Archives": {"local": {"Url": "http://127.0.0.1:1/dicom-web"}},
            "Backfill": backfill,
        }
        self.hour = 12
        self.now = 0.0
        self.feeds = {"local": self.archive} if feed else {}
        self.queue = JobQueue(self.configuration.database)
        self.orders = Orders(self.queue.ledger)
        self.start()
        self.turn()

    @property
    def configuration(self) -> Configuration:
        return Configuration.model_validate(self.section)

    def start(self, *rules: dict[str, object]) -> None:
        self.section |= {"Rules": list(rules)} if rules else {}
        self.admission = Admission(
            self.configuration, self.queue, {"local": self.archive}, self.feeds, MODELS,
            clock=lambda: datetime(2026, 6, 1, tzinfo=UTC),
            local_time=lambda: datetime(2026, 6, 1, self.hour, 30, tzinfo=UTC),
        )  # fmt: skip

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 31.0
            self.admission.tick(self.now)

    def order(self, order: Order) -> Order:
        return self.orders.get(order.id)

    def states(self) -> dict[str, int]:
        return {state.value: number for state, number in self.queue.ledger.counts().items()}

    def work(self, state: JobState = JobState.DONE) -> int:
        """End all waiting jobs as workers would."""
        waiting = [row.job_id for row in self.queue.ledger.open_jobs()]
        for job_id in waiting:
            self.queue.ledger.start(job_id)
            self.queue.ledger.end(job_id, state, "" if state is JobState.DONE else "failed", "")
            self.queue._client.cancel_workflow(job_id)
        return len(waiting)
