"""Archive and feed against a real Orthanc: what it answers is what the code believes it answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SegmentationStorage, generate_uid

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.archive.orthanc import OrthancFeed
from orthanc_plugin.archive.probe import find_problem
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import (
    InputError,
    NotSupportedError,
    Refusal,
    StoreError,
    TransientError,
    UnclearRefusalError,
)
from tests.support.fakes.memory_archive import ct_series, ct_slice
from tests.support.servers.orthanc_server import OrthancServer, free_port


@pytest.fixture
def archive(orthanc: OrthancServer) -> Iterator[DicomWebArchive]:
    with closing(DicomWebArchive("local", orthanc.dicomweb_url, orthanc.user, orthanc.password)) as made:
        yield made


@pytest.fixture
def feed(orthanc: OrthancServer) -> Iterator[OrthancFeed]:
    with closing(OrthancFeed("local", orthanc.url, orthanc.user, orthanc.password)) as made:
        yield made


def settings_of(orthanc: OrthancServer, **changed: str) -> ArchiveSettings:
    addresses = {"Url": orthanc.dicomweb_url, "OrthancUrl": orthanc.url}
    account = {"User": orthanc.user, "Password": orthanc.password}
    return ArchiveSettings.model_validate(addresses | account | changed)


def new_series(slices: int = 3, patient: str = "P1", study: str = "") -> list[Dataset]:
    series = str(generate_uid())
    return ct_series(slices, series=series[:56], study=study or str(generate_uid()), patient=patient)


def place(ds: Dataset) -> tuple[str, str]:
    return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)


def store(archive: DicomWebArchive, series: list[Dataset]) -> None:
    for ds in series:
        archive.store(ds)


def test_what_is_stored_comes_back(archive: DicomWebArchive) -> None:
    series = new_series()
    store(archive, series)
    retrieved = {ds.SOPInstanceUID: ds for ds in archive.retrieve(*place(series[0]))}
    assert set(retrieved) == {ds.SOPInstanceUID for ds in series}
    assert all(retrieved[ds.SOPInstanceUID].PixelData == ds.PixelData for ds in series)
    headers = archive.headers(*place(series[0]))
    assert {h.SOPInstanceUID for h in headers} == set(retrieved)
    assert {h.FrameOfReferenceUID for h in headers} == {"1.2.9"}
    assert all("PixelData" not in h or not h.PixelData for h in headers)
    found = archive.find(*place(series[0]), series[0].SOPInstanceUID)
    assert found is not None
    assert found.ImagePositionPatient == series[0].ImagePositionPatient


def test_the_first_object_of_a_uid_stays(archive: DicomWebArchive) -> None:
    first = new_series(1)[0]
    archive.store(first)
    second = ct_slice(1, series=first.SeriesInstanceUID, study=first.StudyInstanceUID)
    second.PixelData = bytes([1]) * 128
    archive.store(second)
    found = archive.find(*place(first), first.SOPInstanceUID)
    assert found is not None
    assert found.PixelData == first.PixelData


def test_what_is_not_there_is_none_empty_or_gone(archive: DicomWebArchive) -> None:
    assert archive.find("1.2.3", "1.2.3", "1.2.3") is None
    assert archive.headers("1.2.3", "1.2.3") == ()
    assert archive.same_series_studies("1.2.3") == ()
    assert archive.ct_series("1.2.3") == ()
    with pytest.raises(InputError) as refusal:
        list(archive.retrieve("1.2.3", "1.2.3"))
    assert refusal.value.reason is Refusal.GONE


def test_the_ct_series_of_a_study_are_listed_without_its_results(archive: DicomWebArchive) -> None:
    one, report = new_series(1)[0], new_series(1)[0]
    other = ct_slice(1, series=str(generate_uid())[:55] + "1", study=one.StudyInstanceUID)
    report.StudyInstanceUID, report.Modality = one.StudyInstanceUID, "SR"
    store(archive, [one, other, report])
    assert set(archive.ct_series(one.StudyInstanceUID)) == {one.SeriesInstanceUID, other.SeriesInstanceUID}


@pytest.mark.parametrize("same_study", [True, False])
def test_a_series_under_two_patients_is_seen(archive: DicomWebArchive, same_study: bool) -> None:
    one = new_series(1, patient="P1")[0]
    other = ct_slice(2, series=one.SeriesInstanceUID, study=one.StudyInstanceUID, patient="P2")
    if not same_study:
        other.StudyInstanceUID = str(generate_uid())
    store(archive, [one, other])
    places = {(one.StudyInstanceUID, "P1"), (other.StudyInstanceUID, "P2")}
    assert set(archive.same_series_studies(one.SeriesInstanceUID)) == places


def test_a_refused_object_is_a_store_error_with_the_answer(archive: DicomWebArchive) -> None:
    ds = new_series(1)[0]
    del ds.SOPClassUID
    with pytest.raises(StoreError, match="archive local answered 400 Bad Request"):
        archive.store(ds)


def test_a_wrong_password_is_told_as_the_archive_tells_it(orthanc: OrthancServer) -> None:
    with closing(DicomWebArchive("local", orthanc.dicomweb_url, orthanc.user, "wrong")) as stranger:
        with pytest.raises(TransientError, match="401 Unauthorized"):
            stranger.headers("1.2.3", "1.2.3")
        with pytest.raises(StoreError, match="401 Unauthorized"):
            stranger.store(new_series(1)[0])


def test_an_archive_that_is_away_is_transient() -> None:
    away = DicomWebArchive("local", f"http://127.0.0.1:{free_port()}/dicom-web")
    with pytest.raises(TransientError):
        away.headers("1.2.3", "1.2.3")
    with pytest.raises(TransientError):
        away.store(new_series(1)[0])
    with pytest.raises(TransientError):
        OrthancFeed("local", f"http://127.0.0.1:{free_port()}").last_sequence()


@contextmanager
def answering(reply: bytes) -> Iterator[DicomWebArchive]:
    """A server that reads a request and gives one answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.wfile.write(reply)
            self.close_connection = True

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        with closing(DicomWebArchive("local", f"http://127.0.0.1:{server.server_port}/dicom-web")) as archive:
            yield archive
        thread.join(10)


