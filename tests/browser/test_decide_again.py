"""The rules have changed, and people let series be decided on again: one on its page, several from the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page
from pydicom import dcmread

from orthanc_plugin.phantoms.dicom import write_phantom
from tests.browser.conftest import QUICK_RULE
from tests.browser.pages import until
from tests.integration.test_service_process import section, service
from tests.support.cases.enriched import small_chest
from tests.support.servers.orthanc_server import OrthancServer, wait_until

pytestmark = pytest.mark.timeout(600)
RULE = {**QUICK_RULE, "Match": {}}
BEFORE = {**RULE, "Name": "long", "Match": {"Slices": {"Min": 500}}}


@pytest.fixture(scope="module")
def orthanc(ready: None) -> Iterator[OrthancServer]:
    with OrthancServer() as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def skipped(orthanc: OrthancServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The state of a service whose rule took none of these series."""
    directory, series = tmp_path_factory.mktemp("again"), list[str]()
    with service(settings(orthanc, directory, BEFORE, Workers=0)) as (_, said):
        url = f"http://127.0.0.1:{said['port']}"
        for number in range(2):
            files = write_phantom(directory / str(number), small_chest(), uid_seed=f"again {number}")
            orthanc.stow(files)
            series.append(str(dcmread(files[0]).SeriesInstanceUID))
        wait_until(lambda: states(orthanc, url) == dict.fromkeys(series, "skipped"), 60, "two series skipped")
    return directory, series


def settings(orthanc: OrthancServer, directory: Path, rule: object, **more: object) -> dict[str, object]:
    return section(orthanc, directory / "state", Rules=[rule], StableAge=1, ReconcileSeconds=1, **more)


def states(orthanc: OrthancServer, url: str) -> dict[str, str]:
    """The newest state of each series."""
    answer = httpx.get(
        f"{url}/enrichment/api/v1/series", auth=(orthanc.user, orthanc.password), trust_env=False, timeout=30
    )
    rows = answer.json().get("series", [])
    return {row["series_instance_uid"]: row["state"] for row in reversed(rows)}


def test_series_are_decided_on_again_by_the_rules_that_hold_now(
    orthanc: OrthancServer, skipped: tuple[Path, list[str]], browser: BrowserContext, picture: Callable[[str], Path]
) -> None:
    directory, series = skipped
    with ExitStack() as running:
        _, said = running.enter_context(service(settings(orthanc, directory, RULE)))
        url = f"http://127.0.0.1:{said['port']}"
        login = f"{url.replace('://', f'://{orthanc.user}:{orthanc.password}@')}/enrichment/"
        page = browser.new_page()
        running.callback(page.close)
        one_on_its_page(page, login, series[0], picture("decide-again"))
        wait_until(lambda: states(orthanc, url)[series[0]] == "done", 180, "one series done")
        assert states(orthanc, url)[series[1]] == "skipped"
        page.reload()
        assert page.locator("h1").inner_text() == "Results of a series"
        assert page.locator("section[aria-labelledby=history-title] tbody tr").count() == 1

        job = page.locator("section[aria-labelledby=job-title] code").first.inner_text()
        several_from_the_list(page, login, series)
        wait_until(lambda: states(orthanc, url)[series[1]] == "done", 180, "both series done")
        until(page, "document.querySelectorAll('#rows .state.done').length === 2", 20)
        page.goto(f"{login}series/{series[0]}")  # done by the same rule: nothing is repeated
        assert page.locator("section[aria-labelledby=job-title] code").first.inner_text() == job
        assert page.locator("section[aria-labelledby=history-title] tbody tr").count() == 1


def one_on_its_page(page: Page, login: str, series: str, picture: Path) -> None:
    page.goto(f"{login}series/{series}")
    assert page.locator("h2 .state").inner_text() == "skipped"
    page.get_by_role("button", name="Decide again").click()
    until(page, "document.getElementById('said').textContent.startsWith('The order is placed')")
    page.screenshot(path=picture)


def several_from_the_list(page: Page, login: str, series: list[str]) -> None:
    page.goto(login)
    for one in series:
        page.locator(f'input[name=series][value="local/{one}"]').check()
    page.locator("#chosen select").select_option("decide-again")
    page.locator("#chosen button").click()
    until(page, f"document.getElementById('said').textContent === 'Done with {len(series)} series.'")
