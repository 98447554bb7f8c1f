"""Admission on a real Orthanc: its changes, its reception times and its metadata are what the decisions rest on."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from orthanc_plugin import identity
from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.archive.orthanc import open_feed
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs import deleted
from orthanc_plugin.jobs.admission import Admission
from orthanc_plugin.jobs.admissions import open_admission
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.series.identify import identity_of
from tests.support.fakes.memory_archive import ct_series, ct_slice
from tests.support.servers.orthanc_server import OrthancServer, wait_until


class House:
    """A state directory on the shared Orthanc; its changes are read at once (StableAge 0)."""

    def __init__(self, directory: Path, orthanc: OrthancServer, **settings: object) -> None:
        self.directory, self.orthanc, self.settings = directory, orthanc, settings
        self.archive = DicomWebArchive("local", orthanc.dicomweb_url, orthanc.user, orthanc.password)
        self.queue = JobQueue(f"sqlite:///{directory}/jobs.db")
        self.admission = self.open()
        self.admission.reconcile(0.0)
        self.uid, self.study = str(generate_uid())[:55] + "1", str(generate_uid())

    def open(self, **addresses: str) -> Admission:
        """Open admission as a service with these addresses in its settings does."""
        right = {"Url": self.orthanc.dicomweb_url, "OrthancUrl": self.orthanc.url}
        account = {"User": self.orthanc.user, "Password": self.orthanc.password}
        settings = ArchiveSettings.model_validate(right | account | addresses)
        configuration = Configuration.model_validate(
            {"StateDirectory": self.directory, "StableAge": 0, "Archives": {"local": settings}} | self.settings
        )
        return open_admission(configuration, self.queue)

    def slices(self, count: int, patient: str = "P1") -> list[Dataset]:
        return ct_series(count, series=self.uid, study=self.study, patient=patient)

    def send(self, instances: Sequence[Dataset]) -> tuple[Decision, ...]:
        """Store, reconcile; returns what was decided on the series so far."""
        for ds in instances:
            self.archive.store(ds)
        self.admission.reconcile(0.0)
        self.admission.tick(0.0)
        return self.queue.ledger.of_series("local", self.uid)


@contextmanager
def answering(status: int, body: bytes = b"") -> Iterator[str]:
    """A web server that gives every request the same answer, as a proxy before the wrong address may."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/dicom-web"
        finally:
            server.shutdown()


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


