"""The pages in a real browser: no violation of WCAG AA, no error, no foreign request, nothing that a name could run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import BrowserContext, Page

from orthanc_plugin.domain.job import JobState
from tests.browser.pages import PHONE, opened, too_wide, until, violations
from tests.support.cases.location_case import CHEST
from tests.support.servers.front_door import PASSWORD, USER, FrontDoor, enqueue, finish, front_door, skipped

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\''


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        finish(door.queue, enqueue(door.queue, "1.2.100", rule=HOSTILE), location=CHEST, note=HOSTILE)
        finish(door.queue, enqueue(door.queue, "1.2.101"), JobState.FAILED, detail=f"refused: {HOSTILE}")
        door.queue.ledger.start(enqueue(door.queue, "1.2.102"))
        enqueue(door.queue, "1.2.103")
        door.queue.enqueue(skipped("1.2.200", detail=HOSTILE))
        door.queue.deliveries.add(enqueue(door.queue, "1.2.104"), "far", "{}")
        yield door


def job_of(door: FrontDoor, series: str) -> str:
    return door.queue.ledger.of_series("local", series)[0].job_id


@pytest.fixture
def page(door: FrontDoor, browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


PAGES = [
    "", "?state=failed", "JOB", "series/1.2.200", "deliveries?state=queued", "backfill", "rules", "system", "api/",
    "jobs/none",
]  # fmt: skip
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.mark.parametrize("address", PAGES)
def test_no_page_violates_wcag_aa_and_none_runs_what_a_name_says(page: Page, door: FrontDoor, address: str) -> None:
    watch = opened(page, door, address.replace("JOB", f"jobs/{job_of(door, '1.2.100')}"))
    grounds = set[str]()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert violations(page) == [], scheme
    assert len(grounds) == len(SCHEMES)
    assert page.evaluate("window.hacked") is None
    unexpected = [text for text in watch.failures if "jobs/none" not in text and "favicon" not in text]
    assert [text for text in unexpected if "/rules/verdicts" not in text] == []
    assert [text for text in watch.errors if "404" not in text] == []
    assert HOSTILE.split()[0] not in page.title()


@pytest.mark.parametrize("address", PAGES)
def test_a_phone_shows_everything_without_scrolling_sideways(
    page: Page, door: FrontDoor, address: str, picture: Callable[[str], Path]
) -> None:
    page.set_viewport_size(PHONE)
    opened(page, door, address.replace("JOB", f"jobs/{job_of(door, '1.2.100')}"))
    page.screenshot(path=picture(f"phone-{address.strip('/').replace('/', '-').replace('?', '-') or 'series'}"))
    assert too_wide(page) == []
    assert violations(page) == []


def test_a_person_logs_in_by_the_form_and_out_by_the_button(
    browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]
) -> None:
    with front_door(tmp_path, section={"Access": {"Login": "form", "Viewers": [USER]}}) as door:
        page = browser.new_page()
        page.goto(f"{door.url}/enrichment/deliveries")
        page.get_by_label("User of Orthanc").fill(USER)
        page.get_by_label("Password").fill(PASSWORD)
        assert violations(page) == []
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/enrichment/deliveries")
        assert USER in page.locator("header").inner_text()
        assert violations(page) == []
        page.get_by_role("link", name="Series").click()
        page.get_by_role("button", name="Pause the queue").click()
        until(page, "document.getElementById('said').textContent")
        assert "may not do this: it needs the right to pause" in page.locator("#said").inner_text()
        page.screenshot(path=picture("session"))
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/enrichment/login")
        page.goto(f"{door.url}/enrichment/deliveries")
        assert page.locator("h1").inner_text() == "Log in"
        page.close()
