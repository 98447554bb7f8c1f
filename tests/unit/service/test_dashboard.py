"""The dashboard: it shows jobs and decisions, escapes hostile text and loads nothing from other sites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.service.dashboard import clock_time, seconds, short_uid
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        yield door


def test_empty_page_says_what_is_awaited(door: FrontDoor) -> None:
    page = door.ask("/enrichment/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "No jobs yet." in page.text
    assert "No decisions yet." in page.text


def test_page_shows_jobs_volumes_results_and_reasons(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.826.0.1.3680043.2.1125.100")
    finish(door.queue, job_id)
    door.queue.enqueue(skipped("1.2.200"))
    page = door.ask("/enrichment/").text
    assert "lung left <b>2,172 mL</b>" in page
    assert "segment chest_structures <b>6.7 s</b>" in page
    assert 'href="/dicom-web/studies/1.2.3/series/2.25.7/metadata"' in page
    assert "<b>too-few-slices</b>" in page
    assert f'href="/enrichment/api/v1/jobs/{job_id}"' in page


def test_hostile_text_stays_text(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.300", rule=HOSTILE)
    finish(door.queue, job_id, JobState.FAILED, detail=f"refused: {HOSTILE}", note=HOSTILE)
    door.queue.enqueue(skipped("1.2.301", detail=HOSTILE))
    page = door.ask("/enrichment/").text
    assert page.count("&lt;script&gt;alert(1)") >= 4
    assert "<script>alert" not in page
    assert f'data-act="jobs/{job_id}/retry"' in page


def test_page_needs_nothing_from_outside_and_no_inline_code(door: FrontDoor) -> None:
    page = door.ask("/enrichment/").text
    linked = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith("/") for link in linked)
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
