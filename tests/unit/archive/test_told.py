"""What is said where an archive, a destination or a webhook does not answer as it should: the cause and the remedy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import requests
from pydicom.dataset import Dataset

from orthanc_plugin.archive.connection import plain_session, told
from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import EnrichError, NotSupportedError, StoreError, TransientError
from orthanc_plugin.jobs.delivery import Delivery, copy_objects
from tests.support.fakes.memory_archive import MemoryArchive, ct_series

JSON = "application/dicom+json"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def said_of(url: str, timeout_s: float = 5.0) -> set[str]:
    """What both HTTP clients make of an address that does not answer."""
    with plain_session() as session, pytest.raises(requests.RequestException) as raised:
        session.get(url, timeout=timeout_s)
    with httpx.Client(trust_env=False, timeout=timeout_s) as client, pytest.raises(httpx.HTTPError) as same:
        client.get(url)
    return {told(raised.value), told(same.value)}


def test_nobody_listens(listener: socket.socket) -> None:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
    listener.close()
    assert said_of(address) == {"nothing listens at its address: check the address, and that it runs"}


def test_it_takes_the_request_and_says_nothing(listener: socket.socket) -> None:
    (said,) = said_of(f"http://127.0.0.1:{listener.getsockname()[1]}", 0.1)
    assert said == "it took the request and does not answer in time: its log may say why"


def test_it_breaks_off(listener: socket.socket) -> None:
    def hang_up() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.close()

    thread = threading.Thread(target=hang_up, daemon=True)
    thread.start()
    (said,) = said_of(f"http://127.0.0.1:{listener.getsockname()[1]}")
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert said == "it broke off the connection: its log may say why"


@pytest.mark.parametrize("kind", [requests.ConnectionError, httpx.ConnectError])
def test_a_name_that_nobody_knows_and_a_host_that_is_far(kind: type[Exception]) -> None:
    for cause, said in (
        (socket.gaierror(-2, "Name or service not known"), "the name of its host is not known"),
        (OSError(113, "No route to host"), "it cannot be reached: check its address"),
    ):
        error = kind("a text of the library")
        error.__cause__ = cause
        assert told(error).startswith(said)


@contextmanager
def destination(status: int, content_type: str, body: bytes) -> Iterator[DicomWebArchive]:
    """An archive that has nothing, and gives this answer to every object."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(status, content_type, body)

        def do_GET(self) -> None:
            self.answer(404, "text/plain", b"")

        def answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with closing(DicomWebArchive("far", f"http://127.0.0.1:{server.server_port}/dicom-web")) as archive:
            yield archive
        server.shutdown()
        thread.join()


FAILED = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [%d]}}]}}'


@pytest.mark.parametrize(
    ("status", "content_type", "body", "error", "said"),
    [
        (200, "text/html", b"<html>Log in</html>", TransientError, "answered a web page: check its Url, and whether"),
        (200, JSON, b"[" * 100_000, StoreError, "answered 200 OK but does not have"),
        (200, JSON, b'{"00081198": 5, "00081199": {"Value": "x"}}', StoreError, "does not list"),
        (401, "text/html", b"<h1>", StoreError, "401 Unauthorized: check User and Password, or Token"),
        (404, "text/html", b"<h1>", StoreError, "404 Not Found: check its Url"),
        (413, "text/html", b"", StoreError, "raise the limit of a request"),
        (503, "text/html", b"", TransientError, "answered 503"),
        (202, JSON, FAILED % 0xA700, StoreError, "0xA700 (it has no room or memory left)"),
        (202, JSON, FAILED % 0xA901, NotSupportedError, "0xA901 (the object does not fit its SOP class)"),
        (202, JSON, FAILED % 0x0122, NotSupportedError, "0x0122 (it does not support this kind of object)"),
        (409, JSON, FAILED % 0x0999, StoreError, "failure reason 0x0999 for"),
    ],
)
def test_a_destination_that_answers_strangely_is_told_with_the_remedy(
    status: int, content_type: str, body: bytes, error: type[EnrichError], said: str
) -> None:
    home, series = MemoryArchive("local"), ct_series(2)
    for ds in series:
        home.store(ds)
    with destination(status, content_type, body) as far, pytest.raises(error) as raised:
        copy_objects({"local": home, "far": far}, Delivery("local", "far", tuple(map(named, series))))
    assert said in str(raised.value)
    assert str(raised.value).count("check User") <= 1


def named(ds: Dataset) -> StoredObject:
    """The object as a job names it."""
    return StoredObject(Output.SEG, ds.SOPClassUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, False)
