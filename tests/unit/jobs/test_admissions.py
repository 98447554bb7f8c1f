"""Admissions side by side: an archive that takes minutes for one look delays no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.admission import Admission
from orthanc_plugin.jobs.admissions import hint_to, open_admissions
from orthanc_plugin.jobs.backfill import Share
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.orders import Orders, OrderState
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.service.admitting import AdmissionLoop
from tests.support.cases.backfill_site import MODELS
from tests.support.fakes.memory_archive import MemoryArchive, ct_series
from tests.support.servers.orthanc_server import wait_until

SECTION = {
    "Archives": {
        "local": {"Url": "http://127.0.0.1:1/dicom-web", "OrthancUrl": "http://127.0.0.1:1"},
        "far": {"Dimse": {"Host": "127.0.0.1", "Port": 1, "AET": "FAR"}},
        "other": {"Folder": "/srv/ct"},
    },
    "StableAge": 0,
    "Backfill": {"Lead": 3},
}


class Silent(MemoryArchive):
    """An archive that answers no look until it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked_for, self.let_go = threading.Event(), threading.Event()

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        self.asked_for.set()
        assert self.let_go.wait(60)
        return super().headers(study_uid, series_uid)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    with closing(JobQueue(f"sqlite:///{tmp_path}/jobs.db")) as queue:
        yield queue


def admissions(queue: JobQueue, tmp_path: Path, local: MemoryArchive, far: MemoryArchive) -> tuple[Admission, ...]:
    configuration = parse_section(SECTION | {"StateDirectory": str(tmp_path)}, {})
    counts: list[Callable[[], Mapping[str, int]]] = []
    leader = Share(elsewhere=frozenset({"far"}), on_the_way=counts)
    other = Share(leads=False, elsewhere=frozenset({"local"}), on_the_way=counts)
    return (
        Admission(configuration, queue, {"local": local}, {"local": local}, MODELS, share=leader),
        Admission(configuration, queue, {"far": far}, {}, MODELS, share=other),
    )


def test_an_archive_that_is_silent_delays_no_other(queue: JobQueue, tmp_path: Path) -> None:
    local, far = MemoryArchive(), Silent("far")
    made = admissions(queue, tmp_path, local, far)
    loop, stopping, hint = AdmissionLoop(*made), threading.Event(), hint_to(made)
    thread = threading.Thread(target=loop.run, args=(stopping,))
    thread.start()
    try:
        far.put(*ct_series(series="1.5.3", study="1.5"))
        hint(Hint("far", "1.5", "1.5.3", stable=True))
        assert far.asked_for.wait(20)
        local.put(*ct_series())
        hint(Hint("local", "1.2", "1.2.3", stable=True))
        wait_until(lambda: queue.ledger.of_series("local", "1.2.3"), 20, "the decision on the other archive")
        wait_until(lambda: loop.state().waiting_series == 1, 20, "the end of its wait")
        assert queue.ledger.of_series("far", "1.5.3") == ()
        far.let_go.set()
        wait_until(lambda: queue.ledger.of_series("far", "1.5.3"), 20, "the decision on the silent archive")
    finally:
        far.let_go.set()
        stopping.set()
        thread.join(20)


def test_a_hint_goes_to_the_admission_of_its_archive_or_is_refused(queue: JobQueue, tmp_path: Path) -> None:
    made = admissions(queue, tmp_path, MemoryArchive(), MemoryArchive("far"))
    hint_to(made)(Hint("far", "1.5", "1.5.3"))
    assert [one.waiting for one in made] == [0, 1]
    with pytest.raises(EnrichError, match="no archive nowhere"):
        hint_to(made)(Hint("nowhere", "1.5", "1.5.3"))


def test_each_carries_out_the_orders_of_its_archives_and_the_lead_is_one(queue: JobQueue, tmp_path: Path) -> None:
    local, far, orders = MemoryArchive(), MemoryArchive("far"), Orders(queue.ledger)
    for archive, root in ((local, "1.1"), (far, "1.9")):
        for number in range(4):
            archive.put(*ct_series(study=f"{root}.{number}", series=f"{root}.{number}.3", patient=f"P{number}"))
    leader, slow = admissions(queue, tmp_path, local, far)
    there, away = (orders.place_query(name, {"ModalitiesInStudy": "CT"}) for name in ("far", "nowhere"))
    leader.tick(0.0)
    assert orders.get(there.id).state is OrderState.LISTING
    assert "no archive nowhere" in orders.get(away.id).problem
    for now in range(31, 300, 31):
        slow.tick(float(now))
    assert queue.ledger.queued_backfill() == 3
    here = orders.place_query("local", {"ModalitiesInStudy": "CT"})
    for now in range(31, 300, 31):
        leader.tick(float(now))
    assert (queue.ledger.queued_backfill(), "Backfill.Lead" in orders.get(here.id).problem) == (3, True)


def test_archives_without_an_index_have_admissions_of_their_own(queue: JobQueue, tmp_path: Path) -> None:
    made = open_admissions(parse_section(SECTION | {"StateDirectory": str(tmp_path)}, {}), queue)
    names = [{name for name in ("local", "far", "other") if one.takes(name)} for one in made]
    assert names == [{"local"}, {"far"}, {"other"}]
    for one in made:
        one.close()
