"""Requests that cannot be right: each is refused by a code and a sentence, and nothing is done."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.service import api
from orthanc_plugin.service.schema import Error
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

API = "/enrichment/api/v1"
NUL = "\x00"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        yield door


@pytest.fixture(scope="module")
def job(door: FrontDoor) -> str:
    job_id = enqueue(door.queue, "1.2.500")
    finish(door.queue, job_id)
    return job_id


def refused(door: FrontDoor, path: str, method: str = "GET", **more: object) -> tuple[int, str]:
    answer = door.ask(path, method, **more)  # type: ignore[arg-type]
    return answer.status_code, Error.model_validate_json(answer.content).error.message


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=0001-01-01T00:00%2B14:00", "since: must be a time of the years"),
        ("until=9999-12-31", "until: must be a time of the years"),
        ("until=99991231", "until: must be a time of the years"),
        ("since=9999-12-31T23:59-14:00", "since: must be a time of the years"),
        ("state=Doe^Jane", "state: must be one or more of queued, running"),
        ("limit=" + "9" * 5000, "limit: must be a number from 1 to 500"),
    ],
)
@pytest.mark.parametrize("path", [f"{API}/series", f"{API}/jobs"])
def test_a_filter_that_cannot_be_read_is_refused_and_not_repeated(
    door: FrontDoor, path: str, query: str, message: str
) -> None:
    status, said = refused(door, f"{path}?{query}")
    assert (status, message in said, "Doe" in said) == (400, True, False)


@pytest.mark.parametrize("day", ["2026-01-02", "20260102", "2026-W01-5"])
def test_a_day_as_the_end_is_included_however_it_is_written(door: FrontDoor, day: str) -> None:
    door.queue.enqueue(skipped("1.2.501"))
    found = door.ask(f"{API}/series?series=1.2.501&until={day}").json()["series"]
    assert [row["first_seen"] for row in found] == ["2026-01-02T03:04:05Z"]


def test_numbers_of_any_length_in_an_address_are_refused(door: FrontDoor, job: str) -> None:
    for index in ("9" * 5000, "-1", "1.5", "²", "x"):
        status, said = refused(door, f"{API}/jobs/{job}/slices/axial/{index}.png")
        assert (status, "no such plane" in said) == (404, True), index[:9]
    assert refused(door, f"/enrichment/jobs/{job}/radiomics?page={'9' * 5000}")[0] == 400


def test_a_text_that_a_database_would_cut_short_acts_on_nothing(door: FrontDoor) -> None:
    waiting = enqueue(door.queue, "1.2.510")
    rules = [{"Name": f"a{NUL}", "Models": ["chest_structures"]}]
    for path, body in (
        ("series/act", {"act": "cancel", "search": {"text": NUL}}),
        ("series/act", {"act": "cancel", "series": [f"local/{NUL}"]}),
        ("decide-again", {"archive": "local", "text": NUL}),
        ("backfills", {"archive": "local", "query": f"StudyDescription={NUL}"}),
        ("find", {"archive": "local", "patient_id": NUL}),
        ("rules/compare", {"rules": rules}),
    ):
        assert refused(door, f"{API}/{path}", "POST", json=body) == (
            400,
            "body: a text holds a control character; remove it",
        )
    assert door.queue.show(waiting).state is JobState.QUEUED


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("series/act", b"", "body: must be a JSON object"),
        ("series/act", b"[" * 50_000, "body: must be a JSON object"),
        ("series/act", b"{}", "act: is missing"),
        ("series/act", b'{"act": "fly"}', "act: must be 'retry', 'cancel', "),
        ("backfills", b'{"archive": "local", "limit": -1}', "limit: must be greater than or equal to 0"),
        ("backfills", b'{"archive": "local", "Doe^Jane": 1}', "it knows archive, query, studies, limit, again"),
        ("backfills", b'{"archive": "local", "query": "StudyDate=00010101-99991231"}', "more than 200 years"),
        ("backfills", b'{"archive": "local", "query": "StudyDate=20201301"}', "StudyDate is not a date or a range"),
        ("backfills", b'{"archive": "local", "query": "StudyDate=2020*"}', "StudyDate is not a date or a range"),
        ("backfills", b'{"archive": "local", "query": "Modality=CT"}', "try ModalitiesInStudy=CT"),
        ("decide-again", b'{"archive": "local", "reason": "none"}', "no decision that stands has this reason"),
        ("patients", b'{"archive": "local", "study_instance_uid": "1..2", "series_instance_uid": "1.2"}', "be UIDs"),
        ("find", b'{"archive": "local", "patient_id": "  "}', "accession_number or patient_id must be given"),
        ("rules/compare", b'{"rules": "x"}', "rules: must be a valid array"),
    ],
)
def test_a_wrong_body_is_refused_by_a_sentence_that_names_the_field(
    door: FrontDoor, path: str, body: bytes, message: str
) -> None:
    status, said = refused(door, f"{API}/{path}", "POST", content=body)
    assert (status, message in said, "Doe" in said) == (400, True, False), said


def test_a_field_of_a_form_that_is_given_twice_is_refused(door: FrontDoor) -> None:
    form = {"content": b"archive=local&patient_id=1&patient_id=2"}
    assert refused(door, "/enrichment/find", "POST", **form) == (400, "a field is given twice")


def test_wrong_methods_and_addresses_say_what_is_right(door: FrontDoor) -> None:
    answer = door.ask(f"{API}/backfills", "DELETE")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert answer.json()["error"]["message"] == "this address takes only GET, HEAD, POST"
    assert refused(door, "/enrichment/static/acts.js", "POST") == (405, "this address takes only GET, HEAD")
    assert "/enrichment/api/" in refused(door, f"{API}/nothing")[1]
    assert refused(door, f"{API}/jobs/", "POST")[0] == 404


@pytest.mark.parametrize(
    ("path", "other"),
    [
        (f"{API}/jobs/?limit=1", f"{API}/jobs?limit=1"),
        ("/enrichment/api", "/enrichment/api/"),
        ("/enrichment/system/", "/enrichment/system"),
    ],
)
def test_a_slash_too_many_or_too_few_leads_on_without_naming_a_scheme(door: FrontDoor, path: str, other: str) -> None:
    answer = door.ask(path)
    assert (answer.status_code, answer.headers["location"]) == (307, other)


def test_an_error_outside_of_every_handler_has_a_code_too(door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(door.routes[0], "matches", fail)
    answer = door.ask(f"{API}/health")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "Doe" not in answer.text


def test_a_table_that_this_service_cannot_write_is_501(
    door: FrontDoor, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> bytes:
        raise ConfigError("pyarrow is not installed: install the extra parquet")

    monkeypatch.setattr(api, "to_parquet", lacking)
    answer = door.ask(f"{API}/jobs/{job}/radiomics.parquet")
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not-installed")


def test_the_page_shows_the_preview_of_each_model_and_the_api_no_other(door: FrontDoor) -> None:
    job_id, sop_class = enqueue(door.queue, "1.2.520"), "1.2.840.10008.5.1.4.1.1.7"
    stored = [StoredObject(Output.PREVIEW, sop_class, "1.2.3", f"1.2.{n}", f"1.2.{n}.1", False) for n in (7, 8)]
    assert door.queue.ledger.start(job_id)
    door.queue.ledger.end(job_id, JobState.DONE, "", "", Summary((), tuple(stored)))
    page = door.ask(f"/enrichment/jobs/{job_id}").text
    assert re.findall(r"preview\.png\?object=([0-9.]+)", page) == ["1.2.7.1", "1.2.8.1"]
    assert re.findall("<h3>(Preview.*?)</h3>", page) == ["Preview 1 of 2", "Preview 2 of 2"]
    for named in ("1.2.9.1", "Doe"):
        status, said = refused(door, f"{API}/jobs/{job_id}/preview.png?object={named}")
        assert (status, said.startswith("object: must be the SOPInstanceUID"), "Doe" in said) == (404, True, False)


def test_a_series_that_is_not_there_is_named_in_the_answer(door: FrontDoor) -> None:
    for act in ("retry", "decide-again", "urgent"):
        answer = door.ask(f"{API}/series/act", "POST", json={"act": act, "series": ["local/9.9.9", "zzz"]}).json()
        assert (answer["done"], answer["not_done"]) == (0, 2)
        assert [one["series_instance_uid"] for one in answer["problems"]] == ["9.9.9", "zzz"]


def test_equal_orders_at_the_same_time_are_one(door: FrontDoor) -> None:
    bodies = [{"archive": "local", "query": "StudyDate=20200101"}, {"archive": "local", "studies": ["1.2.3"]}] * 6
    with ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(lambda body: door.ask(f"{API}/backfills", "POST", json=body), bodies))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 2


def test_the_head_of_events_holds_no_stream_open(door: FrontDoor) -> None:
    answer = door.ask(f"{API}/events", "HEAD")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_deliveries_are_found_by_every_state_that_is_asked_for(door: FrontDoor) -> None:
    door.queue.deliveries.add("a-job", "far", "{}")
    for states, found in (("queued", 1), ("failed,queued", 1), ("failed", 0), ("skipped", 0), ("", 1)):
        for path in (f"{API}/deliveries", "/enrichment/deliveries"):
            answer = door.ask(f"{path}?state={states}")
            shown = answer.text.count("retry</button>") + answer.text.count("cancel</button>")
            assert (len(answer.json()["deliveries"]) if path.startswith(API) else shown) == found, (path, states)


def test_files_without_a_valid_uid_are_a_series_that_cannot_be_asked_about(door: FrontDoor) -> None:
    body = b"".join(part_10(uid) for uid in ("", ["1.2", "1.3"], "1.2.9"))
    page = door.ask("/enrichment/rules/files", "POST", content=body).text
    assert re.findall(r"<h3>(.+?), (\d) file", page) == [
        ("Series without a UID", "2"),
        ('Series <code class="digest">1.2.9</code>', "1"),
    ]
    assert page.count("its SeriesInstanceUID is missing or not valid") == 1


def part_10(series_uid: object) -> bytes:
    """A file as the page sends it: after its length."""
    ds = Dataset()
    ds.SeriesInstanceUID = series_uid
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2"
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return struct.pack("<I", len(file.getvalue())) + file.getvalue()
