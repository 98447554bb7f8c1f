"""Report, drift and corrections of an archive that was just enriched, with a shadow run and an edited SEG, in Chromium.

Each point opens its series in OHIF, behind the front door of the service that enriched it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page
from pydicom import dcmread

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.cli.main import EXIT_DONE, main
from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.pipeline.foreign import read_masks
from orthanc_plugin.series.read import read_series
from tests.browser.ohif_page import OhifPage, logged_in
from tests.browser.test_cohort_report import opened
from tests.support.cases.cohort_case import rows
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.cases.expert_case import as_ohif_writes

pytestmark = pytest.mark.timeout(600)

SHADOW = "thorax_standin"
RULE = {"Name": "shadowed", "Models": ["chest_structures"], "Shadow": [SHADOW], "Locate": ""}
VIEWER = "/enrichment/open?StudyInstanceUID={StudyInstanceUID}&SeriesInstanceUID={SeriesInstanceUID}"


@dataclass(frozen=True)
class Cohort:
    """An enriched archive, its configuration, its tables, and the CT series in it."""

    site: EnrichedOrthanc
    settings: Path
    tables: Path
    series: tuple[str, ...]

    def run(self, *words: str) -> None:
        assert main([*words, "--config", str(self.settings)]) == EXIT_DONE


@pytest.fixture(scope="module")
def cohort(ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cohort]:
    folder = tmp_path_factory.mktemp("cohort")
    with EnrichedOrthanc(section={"Rules": [RULE]}) as site:
        site.await_service()
        series = []
        for number in range(2):
            files = write_phantom(folder / str(number), make_phantom((56, 64, 64), (3.0, 3.2, 3.2), seed=number))
            site.stow(files)
            series.append(str(dcmread(files[0]).SeriesInstanceUID))
        for uid in series:
            row = site.await_final(uid, within_s=400)
            assert (row["state"], row["reason"]) == ("done", ""), row
        _edit(site, folder / "0")
        settings = folder / "orthanc.json"
        settings.write_text(json.dumps({"Enrichment": {**site.enrichment, "Rules": [RULE]}}))
        made = Cohort(site, settings, folder / "tables", tuple(series))
        made.run("cohort", "build", "--archive", "local", "--out", str(made.tables))
        yield made


def _edit(site: EnrichedOrthanc, ct: Path) -> None:
    """Cut the upper half of the first structure off, and store it back as OHIF does."""
    series = read_series(dcmread(file) for file in sorted(ct.iterdir()))
    (ours,) = (ds for ds in site.results(series.identity.study_instance_uid) if ds.Modality == "SEG")
    masks = {s.label: layer.mask(s) for layer in read_masks(ours, series).layers for s in layer.segments}
    first = next(iter(masks))
    masks[first] = masks[first].copy()
    masks[first][int(np.flatnonzero(masks[first].any(axis=(1, 2))).mean()) :] = False
    archive = DicomWebArchive("local", site.dicomweb_url, site.user, site.password)
    archive.store(as_ohif_writes(series, ours, masks))
    archive.close()


def click_a_point(page: Page, figure: str) -> None:
    """Click where Bokeh says that it drew the first point of a figure."""
    page.locator(figure).scroll_into_view_if_needed()
    place = page.evaluate(
        """figure => {
          const views = [...(Bokeh.index.roots ?? Object.values(Bokeh.index))];
          const view = views.find(one => document.querySelector(figure).contains(one.el));
          const renderer = view.model.renderers.at(-1);
          const glyph = view.views.find_one(renderer).glyph;
          const box = view.canvas_view.el.getBoundingClientRect();
          return [box.left + glyph.sx[0], box.top + glyph.sy[0]];
        }""",
        figure,
    )
    page.mouse.click(*place)


def assert_a_point_opens_its_series(page: Page, figure: str, cohort: Cohort) -> None:
    with page.expect_popup() as popup:
        click_a_point(page, figure)
    ohif = OhifPage(popup.value)
    (uid,) = parse_qs(urlsplit(popup.value.url).query).get("SeriesInstanceUID", [""])
    ohif.page.wait_for_url("**/viewer?**", timeout=60_000)
    assert any(series in ohif.page.url for series in cohort.series), (uid, ohif.page.url)
    ohif.await_shown(next(series for series in cohort.series if series in ohif.page.url))
    assert ohif.complaints() == []
    ohif.page.close()


def test_tables_hold_the_result_the_edit_and_the_shadow_run(cohort: Cohort) -> None:
    segs = [row for row in rows(cohort.tables, "objects") if row["modality"] == "SEG"]
    assert len(segs) == 3  # two of ours and the edit, and none of the shadow model
    assert all(row["current"] for row in segs)
    shadow = rows(cohort.tables, "shadow")
    assert {row["series_instance_uid"] for row in shadow} == {*cohort.series}
    assert {(row["shadow"], row["model"], row["current"]) for row in shadow} >= {(SHADOW, "chest_structures", True)}
    assert any(row["dice"] is not None for row in shadow)


def test_report_of_the_archive(
    cohort: Cohort, browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]
) -> None:
    viewer = logged_in(cohort.site) + VIEWER
    cohort.run("cohort", "report", "--tables", str(cohort.tables), "--out", str(tmp_path), "--viewer", viewer)
    page, watch, asked = opened(browser, tmp_path / "report.html")
    page.locator("section.figure canvas").first.wait_for()
    assert {"sphericity", "volume", "mean-intensity"} <= {
        section.get_attribute("id") for section in page.locator("section.figure[id]").all()
    }
    page.screenshot(path=picture("cohort-enriched"), full_page=True)
    assert (watch.errors, asked) == ([], [])
    assert_a_point_opens_its_series(page, "#volume", cohort)
    page.close()


def test_drift_shows_the_shadow_beside_the_model(
    cohort: Cohort, browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]
) -> None:
    viewer = logged_in(cohort.site) + VIEWER
    cohort.run("cohort", "drift", "--tables", str(cohort.tables), "--out", str(tmp_path), "--viewer", viewer)
    page, watch, asked = opened(browser, tmp_path / "report.html")
    page.locator("section.figure canvas").first.wait_for()
    assert page.get_by_text(f"{SHADOW} against chest_structures").count() > 0
    assert "median Dice" in page.locator("body").inner_text()
    page.screenshot(path=picture("cohort-shadow"), full_page=True)
    assert (watch.errors, asked) == ([], [])
    assert_a_point_opens_its_series(page, "section.figure[id^=shadow-]", cohort)
    page.close()


def test_corrections_of_the_archive(
    cohort: Cohort, browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]
) -> None:
    cohort.run(
        "validate", "--corrections", "--archive", "local", "--out", str(tmp_path), "--viewer", logged_in(cohort.site)
    )
    page, watch, asked = opened(browser, tmp_path / "corrections.html")
    text = page.locator("body").inner_text()
    assert "Unspecified" in text
    page.screenshot(path=picture("cohort-corrections"), full_page=True)
    assert (watch.errors, asked) == ([], [])
    page.close()
