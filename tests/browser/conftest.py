"""One site for all tests of the browser tier: a study with two CT, enriched by two models, and a browser on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from orthanc_plugin.service.ohif_package import default_directory, installed_version
from tests.browser.chromium import chromium_binary, open_browser
from tests.browser.study import EnrichedStudy, enrich_study
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.cases.realct import ROOT

ARTEFACTS = ROOT / ".browser"
"""Screenshots and times of the last run; git ignores the folder."""
ALL_OUTPUTS = [
    "seg", "landmarks", "body-landmarks", "body-regions", "viewer-landmarks", "checks", "rtstruct", "preview",
]  # fmt: skip
RULE = {
    "Name": "all",
    "Models": ["chest_structures", "thorax_standin"],
    "Locate": "bpr_standin",
    "Outputs": ALL_OUTPUTS,
}

QUICK = "quick"
"""SeriesDescription of a series that one model without a location of the body takes: the job for tests that wait."""
QUICK_RULE = {
    "Name": QUICK,
    "Match": {"SeriesDescription": f"^{QUICK}$"},
    "Models": ["chest_structures"],
    "Locate": "",
    "Outputs": ["seg"],
    "Radiomics": False,
}


@pytest.fixture(scope="session")
def ready(orthanc_installed: None) -> None:
    """Skip where Chromium or OHIF is missing on a developer's computer, fail in CI."""
    missing = [] if chromium_binary() else ["Chromium (apt install chromium)"]
    missing += [] if installed_version(default_directory()) else ["OHIF (make setup)"]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"missing: {', '.join(missing)}")
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")


@pytest.fixture(scope="session")
def site(ready: None) -> Iterator[EnrichedOrthanc]:
    """An Orthanc with plugin, service and worker; one rule runs two models and makes every kind of result."""
    with EnrichedOrthanc(section={"Rules": [QUICK_RULE, RULE]}) as orthanc:
        orthanc.await_service()
        yield orthanc


@pytest.fixture(scope="session")
def study(site: EnrichedOrthanc, tmp_path_factory: pytest.TempPathFactory) -> EnrichedStudy:
    """The study, as the archive holds it once both series are done."""
    return enrich_study(site, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def browser(ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser with a fresh profile."""
    with open_browser(tmp_path_factory.mktemp("profile") / "chromium") as context:
        yield context


@pytest.fixture(scope="session")
def keep_time() -> Callable[[str, float], None]:
    """Keeps a time beside the screenshots, and prints it."""
    ARTEFACTS.mkdir(exist_ok=True)
    file = ARTEFACTS / "seconds.json"
    file.unlink(missing_ok=True)

    def keep(what: str, seconds: float) -> None:
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | {what: round(seconds, 1)}, indent=1) + "\n")
        print(f"\n{what}: {seconds:.1f} s")

    return keep


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Where a screenshot of a test goes."""
    ARTEFACTS.mkdir(exist_ok=True)
    return lambda name: ARTEFACTS / f"{name}.png"