def answer(status: str, body: str, kind: str = "application/dicom+json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


FAILED = '{"00081198":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[42752]}}]}}'


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (answer("200 OK", FAILED), StoreError, "failure reason 0xA700"),
        (answer("409 Conflict", FAILED), StoreError, "409 Conflict: failure reason 0xA700"),
        (answer("200 OK", "{}"), StoreError, "does not list"),
        (answer("507 Insufficient Storage", '{"Message": "Storage area is full"}'), StoreError, "Storage area is full"),
        (answer("503 Service Unavailable", ""), TransientError, "503 Service Unavailable"),
    ],
)
def test_the_answer_to_a_store_is_read_instance_by_instance(reply: bytes, error: type[Exception], said: str) -> None:
    with answering(reply) as archive, pytest.raises(error, match=said):
        archive.store(new_series(1)[0])


def failed_with(reason: int) -> str:
    return FAILED.replace("42752", str(reason))


@pytest.mark.parametrize(
    ("sop_class", "reply", "error"),
    [
        (SegmentationStorage, answer("202 Accepted", failed_with(0x0122)), NotSupportedError),
        (SegmentationStorage, answer("409 Conflict", failed_with(0x0122)), NotSupportedError),
        (SegmentationStorage, answer("200 OK", failed_with(0x0110)), UnclearRefusalError),
        (SegmentationStorage, answer("409 Conflict", failed_with(0xA900)), NotSupportedError),
        (SegmentationStorage, answer("409 Conflict", f"[{failed_with(0x0122)}]"), NotSupportedError),
        (SegmentationStorage, answer("415 Unsupported Media Type", ""), NotSupportedError),
        (CTImageStorage, answer("409 Conflict", failed_with(0x0110)), StoreError),
        (SegmentationStorage, answer("409 Conflict", "<NativeDicomModel/>", "application/dicom+xml"), StoreError),
        (SegmentationStorage, answer("409 Conflict", "{", "application/json"), StoreError),
        (SegmentationStorage, answer("429 Too Many Requests", ""), TransientError),
    ],
)
def test_a_kind_of_object_that_is_not_supported_is_told_apart(
    sop_class: str, reply: bytes, error: type[Exception]
) -> None:
    ds = new_series(1)[0]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    with answering(reply) as archive, pytest.raises(error) as refusal:
        archive.store(ds)
    assert type(refusal.value) is error


