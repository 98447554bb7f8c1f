"""What is wrong shows where a person looks, and nothing outlives an Orthanc that was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from pydicom import dcmread

from orthanc_plugin.phantoms.dicom import write_phantom
from tests.security.table import NOTE
from tests.support.cases.enriched import EnrichedOrthanc, files_of, small_chest
from tests.support.servers.orthanc_server import wait_until

ORPHANS_S = 10.0


class Site(EnrichedOrthanc):
    """A site whose results go to an archive that does not accept the password."""

    def __init__(self) -> None:
        super().__init__()
        archives: dict[str, object] = self.enrichment["Archives"]  # type: ignore[assignment]
        far = {"Url": self.dicomweb_url, "User": self.user, "Password": "wrong"}
        self.enrichment |= {
            "Archives": {**archives, "far": far},
            "Rules": [{"Name": "home-far", "HomeArchive": "far", "Match": {"Archive": ["local"]}}],
        }

    def page(self, path: str) -> str:
        auth = (self.user, self.password)
        return httpx.get(f"{self.service_url}{path}", auth=auth, trust_env=False, timeout=60).text


@pytest.fixture(scope="module")
def site(orthanc_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, small_chest())
    with Site() as site:
        site.await_service()
        site.stow(files_of(folder))
        site.series = str(dcmread(files_of(folder)[0], stop_before_pixels=True).SeriesInstanceUID)  # type: ignore[attr-defined]
        yield site


def test_a_wrong_password_of_an_archive_shows_on_orthancs_page_and_in_the_health(site: Site) -> None:
    def status() -> dict[str, object] | None:
        answer = site.rest("/enrichment/status")
        assert isinstance(answer, dict)
        return answer if "401" in str(answer["error"]) else None

    told = wait_until(status, 60, "the problem on Orthanc's page")
    assert told is not None
    assert told["state"] == "running, but something needs a person"
    assert "archive far" in str(told["error"])
    assert "needs a person" in site.client.get("/enrichment").text
    health = site.api("health")
    assert health["status"] == "degraded"
    refused = {archive["name"] for archive in health["archives"] if "401" in archive["problem"]}
    assert refused == {"far"}
    assert "401" in site.page("/enrichment/system")


def test_a_step_that_is_tried_again_says_why(site: Site) -> None:
    def waits() -> str:
        row = next((row for row in site.rows(site.series) if row.get("job_id")), None)  # type: ignore[attr-defined]
        job = site.api(f"jobs/{row['job_id']}") if row else {}
        return str(job.get("waits_for", "")) and f"{row['job_id']} {job['waits_for']}" if row else ""

    job, _, why = wait_until(waits, 120, "a second try").partition(" ")
    assert why.startswith("try 2 of 8 of ")
    assert "archive far answered 401" in why
    assert "archive far answered 401" in site.page(f"/enrichment/jobs/{job}")
    assert any(job in one and "archive far answered 401" in one for one in site.api("health")["retrying"])


def test_nothing_outlives_an_orthanc_that_was_killed(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    """Last in this file: it ends the site."""
    ours = site.children()
    assert len(ours) >= 2
    began = time.monotonic()
    site.kill()
    gone, alive = psutil.wait_procs(ours, timeout=ORPHANS_S)
    took = time.monotonic() - began
    assert alive == []
    record_property(NOTE, f"{len(gone)} processes gone after {took:.1f} s")


def test_a_hung_service_is_ended_by_the_kernel(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import os, signal, sys, threading\n"
        "from orthanc_plugin.service import main\n"
        "main.ORPHAN_S = 1\n"
        "class Never(threading.Event):\n def set(self): pass\n"
        "threading.Thread(target=main.stop_on_end_of_stdin, args=(Never(),), daemon=True).start()\n"
        "print('up', flush=True)\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()
        assert process.wait(20) == -14
