"""What a DICOMweb archive sends may break off, grow, change meanwhile or be a bomb: each ends as a typed error."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from orthanc_plugin.archive import dicomweb, pace, part10
from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.archive.multipart import BrokenOff, TooLong, boundary_of, parts
from orthanc_plugin.archive.orthanc import open_feed
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import InputError, Refusal, TransientError
from tests.support.fakes.memory_archive import ct_series

MULTIPART = 'multipart/related; type="application/dicom"; boundary=edge'


def encoded(ds: Dataset) -> bytes:
    out = BytesIO()
    ds.preamble = bytes(128)
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def body(contents: Sequence[bytes], end: bytes = b"\r\n--edge--\r\n") -> bytes:
    return b"".join(b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + one for one in contents)[2:] + end


def listing(*uids: str) -> bytes:
    return json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()


Answer = tuple[bytes, str]


@contextmanager
def serving(
    sent: bytes, listed: Callable[[str], bytes], kind: str = MULTIPART, encoding: str = "", pause_s: float = 0
) -> Iterator[DicomWebArchive]:
    """A server that sends one body, and lists what it has; it ends each answer by closing the connection.

    pause_s: wait before each ten bytes.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = "/instances?" in self.path or self.path.endswith("/instances")
            content, content_type = (listed(self.path), "application/dicom+json") if query else (sent, kind)
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            if encoding and not query:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()
            self.close_connection = True
            if not pause_s:
                self.wfile.write(content)
            with suppress(OSError):  # the client has left
                for start in range(0, len(content) if pause_s else 0, 10):
                    time.sleep(pause_s)
                    self.wfile.write(content[start : start + 10])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with closing(DicomWebArchive("local", f"http://127.0.0.1:{server.server_port}/dicom-web")) as archive:
            yield archive
        server.shutdown()
        thread.join(10)


SERIES = ct_series(3)
UIDS = [str(ds.SOPInstanceUID) for ds in SERIES]
FILES = [encoded(ds) for ds in SERIES]


def retrieve(archive: DicomWebArchive) -> list[str]:
    return [str(ds.SOPInstanceUID) for ds in archive.retrieve("1.2", "1.3")]


def test_a_whole_answer_is_read() -> None:
    with serving(body(FILES), lambda _: listing(*UIDS)) as archive:
        assert retrieve(archive) == UIDS


@pytest.mark.parametrize("end", [b"", b"\r\n--ed", b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\nDIC"])
def test_an_answer_that_breaks_off_is_transient(end: bytes) -> None:
    served = serving(body(FILES, end), lambda _: listing(*UIDS))
    with served as archive, pytest.raises(TransientError, match="broke off"):
        retrieve(archive)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "WINDOW_S", 0.3)
    monkeypatch.setattr(pace, "LEAST_BYTES", 4096)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("ask", [retrieve, lambda archive: archive.headers("1.2", "1.3")])
def test_an_answer_that_trickles_is_left(ask: Callable[[DicomWebArchive], object]) -> None:
    headers = json.dumps([json.loads(ds.to_json()) for ds in SERIES]).encode()
    kind = MULTIPART if ask is retrieve else "application/dicom+json"
    served = serving(body(FILES) if ask is retrieve else headers, lambda _: listing(*UIDS), kind, pause_s=0.02)
    with served as archive, pytest.raises(TransientError, match=r"it sends less than 4 KiB in 0\.3 s"):
        ask(archive)


@pytest.mark.usefixtures("hasty")
def test_a_reader_may_take_its_time() -> None:
    with serving(body(FILES), lambda _: listing(*UIDS)) as archive:
        found = archive.retrieve("1.2", "1.3")
        assert [time.sleep(0.4) or str(ds.SOPInstanceUID) for ds in found] == UIDS  # type: ignore[func-returns-value]


@pytest.mark.usefixtures("hasty")
def test_an_index_that_trickles_is_left() -> None:
    with serving(b"{" + b" " * 9000 + b"}", lambda _: b"", "application/json", pause_s=0.02) as archive:
        url = str(archive._client.base_url)
        feed = open_feed(
            "local", ArchiveSettings.model_validate({"Url": url, "OrthancUrl": url.removesuffix("/dicom-web")})
        )
        assert feed is not None
        with closing(feed), pytest.raises(TransientError, match="less than 4 KiB"):
            feed.last_sequence()


def test_an_instance_that_came_meanwhile_is_transient() -> None:
    served = serving(body(FILES), lambda _: listing(*UIDS, "1.2.99"))
    with served as archive, pytest.raises(TransientError, match=r"did not send 1 instance\(s\)"):
        retrieve(archive)


def test_an_instance_that_went_meanwhile_is_transient() -> None:
    def listed(path: str) -> bytes:
        return listing() if "SOPInstanceUID=" in path else listing(*UIDS[:2])

    with serving(body(FILES), listed) as archive, pytest.raises(TransientError, match="removed an instance"):
        retrieve(archive)


def test_a_list_that_the_archive_cuts_short_is_no_change() -> None:
    def listed(path: str) -> bytes:
        return listing(UIDS[2]) if f"SOPInstanceUID={UIDS[2]}" in path else listing(*UIDS[:2])

    with serving(body(FILES), listed) as archive:
        assert retrieve(archive) == UIDS


def test_a_deflate_bomb_is_refused_within_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part10, "LARGEST_INFLATED_BYTES", 2**24)
    ds = ct_series(1)[0]
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = encoded(ds)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = whole[: 132 + 12 + int.from_bytes(whole[140:144], "little")]
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 8)) + packer.flush()
    assert len(bomb) < 2**19
    with serving(body([head + bomb]), lambda _: listing(UIDS[0])) as archive:
        tracemalloc.start()
        with pytest.raises(InputError) as refused:
            retrieve(archive)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert refused.value.reason is Refusal.UNREADABLE
    assert peak < 2**26


