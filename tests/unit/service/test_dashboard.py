"""The dashboard: it shows jobs and decisions, escapes hostile text and loads nothing from other sites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

import pytest

from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.job import JobState, StageView
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.service import words
from orthanc_plugin.service.pages import HERE, clock_time, millilitres, seconds, short_uid
from tests.support.cases.realct import ROOT
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

PERSON = {"Accept": "text/html,*/*;q=0.8"}
HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        yield door


def test_empty_page_says_what_is_awaited(door: FrontDoor) -> None:
    page = door.ask("/enrichment/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "No series yet." in page.text


def test_page_shows_jobs_volumes_results_and_reasons(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.826.0.1.3680043.2.1125.100")
    finish(door.queue, job_id)
    door.queue.enqueue(skipped("1.2.200"))
    page = door.ask("/enrichment/").text
    assert "lung left <b>2,172 mL</b>" in page
    assert "6.7 s, 1 object" in page
    assert "<b>It has too few slices</b>" in page
    assert f'href="/enrichment/jobs/{job_id}"' in page
    assert 'href="/enrichment/series/1.2.200?archive=local"' in page


def test_each_row_shows_the_first_six_volumes_and_how_many_more_there_are(door: FrontDoor) -> None:
    volumes = {f"organ_{number}": 0.43 * 10**number for number in range(8)}
    for series in ("1.2.400", "1.2.401"):
        job_id = enqueue(door.queue, series)
        assert door.queue.ledger.start(job_id)
        stage = StageView("segment chest_structures", 6.7, 477.2, "cpu", volumes)
        door.queue.ledger.end(job_id, JobState.DONE, "", "", Summary((stage,), ()))
    rows = door.ask("/enrichment/").text.split("<tr>")[2:4]
    for row in rows:
        assert re.findall(r'class="volume">([^<]+) <b>', row) == [f"organ {number}" for number in range(6)]
        assert "organ 0 <b>0.43 mL</b>" in row
        assert "and 2 more</a>" in row


def test_volumes_of_two_models_name_the_model_where_both_found_the_structure(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.500")
    assert door.queue.ledger.start(job_id)
    stages = (
        StageView("segment chest_structures", 6.7, 477.2, "cpu", {"lung_left": 2171.6, "bone": 4.0}),
        StageView("segment total-fast", 6.7, 477.2, "cpu", {"lung_left": 2000.1, "heart": 5.0}),
    )
    door.queue.ledger.end(job_id, JobState.DONE, "", "", Summary(stages, ()))
    row = door.ask("/enrichment/?series=1.2.500").text
    assert re.findall(r'class="volume">([^<]+) <b>([^<]+)<', row) == [
        ("bone", "4.0 mL"), ("lung left (chest_structures)", "2,172 mL"),
        ("heart", "5.0 mL"), ("lung left (total-fast)", "2,000 mL"),
    ]  # fmt: skip
    page = door.ask(f"/enrichment/jobs/{job_id}").text
    assert re.findall(r'<tr><td>([^<]+)</td>\s*<td class="number">[^<]+ mL<', page) == [
        "Bone", "Lung left (chest_structures)", "Heart", "Lung left (total-fast)",
    ]  # fmt: skip


def test_hostile_text_stays_text(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.300", rule=HOSTILE)
    finish(door.queue, job_id, JobState.FAILED, detail=f"refused: {HOSTILE}", note=HOSTILE)
    door.queue.enqueue(skipped("1.2.301", detail=HOSTILE))
    page = door.ask("/enrichment/").text
    assert page.count("&lt;script&gt;alert(1)") >= 3
    assert "&lt;script&gt;alert(1)" in door.ask(f"/enrichment/jobs/{job_id}").text
    assert "<script>alert" not in page
    assert f'data-act="jobs/{job_id}/retry"' in page
    for address in (f"/enrichment/?rule={quote(HOSTILE)}", f"/enrichment/?text={quote(HOSTILE)}&series=%3Cb%3E"):
        assert "<script>alert" not in door.ask(address).text


@pytest.mark.parametrize("address", ["", "deliveries", "backfill", "system", "jobs/none"])
def test_pages_need_nothing_from_outside_and_no_inline_code(door: FrontDoor, address: str) -> None:
    page = door.ask(f"/enrichment/{address}", headers=PERSON).text
    assert "<h1>" in page
    linked = re.findall(r'(?:src|href|action|hx-get)="([^"]*)"', page)
    assert all(link.startswith(("/", "#")) for link in linked)
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", page.replace("&lt;", ""))
    for path in [link for link in linked if "/static/" in link]:
        assert door.ask(path).status_code == 200


@pytest.mark.parametrize("path", ["/", "/enrichment"])
def test_root_leads_to_the_dashboard(door: FrontDoor, path: str) -> None:
    answer = door.ask(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/enrichment/")


def test_static_files_stay_in_their_folder(door: FrontDoor) -> None:
    for path in ("../main.py", "..%2fmain.py", "%2e%2e/templates/dashboard.html"):
        assert door.ask(f"/enrichment/static/{path}").status_code == 404


def test_figures_read_well() -> None:
    assert (seconds(6.72), seconds(99.96), seconds(185)) == ("6.7 s", "100.0 s", "3 min 05 s")
    assert (short_uid("1.2.3"), short_uid("1.2.826.0.1.3680043.2.1125.1")) == ("1.2.3", "…043.2.1125.1")
    assert (clock_time(None), clock_time(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))) == ("", "2026-01-02 03:04:05")
    assert [millilitres(ml) for ml in (2171.6, 99.94, 0.126)] == ["2,172 mL", "99.9 mL", "0.13 mL"]


def test_a_person_gets_a_page_for_what_does_not_exist_and_a_program_an_error(door: FrontDoor) -> None:
    for address in ("jobs/none", "series/1.2.999", "series/none", "nowhere"):
        page = door.ask(f"/enrichment/{address}", headers=PERSON)
        assert (page.status_code, "<h1>Not found</h1>" in page.text) == (404, True)
        assert door.ask(f"/enrichment/{address}").json()["error"]["code"] == "not-found"
    assert door.ask("/enrichment/api/v1/jobs/none", headers=PERSON).json()["error"]["code"] == "not-found"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        for number in range(60):
            enqueue(door.queue, f"1.2.100.{number}", rule="chest" if number % 2 else "head")
        failed = enqueue(door.queue, "1.2.3.4444", rule="chest")
        finish(door.queue, failed, JobState.FAILED, detail="StoreError: refused")
        door.queue.enqueue(skipped("1.2.5"))
        yield door


class TestSearch:
    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("", 62),
            ("state=failed", 1),
            ("state=queued,failed", 61),
            ("series=4444", 1),
            ("series=1.2.3.4444", 1),
            ("series=…4444", 1),
            ("study=1.2.3", 62),
            ("study=1.2.9", 0),
            ("reason=too-few-slices", 1),
            ("text=refused", 1),
            ("rule=head", 30),
            ("model=chest_structures", 61),
            ("model=chest", 0),
            ("since=2026-01-02&until=2026-01-02", 62),
            ("until=2026-01-01", 0),
            ("since=2026-01-02T03:04:06", 0),
            ("archive=far", 0),
            ("standing=yes&rule=chest&state=queued", 30),
        ],
    )
    def test_filters_of_page_and_api_find_the_same(self, found: FrontDoor, query: str, count: int) -> None:
        listed = found.ask(f"/enrichment/api/v1/series?limit=500&{query}").json()["series"]
        page = found.ask(f"/enrichment/?limit=500&{query}").text
        assert (len(listed), page.count('name="series" value="local/')) == (count, count)

    @pytest.mark.parametrize("query", ["state=lost", "study=x", "since=soon", "standing=no", "limit=0", "foo=1"])
    def test_what_cannot_be_is_refused_with_a_reason(self, found: FrontDoor, query: str) -> None:
        for address in ("/enrichment/", "/enrichment/api/v1/series", "/enrichment/api/v1/jobs"):
            answer = found.ask(f"{address}?{query}")
            assert answer.status_code == 400, (address, answer.text)

    def test_pages_follow_each_other_and_keep_the_search(self, found: FrontDoor) -> None:
        first = found.ask("/enrichment/?model=chest_structures").text
        (older,) = re.findall(r'rel="next" href="([^"]*)"', first)
        second = found.ask(older.replace("&amp;", "&")).text
        rows = [re.findall(r'value="local/([^"]*)"', page) for page in (first, second)]
        assert ([len(page) for page in rows], rows[0][0]) == ([50, 11], "1.2.3.4444")
        assert not set(rows[0]) & set(rows[1])
        assert 'rel="prev" href="/enrichment/?model=chest_structures"' in second


def test_every_kind_of_result_and_every_check_has_a_name() -> None:
    assert all(words.kind(output) != output and " " in f"{words.kind(output)} " for output in Output)
    assert all(words.check(check) != check for check in Check)
    assert words.reason("a-new-one") == "a new one"


def test_the_vendored_library_is_the_one_that_the_decision_names() -> None:
    (file,) = (HERE / "static" / "vendor").glob("htmx-*.js")
    decision = (ROOT / "docs" / "decisions" / "0025-pages.md").read_text()
    assert file.name in decision
    assert sha256(file.read_bytes()).hexdigest() in decision
