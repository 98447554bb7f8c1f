"""The pages without a mouse: each control is reached, in the order of the page, is seen, and acts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from orthanc_plugin.domain.job import JobState
from tests.browser.pages import opened, until
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

MOST_STOPS = 120
_STOP = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
  window.stops = [...(window.stops ?? []), at];
  return {
    tag: at.tagName,
    name: at.innerText?.trim() || at.getAttribute("aria-label") || at.name || at.id,
    seen: box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0
      && box.left < innerWidth && box.top < innerHeight,
    ringed: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
  };
}"""
# A date has several stops: day, month, year and its calendar.
_ORDERED = """() => window.stops.every((stop, n) => {
  const before = window.stops[n - 1] ?? stop;
  return stop === before || before.compareDocumentPosition(stop) & Node.DOCUMENT_POSITION_FOLLOWING;
})"""
_REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((one) => one.checkVisibility() && !one.disabled)
  .filter((one) => !window.stops.includes(one))
  .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.fixture
def door(tmp_path: Path) -> Iterator[FrontDoor]:
    with front_door(tmp_path) as door:
        for number in range(3):
            finish(door.queue, enqueue(door.queue, f"1.2.{number}"), JobState.FAILED, detail="StoreError: refused")
        finish(door.queue, enqueue(door.queue, "1.2.10"))
        enqueue(door.queue, "1.2.20")
        door.queue.enqueue(skipped("1.2.30"))
        yield door


@pytest.fixture
def page(door: FrontDoor, browser: BrowserContext) -> Iterator[Page]:
    """A page that is closed before the service, which would wait for its stream of events."""
    page = browser.new_page()
    yield page
    page.close()


def walk(page: Page) -> list[dict[str, Any]]:
    """Press Tab until the focus leaves the page, and tell each stop."""
    stops: list[dict[str, Any]] = []
    while len(stops) < MOST_STOPS:
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        stops.append(page.evaluate(_STOP))
    return stops


def test_a_part_that_comes_late_keeps_the_focus(page: Page, door: FrontDoor) -> None:
    job = door.queue.ledger.of_series("local", "1.2.10")[0].job_id
    opened(page, door, f"jobs/{job}")
    for focused in ("object-1-viewer", "objects-said"):
        page.reload(wait_until="load")
        page.evaluate(f"document.getElementById('{focused}').focus()")
        until(page, "document.querySelector('.described')", 90)
        assert page.evaluate("document.activeElement.id") == focused


@pytest.mark.parametrize("address", ["", "jobs/JOB", "series/1.2.30", "deliveries", "backfill", "rules", "system"])
def test_tab_reaches_every_control_in_the_order_of_the_page_and_shows_where_it_is(
    page: Page, door: FrontDoor, address: str
) -> None:
    job = door.queue.ledger.of_series("local", "1.2.10")[0].job_id
    opened(page, door, address.replace("JOB", job))
    page.evaluate("document.querySelectorAll('[hx-trigger*=intersect]').forEach((late) => late.scrollIntoView())")
    until(page, "!document.querySelector('.htmx-request, [hx-trigger*=intersect]')", 90)
    stops = walk(page)
    assert stops[0]["name"] == "Skip to the content"
    assert 5 < len(stops) < MOST_STOPS
    assert [stop for stop in stops if not (stop["seen"] and stop["ringed"])] == []
    assert page.evaluate(_ORDERED)
    assert page.evaluate(_REACHABLE) == []


def test_the_skip_link_leads_past_the_menu(page: Page, door: FrontDoor) -> None:
    opened(page, door, "")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.evaluate("document.activeElement.closest('header') === null")


def test_space_chooses_and_enter_acts(page: Page, door: FrontDoor) -> None:
    opened(page, door, "")
    page.locator('input[value="local/1.2.0"]').focus()
    page.keyboard.press("Space")
    assert page.locator('input[value="local/1.2.0"]').is_checked()
    page.locator("#chosen select").focus()
    page.keyboard.type("retry")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('said').textContent.startsWith('Done with 1 series')")
    assert door.queue.ledger.of_series("local", "1.2.0")[0].state is JobState.QUEUED
    page.get_by_role("button", name="Cancel series 1.2.20").focus()
    page.keyboard.press("Space")
    until(page, "document.querySelector('[aria-label=\"Retry series 1.2.20\"]')")
    assert door.queue.ledger.of_series("local", "1.2.20")[0].state is JobState.CANCELLED


def test_enter_in_a_field_searches_and_the_address_keeps_the_search(page: Page, door: FrontDoor) -> None:
    opened(page, door, "")
    page.get_by_label("Series UID, or its end").focus()
    page.keyboard.type("1.2.30")
    page.keyboard.press("Enter")
    page.wait_for_url("**/enrichment/?series=1.2.30*")
    assert page.locator("#rows tbody tr").count() == 1
