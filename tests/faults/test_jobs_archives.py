"""Archives that refuse or are away while a worker runs: retried, then failed with the answer; deliveries catch up."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.record import JobView
from orthanc_plugin.phantoms.dicom import encode_phantom
from tests.faults.test_jobs_worker import Site, admit, ended, queue_of, results_in, send, site
from tests.support.cases.enriched import small_chest
from tests.support.servers.orthanc_server import OrthancServer, wait_until

TRIES = 3
"""Tries of a step that killing_worker.py sets."""
NewOrthanc = Callable[..., OrthancServer]


@pytest.fixture(scope="module")
def phantom() -> Sequence[Dataset]:
    return encode_phantom(small_chest(), uid_seed="archives")


@pytest.fixture
def filled(new_orthanc: NewOrthanc, phantom: Sequence[Dataset]) -> OrthancServer:
    """An Orthanc that holds the phantom."""
    server = new_orthanc().start()
    send(server, phantom)
    return server


class FullArchive(BaseHTTPRequestHandler):
    """A DICOMweb server with a full disk: holds nothing, refuses every object and counts the requests."""

    stores: list[str]

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.stores.append(self.path)
        body = json.dumps({"Message": "Storage area is full"}).encode()
        self.send_response(507)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def full_archive() -> Iterator[tuple[str, list[str]]]:
    """Its DICOMweb root, and the STOW requests it got."""
    stores: list[str] = []
    handler = type("Handler", (FullArchive,), {"stores": stores})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/dicom-web", stores
        finally:
            server.shutdown()
            thread.join()


def with_second(place: Site, second: dict[str, str], **rule: object) -> Site:
    """The same site with an archive "second", and one rule that uses it."""
    archives = {**place.section["Archives"], "second": second}  # type: ignore[dict-item]
    return Site(place.directory, {**place.section, "Archives": archives, "Rules": [{"Name": "test", **rule}]})


def test_a_home_that_refuses_is_tried_again_then_the_job_fails_with_its_answer(
    tmp_path: Path, filled: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    with full_archive() as (url, stores):
        place = with_second(site(tmp_path, filled), {"Url": url}, HomeArchive="second")
        with queue_of(place) as queue, place.worker():
            view = ended(queue, admit(place, queue, phantom[0]), place)
    assert view.state is JobState.FAILED
    assert view.error.startswith("StoreError: archive second answered 507")
    assert "Storage area is full" in view.error
    assert len(stores) == TRIES
    assert [stage.name for stage in view.stages] == ["retrieve", "segment chest_structures"]


def test_a_delivery_fails_alone_and_a_retry_brings_it(
    tmp_path: Path, filled: OrthancServer, new_orthanc: NewOrthanc, phantom: Sequence[Dataset]
) -> None:
    second = new_orthanc()
    account = {"Url": second.dicomweb_url, "User": second.user, "Password": second.password}
    place = with_second(site(tmp_path, filled), account, Destinations=["second"])
    with queue_of(place) as queue, place.worker():
        job = admit(place, queue, phantom[0])
        assert ended(queue, job, place).state is JobState.DONE

        def delivered(state: JobState) -> JobView | None:
            view = queue.show(job)
            return view if [d.state for d in view.deliveries] == [state] else None

        view = wait_until(lambda: delivered(JobState.FAILED), 60, "a delivery that failed")
        assert view is not None
        assert (view.state, view.deliveries[0].destination) == (JobState.DONE, "second")
        assert view.deliveries[0].error.startswith("TransientError: archive second")
        assert results_in(filled) == len(view.objects) == 4

        second.start()
        queue.retry(job)
        wait_until(lambda: delivered(JobState.DONE), 60, "the delivery")
        assert results_in(second) == 4
        wait_until(lambda: queue.show(job).state is JobState.DONE, 60, "the end of the retried job")
    assert results_in(filled) == 4
