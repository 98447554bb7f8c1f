"""Admission on a real Orthanc: its changes, its reception times and its metadata are what the decisions rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.admission import Admission, open_admission
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.queue import JobQueue
from tests.support.fakes.memory_archive import ct_series, ct_slice
from tests.support.servers.orthanc_server import OrthancServer, wait_until


class House:
    """A state directory on the shared Orthanc; its changes are read at once (StableAge 0)."""

    def __init__(self, directory: Path, orthanc: OrthancServer) -> None:
        settings = ArchiveSettings(
            Url=orthanc.dicomweb_url, OrthancUrl=orthanc.url, User=orthanc.user, Password=orthanc.password
        )
        self.configuration = Configuration(StateDirectory=directory, StableAge=0, Archives={"local": settings})
        self.orthanc = orthanc
        self.archive = DicomWebArchive("local", orthanc.dicomweb_url, orthanc.user, orthanc.password)
        self.queue = JobQueue(self.configuration.database)
        self.admission: Admission = open_admission(self.configuration, self.queue)
        self.admission.reconcile(0.0)
        self.uid, self.study = str(generate_uid())[:55] + "1", str(generate_uid())

    def slices(self, count: int, patient: str = "P1") -> list[Dataset]:
        return ct_series(count, series=self.uid, study=self.study, patient=patient)

    def send(self, instances: Sequence[Dataset]) -> tuple[Decision, ...]:
        """Store, reconcile; returns what was decided on the series so far."""
        for ds in instances:
            self.archive.store(ds)
        self.admission.reconcile(0.0)
        self.admission.tick(0.0)
        return self.queue.ledger.of_series("local", self.uid)


@pytest.fixture
def house(tmp_path: Path, orthanc: OrthancServer) -> Iterator[House]:
    made = House(tmp_path, orthanc)
    with closing(made.queue), closing(made.admission), closing(made.archive):
        yield made


def test_sent_twice_then_with_a_late_slice(house: House) -> None:
    (first,) = house.send(house.slices(20))
    assert house.send(house.slices(20)) == (first,)
    late = ct_slice(21, series=house.uid, study=house.study)
    old, new = house.send([late])
    assert (old.state, old.superseded_by, new.state) == (JobState.SUPERSEDED, new.fingerprint, JobState.QUEUED)


def test_deleted_and_sent_again_it_is_a_new_job_once(house: House) -> None:
    (first,) = house.send(house.slices(20))
    wait_until(lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}" > first.received, what="the next second of LastUpdate")
    query = {"Level": "Study", "Query": {"StudyInstanceUID": house.study}}
    (study,) = house.orthanc.rest("/tools/find", "POST", query)  # type: ignore[misc]
    house.orthanc.rest(f"/studies/{study}", "DELETE")
    rows = house.send(house.slices(20))
    assert [row.generation for row in rows] == [0, 1]
    assert house.send(house.slices(20)) == rows


def test_one_series_under_two_patients_is_refused(house: House) -> None:
    house.send(house.slices(20))
    stranger = ct_slice(99, series=house.uid, study=house.study, patient="P2")
    first, conflict = house.send([stranger])
    assert first.state is JobState.SUPERSEDED
    assert conflict.reason == Refusal.TWO_PATIENTS