def test_an_object_that_is_stored_with_a_warning_is_stored(caplog: pytest.LogCaptureFixture) -> None:
    ds = new_series(1)[0]
    item = {"00081155": {"vr": "UI", "Value": [ds.SOPInstanceUID]}, "00081196": {"vr": "US", "Value": [0xB000]}}
    body = json.dumps({"00081199": {"vr": "SQ", "Value": [item]}})
    with answering(answer("202 Accepted", body)) as archive:
        archive.store(ds)
    assert "with warning reason 0xB000" in caplog.text


@pytest.mark.parametrize(
    "said", [b"", b"<NativeDicomModel/>", b"stored"], ids=["no body", "another media type", "a text"]
)
@pytest.mark.parametrize("keeps", [True, False])
def test_an_answer_that_says_nothing_is_checked_by_reading_back(said: bytes, keeps: bool) -> None:
    """A server that stores, or does not, and whose answer to a store tells neither."""
    kept: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.append(body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")])
            self.reply(200, said, "application/dicom+xml" if said else "")

        def do_GET(self) -> None:
            self.reply(200 if keeps else 404, kept[0] if keeps else b"", "application/dicom")

        def reply(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            if kind:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with closing(DicomWebArchive("local", f"http://127.0.0.1:{server.server_port}/dicom-web")) as archive:
                if keeps:
                    archive.store(new_series(1)[0])
                else:
                    with pytest.raises(StoreError, match="answered 200 OK but does not have"):
                        archive.store(new_series(1)[0])
        finally:
            server.shutdown()
            thread.join()


def test_a_part_that_is_no_dicom_makes_the_series_unreadable() -> None:
    body = "--b\r\nContent-Type: application/dicom\r\n\r\nrubbish\r\n--b--"
    reply = answer("200 OK", body, 'multipart/related; type="application/dicom"; boundary=b')
    with answering(reply) as archive, pytest.raises(InputError) as refusal:
        list(archive.retrieve("1.2.3", "1.2.3"))
    assert refusal.value.reason is Refusal.UNREADABLE


def test_the_feed_names_each_touched_series_once(archive: DicomWebArchive, feed: OrthancFeed) -> None:
    since = feed.last_sequence()
    one, other = new_series(), new_series(2)
    store(archive, [one[0], *other, one[1], one[2]])
    changes = feed.changes(since)
    uids = [series.series_instance_uid for i in changes.orthanc_series_ids if (series := feed.series(i)) is not None]
    ours = [one[0].SeriesInstanceUID, other[0].SeriesInstanceUID]
    assert [uid for uid in uids if uid in ours] == ours  # an earlier test's series may become stable meanwhile
    assert changes.done
    assert changes.last > since


def test_the_feed_passes_over_what_was_deleted(
    orthanc: OrthancServer, archive: DicomWebArchive, feed: OrthancFeed
) -> None:
    since, ours = feed.last_sequence(), new_series()
    store(archive, ours)
    uids = {i: series.series_instance_uid for i in feed.changes(since).orthanc_series_ids if (series := feed.series(i))}
    (orthanc_id,) = (i for i, uid in uids.items() if uid == ours[0].SeriesInstanceUID)
    orthanc.rest(f"/series/{orthanc_id}", "DELETE")
    assert orthanc_id not in feed.changes(since).orthanc_series_ids  # an earlier test's series may become stable
    assert feed.series(orthanc_id) is None


def test_the_feed_tells_content_reception_and_origin(archive: DicomWebArchive, feed: OrthancFeed) -> None:
    series = new_series(2)
    archive.store(series[0])
    orthanc_id = feed.lookup(*place(series[0]))
    before = feed.series(orthanc_id)
    archive.store(series[0])
    assert feed.series(orthanc_id) == before
    archive.store(series[1])
    after = feed.series(orthanc_id)
    assert before is not None
    assert after is not None
    assert (after.study_instance_uid, after.series_instance_uid) == place(series[0])
    assert (after.modality, after.origin) == ("CT", "Plugins")
    assert after.content != before.content
    assert after.received >= before.received != ""
    assert feed.lookup("1.2.3", "1.2.3") == ""


def test_a_right_address_has_no_problem(orthanc: OrthancServer, archive: DicomWebArchive) -> None:
    store(archive, new_series(1))
    assert find_problem("local", settings_of(orthanc)) == ""


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"Url": "{url}/dicom-wob"}, r"/dicom-wob/instances\?limit=1 answered 404"),
        ({"Url": "{url}/dicom-web/studies"}, r"/dicom-web/studies/instances\?limit=1"),
        ({"OrthancUrl": "{url}/nowhere"}, "/nowhere/statistics answered 404"),
        ({"OrthancUrl": "{url}/dicom-web"}, "/dicom-web/statistics"),
        ({"Password": "wrong"}, "/statistics answered 401"),
        ({"Url": "http://127.0.0.1:9/dicom-web"}, "nothing listens at its address"),
    ],
)
def test_a_wrong_address_is_named(
    orthanc: OrthancServer, archive: DicomWebArchive, wrong: dict[str, str], problem: str
) -> None:
    store(archive, new_series(1))
    changed = {key: value.format(url=orthanc.url) for key, value in wrong.items()}
    assert re.search(problem, find_problem("local", settings_of(orthanc, **changed)))


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "lists nothing, but Orthanc holds"),
        (answer("200 OK", "[]"), "lists nothing, but Orthanc holds"),
        (answer("200 OK", "<html>", "text/html"), "did not answer in JSON"),
    ],
)
def test_an_address_that_lists_nothing_is_compared_with_the_index(
    orthanc: OrthancServer, archive: DicomWebArchive, reply: bytes, problem: str
) -> None:
    store(archive, new_series(1))
    with answering(reply) as wrong:
        assert problem in find_problem("local", settings_of(orthanc, Url=str(wrong._client.base_url)))