def test_parts_beyond_the_bound_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "LARGEST_SERIES_BYTES", 2 * len(FILES[0]))
    with serving(body(FILES), lambda _: listing(*UIDS)) as archive, pytest.raises(InputError) as refused:
        retrieve(archive)
    assert refused.value.reason is Refusal.TOO_LARGE


@pytest.mark.parametrize(("kind", "encoding"), [("text/plain", ""), ("multipart/related", ""), (MULTIPART, "gzip")])
def test_an_answer_of_another_kind_is_unreadable(kind: str, encoding: str) -> None:
    served = serving(body(FILES), lambda _: listing(*UIDS), kind, encoding)
    with served as archive, pytest.raises(InputError) as refused:
        retrieve(archive)
    assert refused.value.reason is Refusal.UNREADABLE


def test_a_web_page_says_nothing_of_the_series_so_that_it_is_asked_for_again() -> None:
    served = serving(b"<html>Log in</html>", lambda _: listing(*UIDS), "text/html; charset=utf-8")
    with served as archive, pytest.raises(TransientError, match="answered a web page: check its Url"):
        retrieve(archive)


def test_a_single_instance_may_come_without_multipart() -> None:
    with serving(FILES[0], lambda _: listing(UIDS[0]), "application/dicom") as archive:
        found = archive.find("1.2", "1.3", UIDS[0])
    assert found is not None
    assert found.SOPInstanceUID == UIDS[0]


@pytest.mark.parametrize("uid", ["..", "1/2", "1?x", ""])
def test_a_uid_that_would_change_the_address_is_not_sent(uid: str) -> None:
    with pytest.raises(InputError):
        list(DicomWebArchive("local", "http://127.0.0.1:9/dicom-web").retrieve("1.2", uid))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_parts_do_not_depend_on_how_the_answer_is_cut(size: int) -> None:
    contents = [b"one", b"two\r\n--edg\r\n-- three", bytes(100), b""]
    whole = b"preamble" + b"\r\n" + body(contents) + b"epilogue"
    chunks = (whole[at : at + size] for at in range(0, len(whole), size))
    assert list(parts(chunks, b"edge", 1000)) == contents


def test_a_part_that_never_ends_stops_at_the_bound() -> None:
    def endless() -> Iterator[bytes]:
        yield b"--edge\r\n\r\n"
        while True:
            yield bytes(1 << 16)

    with pytest.raises(TooLong):
        list(parts(endless(), b"edge", 1 << 20))


def test_a_part_without_header_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no header"):
        list(parts([b"--edge\r\nbare\r\n--edge--"], b"edge", 1000))
    with pytest.raises(BrokenOff):
        list(parts([], b"edge", 1000))


def test_boundary_is_read_as_the_standard_writes_it() -> None:
    assert boundary_of('multipart/related; boundary="a b"; type="application/dicom"') == b"a b"
    assert boundary_of("Multipart/Related;Boundary=x") == b"x"
    assert boundary_of("multipart/related") is None
    assert boundary_of("application/dicom") is None
