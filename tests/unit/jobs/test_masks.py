"""Masks that arrive let the jobs of their CT run again, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.errors import EnrichError, TransientError
from orthanc_plugin.jobs.masks import ArrivedMasks
from tests.support.cases.foreign_case import balls, highdicom_seg, rtstruct
from tests.support.cases.results_case import ellipsoids, encode
from tests.support.fakes.hand_job import SERIES
from tests.support.fakes.memory_archive import MemoryArchive


@dataclass
class Queue:
    """A ledger with one job for each rule, and what was asked to run again."""

    rules: tuple[str, ...] = ("expert", "models")
    again: list[str] = field(default_factory=list)
    refuses: EnrichError | None = None

    @property
    def ledger(self) -> Queue:
        return self

    def of_series(self, archive: str, series_uid: str) -> list[Any]:
        if (archive, series_uid) != ("local", "2.25.200"):
            return []
        return [SimpleNamespace(job_id=f"job of {rule}", rule=rule) for rule in self.rules] + [
            SimpleNamespace(job_id="", rule="expert")
        ]

    def retry(self, job_id: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.again.append(job_id)


def look(ds: Dataset, queue: Queue, *rules: str) -> tuple[str, ...]:
    archive = MemoryArchive()
    archive.store(ds)
    arrived = ArrivedMasks(queue, {"local": archive}, rules)  # type: ignore[arg-type]
    return arrived.look("local", str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.Modality))


def drawn() -> Dataset:
    return highdicom_seg(SERIES, balls(SERIES, (0, 0, 0)))


@pytest.mark.parametrize("ds", [drawn(), rtstruct(SERIES, {"GTV": {}})], ids=["SEG", "RTSTRUCT"])
def test_the_jobs_of_such_rules_run_again(ds: Dataset) -> None:
    queue = Queue()
    assert look(ds, queue, "expert") == ("job of expert",)
    assert queue.again == ["job of expert"]


def test_without_such_a_rule_nothing_is_read() -> None:
    assert ArrivedMasks(Queue(), {}, ()).look("local", "1", "2", "SEG") == ()  # type: ignore[arg-type]


def test_results_of_ours_start_nothing() -> None:
    queue = Queue()
    assert look(encode(SERIES, ellipsoids(SERIES)), queue, "expert") == ()
    assert queue.again == []


def test_masks_of_another_series_start_nothing() -> None:
    ds = drawn()
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.999"
    assert look(ds, Queue(), "expert") == ()


def test_a_job_that_has_not_ended_finds_the_masks_itself() -> None:
    assert look(drawn(), Queue(refuses=EnrichError("job 1 is queued")), "expert") == ()


def test_a_database_that_is_away_is_asked_again() -> None:
    with pytest.raises(TransientError):
        look(drawn(), Queue(refuses=TransientError("away")), "expert")
