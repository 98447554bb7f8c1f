"""The pages in a real browser: no violation of WCAG AA, no error, no foreign request, nothing that a name could run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from orthanc_plugin.domain.job import JobState
from tests.browser.chromium import Watch
from tests.support.cases.location_case import CHEST
from tests.support.servers.front_door import PASSWORD, USER, FrontDoor, enqueue, finish, front_door, skipped
from tests.support.servers.orthanc_server import wait_until

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
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
def page(browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def opened(page: Page, door: FrontDoor, address: str) -> Watch:
    """Open a page of the service, logged in, and wait until its parts have come."""
    watch = Watch(page)
    url = door.url.replace("http://", f"http://{USER}:{PASSWORD}@")
    page.goto(f"{url}/enrichment/{address}", wait_until="load")
    until(page, "!document.querySelector('.htmx-request, [hx-trigger=load]')")
    return watch


def until(page: Page, condition: str) -> None:
    """Wait for a condition; Playwright's own wait needs `eval`, which the policy of the pages forbids."""
    wait_until(lambda: page.evaluate(f"() => Boolean({condition})"), 30, condition)


def violations(page: Page) -> list[str]:
    """What axe-core finds, as rule and place."""
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES)
    return [f"{v['id']}: {node['html'][:160]} {json.dumps(node.get('failureSummary', ''))[:300]}"
            for v in found["violations"] for node in v["nodes"]]  # fmt: skip


PAGES = [
    "", "?state=failed", "JOB", "series/1.2.200", "deliveries?state=queued", "backfill", "rules", "system", "api/",
    "jobs/none",
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", PAGES)
def test_no_page_violates_wcag_aa_and_none_runs_what_a_name_says(
    page: Page, door: FrontDoor, address: str, scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    watch = opened(page, door, address.replace("JOB", f"jobs/{job_of(door, '1.2.100')}"))
    assert violations(page) == []
    assert page.evaluate("window.hacked") is None
    unexpected = [text for text in watch.failures if "jobs/none" not in text and "favicon" not in text]
    assert [text for text in unexpected if "/rules/verdicts" not in text] == []
    assert [text for text in watch.errors if "404" not in text] == []
    assert HOSTILE.split()[0] not in page.title()


@pytest.mark.parametrize("address", ["JOB"])
def test_a_phone_shows_everything_without_scrolling_sideways(page: Page, door: FrontDoor, address: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    opened(page, door, address.replace("JOB", f"jobs/{job_of(door, '1.2.100')}"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page) == []