@pytest.mark.parametrize(
    "status", [HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNPROCESSABLE_ENTITY]
)
def test_a_refusal_that_will_not_change_refuses_the_series(status: HTTPStatus) -> None:
    said = f"{status.value} {status.phrase}"  # Python 3.13 calls 422 "Unprocessable Content"
    with answering(answer(said, "")) as archive, pytest.raises(InputError, match=f"answered {said}") as refusal:
        archive.headers("1.2.3", "1.2.4")
    assert refusal.value.reason is Refusal.ARCHIVE_REFUSED


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("401 Unauthorized", "401 Unauthorized"),
        ("403 Forbidden", "403 Forbidden"),
        ("408 Timeout", "408 Request Timeout"),
        ("429 Slow Down", "429 Too Many Requests"),
        ("500 No room for DOE^JOHN", "500 Internal Server Error"),
    ],
)
def test_a_refusal_that_may_change_is_tried_again(status: str, told: str) -> None:
    """The words are the standard's: an archive's own may hold a patient's name."""
    with answering(answer(status, "")) as archive, pytest.raises(TransientError, match=told) as refusal:
        archive.headers("1.2.3", "1.2.4")
    assert "DOE" not in str(refusal.value)


def test_a_search_that_is_not_found_is_a_wrong_address() -> None:
    with answering(answer("404 Not Found", "")) as archive, pytest.raises(TransientError, match="check its Url"):
        archive.same_series_studies("1.2.3")


@pytest.mark.parametrize("uid", ["x?_method=DELETE", "1.2/../3", "1.2\n", "1.02"])
def test_what_is_not_a_uid_reaches_no_address(uid: str) -> None:
    away = DicomWebArchive("local", f"http://127.0.0.1:{free_port()}/dicom-web")
    asks = (
        lambda: away.same_series_studies(uid),
        lambda: away.headers("1.2", uid),
        lambda: list(away.retrieve(uid, "1.2")),
        lambda: away.find("1.2", "1.2", uid),
    )
    for ask in asks:
        with pytest.raises(InputError) as refusal:
            ask()
        assert refusal.value.reason is Refusal.BAD_UID


def test_an_instance_that_comes_during_retrieval_is_told(archive: DicomWebArchive) -> None:
    *first, late = new_series(4)
    store(archive, first)
    coming = archive.retrieve(*place(first[0]))
    next(coming)
    archive.store(late)
    with pytest.raises(TransientError, match="the series changed"):
        list(coming)
    assert len(list(archive.retrieve(*place(first[0])))) == 4


def test_an_instance_that_goes_during_retrieval_is_told(orthanc: OrthancServer, archive: DicomWebArchive) -> None:
    series = new_series(4)
    store(archive, series)
    coming = archive.retrieve(*place(series[0]))
    sent = next(coming)
    query = {"Level": "Instance", "Query": {"SOPInstanceUID": str(sent.SOPInstanceUID)}}
    (orthanc_id,) = orthanc.rest("/tools/find", "POST", query)
    orthanc.rest(f"/instances/{orthanc_id}", "DELETE")
    with pytest.raises(TransientError):
        list(coming)
    assert len(list(archive.retrieve(*place(series[0])))) == 3