def test_the_index_tells_which_of_many_series_it_has(house: House) -> None:
    house.send(house.slices(2))
    right = {"OrthancUrl": house.orthanc.url, "Url": house.orthanc.dicomweb_url}
    account = {"User": house.orthanc.user, "Password": house.orthanc.password}
    feed = open_feed("local", ArchiveSettings.model_validate(right | account))
    assert feed is not None
    with closing(feed):
        others = {str(generate_uid()) for _ in range(deleted.A_REQUEST - 1)}
        assert feed.listed(frozenset({house.uid, *others})) == {house.uid}
        assert feed.listed(frozenset()) == frozenset()


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (200, b"[]"), (204, b""), (404, b"")])
def test_a_wrong_address_loses_no_series(
    house: House, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for ds in house.slices(20):
        house.archive.store(ds)
    with answering(status, body) as url, closing(house.open(Url=url)) as admission:
        admission.tick(0.0)
        admission.tick(1.0)
        assert house.queue.ledger.of_series("local", house.uid) == ()
    assert f"series {house.uid} waits" in caplog.text
    with closing(house.open()) as repaired:
        repaired.tick(0.0)
        (row,) = house.queue.ledger.of_series("local", house.uid)
        assert row.state is JobState.QUEUED


def test_a_wrong_address_of_orthanc_loses_no_hint(house: House) -> None:
    for ds in house.slices(20):
        house.archive.store(ds)
    with closing(house.open(OrthancUrl=f"{house.orthanc.url}/nowhere")) as admission:
        admission.hint(Hint("local", house.study, house.uid, stable=True))
        admission.tick(0.0)
        assert admission.waiting == 1
    with closing(house.open()) as repaired:
        repaired.tick(0.0)
        assert len(house.queue.ledger.of_series("local", house.uid)) == 1


def rows_of(house: House) -> tuple[Decision, ...]:
    """Decisions on the study: Orthanc's index may write a SeriesInstanceUID in another way."""
    return tuple(row for row in house.queue.ledger.decisions() if row.study_instance_uid == house.study)


@pytest.mark.parametrize("uid", ["x?_method=DELETE", "1.02.3", "1.2." + "3" * 64, "1.2/../3"])
def test_a_series_without_a_valid_uid_is_skipped_and_stays_in_the_archive(
    house: House, uid: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.uid = uid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of such UIDs
        instances = house.slices(3)
        for number, ds in enumerate(instances):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{house.study[:60]}.{number + 1}"
        house.send(instances)
    (row,) = rows_of(house)
    assert (row.state, row.reason, row.detail) == (
        JobState.SKIPPED, Refusal.BAD_UID, "a UID of the series is not valid (DICOM PS3.5 9.1)",
    )  # fmt: skip
    house.admission.tick(1000.0)
    assert rows_of(house) == (row,)
    found = house.orthanc.rest("/tools/find", "POST", {"Level": "Series", "Query": {"StudyInstanceUID": house.study}})
    assert len(found) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["MainDicomTags", "Extrapolate"])
def test_headers_that_orthanc_cuts_short_are_completed_and_the_setting_is_named(
    tmp_path: Path, new_orthanc: Callable[..., OrthancServer], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    dicomweb = {"Enable": True, "Root": "/dicom-web/", "SeriesMetadata": mode, "StudiesMetadata": mode}
    made = House(tmp_path, new_orthanc(settings={"DicomWeb": dicomweb}).start())
    with closing(made.queue), closing(made.admission), closing(made.archive):
        (row,) = made.send(made.slices(20))
        held = identity_of(tuple(made.archive.retrieve(made.study, made.uid)))
        scout = ct_slice(1, series="1.2.77", study=made.study)
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        made.send([scout])
        (other,) = made.queue.ledger.of_series("local", "1.2.77")
    assert row.state is JobState.QUEUED
    assert identity.fingerprint(held, row.generation) == row.fingerprint
    assert "ImageType: LOCALIZER" in other.detail
    assert 'set DicomWeb.SeriesMetadata of that Orthanc to "Full"' in caplog.text


def test_a_series_without_any_whole_header_is_decided_on_once_the_setting_is_repaired(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cut(*_: object) -> list[dict[str, object]]:
        return [{"00080018": {"vr": "UI", "Value": ["1.2.3.4"]}, "00080060": {"vr": "CS", "Value": ["CT"]}}]

    for ds in house.slices(20):
        house.archive.store(ds)
    with monkeypatch.context() as patched:
        patched.setattr(DICOMwebClient, "retrieve_series_metadata", cut)
        house.admission.reconcile(0.0)
        house.admission.tick(0.0)
        assert house.queue.ledger.of_series("local", house.uid) == ()
        assert "gives no whole headers" in caplog.text
    house.admission.tick(100.0)
    (row,) = house.queue.ledger.of_series("local", house.uid)
    assert row.state is JobState.QUEUED


@pytest.mark.parametrize(
    ("route", "options", "criterion"),
    [("anonymize", {}, "AnonymizedFrom"), ("modify", {"Replace": {"StudyDescription": "x"}}, "ModifiedFrom")],
)
def test_a_copy_is_enriched_only_if_a_rule_says_so(
    tmp_path: Path, house: House, route: str, options: dict[str, object], criterion: str
) -> None:
    house.send(house.slices(20))
    query = {"Level": "Study", "Query": {"StudyInstanceUID": house.study}}
    (study,) = house.orthanc.rest("/tools/find", "POST", query)  # type: ignore[misc]
    made = house.orthanc.rest(f"/studies/{study}/{route}", "POST", options)
    copy = house.orthanc.rest(made["Path"])["MainDicomTags"]["StudyInstanceUID"]  # type: ignore[index,call-overload]
    house.study = str(copy)
    house.send([])
    (row,) = rows_of(house)
    assert (row.state, row.detail) == (JobState.SKIPPED, f"rule default: {criterion}: true, wanted false")
    other = House(tmp_path / "other", house.orthanc, Rules=[{"Name": "copies", "Match": {criterion: None}}])
    with closing(other.queue), closing(other.admission), closing(other.archive):
        other.study = house.study
        other.queue.ledger.keep_note("changes:local", "0")
        other.send([])
        assert [(row.state, row.rule) for row in rows_of(other)] == [(JobState.QUEUED, "copies")]
