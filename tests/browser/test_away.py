"""Orthanc goes away and comes back, in front of a person: a real Orthanc, and the service in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page

from orthanc_plugin.phantoms.dicom import write_phantom
from tests.browser.conftest import QUICK_RULE
from tests.browser.pages import until, violations
from tests.integration.test_service_process import section, service
from tests.support.cases.enriched import small_chest
from tests.support.servers.orthanc_server import OrthancServer, wait_until

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Apart:
    orthanc: OrthancServer
    url: str

    def ask(self, path: str, **headers: str) -> httpx.Response:
        auth = (self.orthanc.user, self.orthanc.password)
        return httpx.get(f"{self.url}{path}", auth=auth, headers=headers, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def apart(ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """An Orthanc, and a service that Orthanc did not start."""
    directory = tmp_path_factory.mktemp("apart")
    rule = {**QUICK_RULE, "Match": {}}
    with OrthancServer() as orthanc:
        settings = section(orthanc, directory / "state", Rules=[rule], StableAge=1, ReconcileSeconds=1)
        with service(settings) as (_, said):
            yield Apart(orthanc, f"http://127.0.0.1:{said['port']}")


@pytest.fixture
def page(apart: Apart, browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def test_a_person_is_told_what_works_and_the_page_comes_back_by_itself(
    apart: Apart, page: Page, picture: Callable[[str], Path], tmp_path: Path
) -> None:
    address = apart.url.replace("://", f"://{apart.orthanc.user}:{apart.orthanc.password}@")
    page.goto(f"{address}/enrichment/")
    until(page, "document.getElementById('connection')?.hidden")
    page.evaluate("window.never_reloaded = true")
    apart.orthanc.stop()

    # The stream of events goes on: its login was checked. A new page is refused.
    wait_until(lambda: apart.ask("/enrichment/").status_code == 503, 20, "the end of what the gate remembers")
    assert apart.ask("/enrichment/").text == "Orthanc does not respond.\n"
    assert apart.ask("/dicom-web/studies", Accept="application/dicom+json").status_code == 503
    other = page.context.new_page()
    other.goto(f"{address}/enrichment/system", wait_until="load")
    assert other.locator("h1").inner_text() == "Orthanc does not respond"
    assert "jobs list" in other.locator("main").inner_text()
    assert other.evaluate("getComputedStyle(document.querySelector('section')).borderStyle") == "solid"
    assert violations(other) == []
    other.screenshot(path=picture("orthanc-away"))

    apart.orthanc.start()
    other.wait_for_selector("h1:has-text('System')", timeout=60_000)
    assert other.locator(".state.ok").count() > 0
    other.close()
    files = write_phantom(tmp_path / "after", small_chest(), uid_seed="after")
    apart.orthanc.stow(files)
    until(page, "document.querySelector('#rows .state.done')", 180)
    assert page.evaluate("window.never_reloaded") is True


def test_a_list_whose_stream_was_refused_catches_up(apart: Apart, page: Page) -> None:
    address = apart.url.replace("://", f"://{apart.orthanc.user}:{apart.orthanc.password}@")
    refused = True
    page.route("**/api/v1/events", lambda route: route.fulfill(status=503) if refused else route.continue_())
    page.goto(f"{address}/enrichment/")
    page.locator("#connection").wait_for()
    assert "catches up by itself" in page.locator("#connection").inner_text()
    refused = False
    page.locator("#connection").wait_for(state="hidden", timeout=30_000)


def test_a_login_that_has_ended_is_not_tried_again(apart: Apart, page: Page) -> None:
    address = apart.url.replace("://", f"://{apart.orthanc.user}:{apart.orthanc.password}@")
    asked: list[str] = []
    page.route("**/api/v1/events", lambda route: (asked.append(route.request.url), route.fulfill(status=401))[1])
    page.goto(f"{address}/enrichment/")
    page.route("**/enrichment/", lambda route: route.fulfill(status=401))
    until(page, "document.getElementById('connection').textContent.startsWith('Your login has ended')")
    page.wait_for_timeout(6000)  # longer than the wait before a further try
    assert len(asked) == 1
