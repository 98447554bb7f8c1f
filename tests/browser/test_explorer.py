"""The buttons in Orthanc Explorer, in a real browser: they lead to viewer and results, and order a series."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.ohif_page import OhifPage, logged_in
from tests.browser.study import EnrichedStudy
from tests.support.cases.enriched import EnrichedOrthanc

pytestmark = pytest.mark.timeout(900)  # the first test waits for the whole enrichment


@pytest.fixture
def explorer(site: EnrichedOrthanc, browser: BrowserContext) -> Iterator[Page]:
    """A page of a browser that is logged in to Orthanc and to the service."""
    page = browser.new_page()
    page.goto(f"{logged_in(site)}/enrichment/")
    page.goto(f"{site.url.replace('://', f'://{site.user}:{site.password}@')}/app/explorer.html")
    yield page
    page.close()


def orthanc_id(site: EnrichedOrthanc, uid: str) -> str:
    (found,) = site.client.post("/tools/lookup", content=uid).json()
    return str(found["ID"])


def show(explorer: Page, site: EnrichedOrthanc, level: str, uid: str) -> None:
    explorer.goto(f"{site.url}/app/explorer.html#{level}?uuid={orthanc_id(site, uid)}")
    explorer.reload()


def test_buttons_stand_on_the_pages_of_studies_and_series_only(
    site: EnrichedOrthanc, study: EnrichedStudy, explorer: Page, picture: Callable[[str], Path]
) -> None:
    names = explorer.locator("#enrichment > *")
    explorer.locator("#enrichment-dashboard").wait_for()
    assert names.all_text_contents() == ["AI enrichment"]
    for level, uid in (("study", study.uid), ("series", study.series[0])):
        show(explorer, site, level, uid)
        explorer.locator("#enrichment-now").wait_for()
        assert names.all_text_contents() == ["Enrich now", "Open results", "Open in viewer", "AI enrichment"]
        explorer.wait_for_load_state("networkidle")
        explorer.screenshot(path=picture(f"explorer-{level}"))
    explorer.evaluate("() => { location.hash = '#find-studies'; }")
    explorer.locator("#enrichment-now").wait_for(state="detached")


def test_the_viewer_opens_at_the_series(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, explorer: Page
) -> None:
    show(explorer, site, "series", study.series[1])
    with browser.expect_page() as opened:
        explorer.locator("#enrichment-viewer").click()
    ohif = OhifPage(opened.value)
    assert len(ohif.await_overlays(2)) == 2
    assert ohif.shown() == [("CT", study.series[1])]
    opened.value.close()


def test_results_open(site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, explorer: Page) -> None:
    show(explorer, site, "series", study.series[0])
    with browser.expect_page() as opened:
        explorer.locator("#enrichment-results").click()
    opened.value.wait_for_url(f"**/enrichment/series/{study.series[0]}")
    opened.value.close()


def test_enrich_now_repeats_nothing_that_is_done(site: EnrichedOrthanc, study: EnrichedStudy, explorer: Page) -> None:
    before = site.rows(study.series[0])
    sent = site.rest("/enrichment/status")["hints"]["sent"]  # type: ignore[index,call-overload]
    show(explorer, site, "series", study.series[0])
    explorer.locator("#enrichment-now").click()
    explorer.get_by_text("Asked for").wait_for()
    explorer.wait_for_timeout(1000)
    assert site.rest("/enrichment/status")["hints"]["sent"] >= sent  # type: ignore[index,call-overload,operator]
    assert site.rows(study.series[0]) == before


def test_bars_take_no_markup_from_an_address(site: EnrichedOrthanc, explorer: Page) -> None:
    explorer.goto(f'{site.url}/app/explorer.html#study?uuid="><img src=x onerror=window.hacked=1>')
    explorer.locator("#enrichment-dashboard").wait_for()
    assert explorer.locator("#enrichment img").count() == 0
    assert explorer.evaluate("() => window.hacked") is None
