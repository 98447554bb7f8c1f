"""The pages of the service in a browser: open one, wait for what it shows, and judge it by axe-core."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from playwright.sync_api import Page, ViewportSize

from tests.browser.chromium import Watch
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.servers.front_door import PASSWORD, USER, FrontDoor
from tests.support.servers.orthanc_server import wait_until

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PHONE: ViewportSize = {"width": 375, "height": 740}
# What lies in a box that scrolls by itself may be wider than the screen.
_TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("body *")]
    .filter((one) => !one.parentElement.closest(".scroll, pre") && one.getBoundingClientRect().right > innerWidth)
    .map((one) => one.outerHTML.slice(0, 160))"""


def opened(page: Page, place: FrontDoor | EnrichedOrthanc, address: str) -> Watch:
    """Open a page of the service, logged in, and wait until its parts have come."""
    url, user, password = (
        (place.url, USER, PASSWORD) if isinstance(place, FrontDoor) else (place.service_url, place.user, place.password)
    )
    watch = Watch(page)
    page.goto(f"{url.replace('://', f'://{user}:{password}@')}/enrichment/{address}", wait_until="load")
    until(page, "!document.querySelector('.htmx-request, [hx-trigger=load]')", 90)
    return watch


def until(page: Page, condition: str, within_s: float = 30) -> None:
    """Wait for a condition; Playwright's own wait needs `eval`, which the policy of the pages forbids."""
    wait_until(lambda: page.evaluate(f"() => Boolean({condition})"), within_s, condition)


def violations(page: Page) -> list[str]:
    """What axe-core finds, as rule and place."""
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES)
    return [f"{v['id']}: {node['html'][:160]} {json.dumps(node.get('failureSummary', ''))[:300]}"
            for v in found["violations"] for node in v["nodes"]]  # fmt: skip


def too_wide(page: Page) -> list[str]:
    """What makes a page scroll sideways."""
    found: list[str] = page.evaluate(_TOO_WIDE)
    return found
