"""Deliveries: a line for each destination; listed, counted, retried and cancelled like jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from dbos import DBOS
from pydicom.dataset import Dataset

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.delivery import Delivery
from orthanc_plugin.jobs.engine import WITHDRAW
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.withdrawal import Withdrawal
from orthanc_plugin.jobs.worker import engine_configuration
from orthanc_plugin.jobs.workflow import Retries, register_workflows
from tests.support.cases.location_case import CHEST
from tests.support.fakes.hand_job import HandProcess
from tests.support.fakes.memory_archive import MemoryArchive, ct_slice
from tests.support.servers.orthanc_server import wait_until

RESULT = ct_slice(1)
OBJECT = StoredObject(
    Output.SEG, str(RESULT.SOPClassUID), str(RESULT.StudyInstanceUID), str(RESULT.SeriesInstanceUID),
    str(RESULT.SOPInstanceUID), False,
)  # fmt: skip


class HangingArchive(MemoryArchive):
    """An archive that answers only when it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.let_go = threading.Event()

    def store(self, ds: Dataset) -> None:
        assert self.let_go.wait(30)
        super().store(ds)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def queue(url: str) -> Iterator[JobQueue]:
    with closing(JobQueue(url)) as opened:
        yield opened


@pytest.fixture
def archives(url: str, queue: JobQueue) -> Iterator[dict[str, MemoryArchive]]:
    """Archives of a worker that runs here: one at home, one that hangs, one that is well, one that is away."""
    process = HandProcess(CHEST)
    named = {"local": process.archive, "slow": HangingArchive("slow"), "well": MemoryArchive("well")}
    named["away"] = MemoryArchive("away")
    named["away"].away = True
    process.archive.put(RESULT)
    DBOS(config=engine_configuration(url, "worker-0"))
    try:
        sessions = replace(process.sessions, archives=named)
        register_workflows(sessions, Steps(queue), Retries(tries=2, first_wait_s=0.1))
        DBOS.launch()
        yield named
    finally:
        named["slow"].let_go.set()  # type: ignore[attr-defined]
        DBOS.destroy(destroy_registry=True)


def deliver(queue: JobQueue, job: str, destination: str) -> None:
    queue.deliveries.add(job, destination, Delivery("local", destination, (OBJECT,)).to_json())


def states(queue: JobQueue) -> dict[tuple[str, str], JobState]:
    return {(d.job_id, d.destination): d.state for d in queue.deliveries.list()}


def slow_states(queue: JobQueue) -> list[str]:
    return sorted(state for (_, to), state in states(queue).items() if to == "slow")


def test_a_destination_that_hangs_delays_no_other(queue: JobQueue, archives: dict[str, MemoryArchive]) -> None:
    for number in range(3):
        deliver(queue, f"j{number}", "slow")
    deliver(queue, "j0", "well")
    wait_until(lambda: states(queue)["j0", "well"] is JobState.DONE, 20, "the delivery to the archive that is well")
    assert len(archives["well"].instances) == 1
    wait_until(lambda: slow_states(queue) == ["queued", "queued", "running"], 20, "one at a time at the other")
    archives["slow"].let_go.set()  # type: ignore[attr-defined]
    wait_until(lambda: set(states(queue).values()) == {JobState.DONE}, 20, "the others")


def test_a_delivery_that_failed_is_seen_and_run_again(queue: JobQueue, archives: dict[str, MemoryArchive]) -> None:
    deliver(queue, "j0", "away")
    wait_until(lambda: queue.deliveries.list(JobState.FAILED), 20, "the failure")
    (failed,) = queue.deliveries.list(JobState.FAILED)
    assert (failed.job_id, failed.destination, failed.error) == ("j0", "away", "TransientError: archive away is away")
    assert queue.deliveries.counts() == {JobState.FAILED: 1}
    archives["away"].away = False
    queue.deliveries.retry("j0", "away")
    wait_until(lambda: queue.deliveries.list(JobState.DONE), 20, "the delivery")
    assert queue.deliveries.counts() == {}
    with pytest.raises(EnrichError, match="no delivery to away that failed"):
        queue.deliveries.retry("j0", "away")


def test_an_open_delivery_is_cancelled(queue: JobQueue) -> None:
    deliver(queue, "j0", "well")
    queue.deliveries.cancel("j0", "well")
    assert queue.deliveries.counts() == {JobState.CANCELLED: 1}
    with pytest.raises(EnrichError, match="no open delivery"):
        queue.deliveries.cancel("j0", "well")


def test_what_cannot_be_withdrawn_is_listed(queue: JobQueue, archives: dict[str, MemoryArchive]) -> None:
    queue.deliveries.add("j0", "well", Withdrawal("well", (OBJECT,)).to_json(), WITHDRAW)
    wait_until(lambda: queue.deliveries.list(JobState.FAILED), 20, "the failure")
    (failed,) = queue.deliveries.list(JobState.FAILED)
    assert (failed.kind, failed.destination) == (WITHDRAW, "well")
    assert OBJECT.sop_instance_uid in failed.error


def test_a_retry_of_the_job_runs_no_withdrawal_again(queue: JobQueue, archives: dict[str, MemoryArchive]) -> None:
    queue.deliveries.add("j0", "well", Withdrawal("well", (OBJECT,)).to_json(), WITHDRAW)
    wait_until(lambda: queue.deliveries.list(JobState.FAILED), 20, "the failure")
    queue.deliveries.retry_failed("j0")
    assert queue.deliveries.counts() == {JobState.FAILED: 1}


def test_open_withdrawals_of_a_job_that_runs_again_end(queue: JobQueue) -> None:
    queue.deliveries.add("j0", "well", Withdrawal("well", (OBJECT,)).to_json(), WITHDRAW)
    deliver(queue, "j0", "away")
    queue.deliveries.cancel_withdrawals("j0")
    assert [d.kind for d in queue.deliveries.list(JobState.CANCELLED)] == [WITHDRAW]
