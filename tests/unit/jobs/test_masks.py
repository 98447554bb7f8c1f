"""Masks that arrive let the jobs of their CT run again, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.errors import EnrichError, TransientError
from orthanc_plugin.jobs.masks import ArchiveMasks, ArrivedMasks
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
    state: JobState = JobState.DONE
    measured: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Queue:
        return self

    def of_series(self, archive: str, series_uid: str) -> list[Any]:
        if (archive, series_uid) != ("local", "2.25.200"):
            return []
        return [SimpleNamespace(job_id=f"job of {rule}", rule=rule, superseded_by="") for rule in self.rules] + [
            SimpleNamespace(job_id="", rule="expert", superseded_by="")
        ]

    def of_job(self, job_id: str) -> Any:
        masks = tuple(SimpleNamespace(sop_instance_uid=uid) for uid in self.measured)
        return SimpleNamespace(state=self.state, superseded_by="", summary=SimpleNamespace(masks=masks))

    def note(self, key: str) -> str | None:
        return self.kept.get(key)

    def notes(self, prefix: str) -> dict[str, str]:
        return dict(self.kept)

    def keep_note(self, key: str, value: str) -> None:
        self.kept[key] = value

    def drop_note(self, key: str) -> None:
        del self.kept[key]

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
    assert (queue.again, queue.kept) == (["job of expert"], {})


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


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
@pytest.mark.parametrize(("measured", "again"), [((), ["job of expert"]), (("2.25.7001",), [])])
def test_a_job_that_had_not_ended_runs_again_if_it_missed_the_masks(
    state: JobState, measured: tuple[str, ...], again: list[str]
) -> None:
    queue = Queue(state=state)
    assert look(drawn(), queue, "expert") == ()
    arrived = ArrivedMasks(queue, {}, ("expert",))  # type: ignore[arg-type]
    arrived.settle()
    assert queue.again == []
    queue.state, queue.measured = JobState.DONE, measured
    for _ in range(2):
        arrived.settle()
    assert (queue.again, queue.kept) == (again, {})


def test_a_job_whose_worker_still_ends_it_runs_again_later() -> None:
    queue = Queue(refuses=EnrichError("the worker of job 1 still ends it"))
    assert look(drawn(), queue, "expert") == ()
    queue.refuses = None
    ArrivedMasks(queue, {}, ("expert",)).settle()  # type: ignore[arg-type]
    assert (queue.again, queue.kept) == (["job of expert"], {})


def test_a_database_that_is_away_is_asked_again() -> None:
    with pytest.raises(TransientError):
        look(drawn(), Queue(refuses=TransientError("away")), "expert")


@pytest.mark.parametrize("uid", ["Planted^Name", "1.2\n2026-01-01 ERROR forged"])
def test_what_stands_in_the_place_of_a_uid_reaches_no_log(uid: str, caplog: pytest.LogCaptureFixture) -> None:
    header = Dataset()
    archive: Any = SimpleNamespace(mask_series=lambda study: [uid], headers=lambda study, series: [header])
    assert ArchiveMasks(archive).list("1.2.3", "1.2.4") == ()
    (record,) = caplog.records
    assert record.getMessage() == "series (not a valid UID) holds masks without a valid SOPInstanceUID"
