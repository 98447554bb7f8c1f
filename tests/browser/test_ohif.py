"""OHIF shows the results as they are stored: a real archive, service and worker, and a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext
from pydicom.dataset import Dataset

from tests.browser.ohif_page import OhifPage, Overlay, logged_in, open_ohif
from tests.browser.study import CTS, EnrichedStudy, segments_of, voxels_of
from tests.support.cases.enriched import EnrichedOrthanc

pytestmark = pytest.mark.timeout(900)  # the first test waits for the whole enrichment

Picture = Callable[[str], Path]
BACKGROUND = "Background"
"""OHIF 3.13.2 lists the background of a LABELMAP, which the standard requires, as a segment."""


def settle(ohif: OhifPage, picture: Path) -> None:
    """Let the last image and toast come, and take a picture."""
    ohif.page.wait_for_load_state("networkidle")
    ohif.page.wait_for_timeout(1000)
    ohif.page.screenshot(path=picture)


@pytest.mark.parametrize("number", range(len(CTS)))
def test_a_ct_opens_with_the_segments_of_both_models_as_stored(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture,
    keep_time: Callable[[str, float], None], number: int,
) -> None:  # fmt: skip
    stored = {str(seg.SeriesInstanceUID): seg for seg in study.of(number, "SEG")}
    kinds = {seg.get("SegmentationType") for seg in stored.values()}
    assert (len(stored), kinds) == (2, {"BINARY"} if number == 0 else {"LABELMAP"})
    with open_ohif(browser, site, study.uid, study.series[number]) as ohif:
        overlays = ohif.await_overlays(2)
        keep_time(f"from click to overlay, {kinds.pop()}", ohif.seconds)
        settle(ohif, picture(f"ohif-ct-{number + 1}"))
        assert ohif.shown() == [("CT", study.series[number])]
        assert {overlay.series for overlay in overlays} == set(stored)
        assert_the_panel_names_the_model(ohif, overlays)
        for overlay in overlays:
            seg = stored[overlay.series]
            assert overlay.label == seg.SeriesDescription
            assert [segment for segment in overlay.segments if segment[1] != BACKGROUND] == segments_of(seg)
            assert overlay.voxels == voxels_of(seg)
            backgrounds = [number for number, label, _ in overlay.segments if label == BACKGROUND]
            assert len(backgrounds) == (seg.SegmentationType == "LABELMAP")
            assert {number for _, number in overlay.voxels}.isdisjoint(backgrounds)
        assert_only_organs_are_painted(ohif)
        assert result_page_of(ohif) == (f"series/{study.series[number]}", "Results of a series")
        assert ohif.complaints() == []


def assert_the_panel_names_the_model(ohif: OhifPage, overlays: list[Overlay]) -> None:
    """Both models find the left lung; the panel tells whose it is."""
    for model in ("chest_structures", "thorax_standi"):  # cut: a SeriesDescription has room for 64 characters
        (overlay,) = (one for one in overlays if f" {model} " in one.label)
        assert "Left lung" in {label for _, label, _ in overlay.segments}
        assert ohif.page.get_by_text(overlay.label).count() > 0


def assert_only_organs_are_painted(ohif: OhifPage) -> None:
    """The air around the patient stays grey, and something within is coloured."""
    canvas = ohif.page.locator("canvas.cornerstone-canvas").first
    pixels = np.asarray(Image.open(BytesIO(canvas.screenshot())).convert("RGB")).astype(int)
    colourful = np.ptp(pixels, axis=2) > 24
    height, width = colourful.shape
    side = min(height, width)
    for row in (height // 2 - 4 * side // 10, height // 2 + 4 * side // 10):
        for column in (width // 2 - 4 * side // 10, width // 2 + 4 * side // 10):
            assert not colourful[row - 8 : row + 8, column - 8 : column + 8].any()
    assert colourful.mean() > 0.01


def test_a_study_opens_with_its_first_ct_and_lists_results_in_reading_order(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture
) -> None:
    with open_ohif(browser, site, study.uid) as ohif:
        ohif.await_overlays(2)
        settle(ohif, picture("ohif-study"))
        assert ohif.shown() == [("CT", study.series[0])]
        numbers = [int(ds.SeriesNumber) for results in study.results for ds in results]
        previews = sorted(int(ds.SeriesNumber) for results in study.results for ds in results if ds.Modality == "OT")
        assert ohif.listed() == [1, 2, *previews, *sorted(set(numbers) - set(previews))]
        # A double click on the other CT brings its own segments.
        ohif.page.locator("[data-cy=study-browser-thumbnail]").nth(1).dblclick()
        ohif.await_shown(study.series[1])
        assert {overlay.series for overlay in ohif.await_overlays(2)} == {
            str(seg.SeriesInstanceUID) for seg in study.of(1, "SEG")
        }
        assert ohif.complaints() == []


def result_page_of(ohif: OhifPage) -> tuple[str, str]:
    """Press OHIF's button; returns path and title of the page that it opens."""
    with ohif.page.context.expect_page() as found:
        ohif.page.get_by_role("button", name="Results", exact=True).click()
    page = found.value
    page.wait_for_load_state("domcontentloaded")
    told = page.url.partition("/enrichment/")[2], page.locator("h1").inner_text()
    page.close()
    return told


def test_a_link_to_a_segmentation_shows_it_alone(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture
) -> None:
    _, seg = study.of(0, "SEG")
    with open_ohif(browser, site, study.uid, seg.SeriesInstanceUID, seg.SOPInstanceUID) as ohif:
        (overlay,) = ohif.await_overlays(1)
        settle(ohif, picture("ohif-seg"))
        assert overlay.series == seg.SeriesInstanceUID
        assert ohif.complaints() == []


def test_a_link_to_a_slice_shows_that_slice(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture
) -> None:
    listed = site.client.get(f"{site.dicomweb_url}/studies/{study.uid}/series/{study.series[1]}/instances").json()
    (image,) = (ds["00080018"]["Value"][0] for ds in listed if ds["00200013"]["Value"][0] == 10)
    with open_ohif(browser, site, study.uid, study.series[1], image) as ohif:
        ohif.await_overlays(2)
        shown = "cornerstone.getRenderingEngines()[0].getViewports()[0].getCurrentImageId()"
        ohif.page.wait_for_function(f"uid => {shown}.includes(`/instances/${{uid}}/`)", arg=image, timeout=20_000)
        settle(ohif, picture("ohif-slice"))
        assert ohif.complaints() == []
        assert ohif.unloadable() == []


def test_reports_open_as_text(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture
) -> None:
    """The first by its link, the others by a double click in the list."""
    first, *others = [report for report in study.of(0, "SR") if not report.SeriesDescription.startswith("Slice levels")]
    assert len(others) == 6
    with open_ohif(browser, site, study.uid, first.SeriesInstanceUID) as ohif:
        ohif.await_text(first_tracking(first))
        settle(ohif, picture("ohif-report"))
        for report in others:
            ohif.page.get_by_text(f"S:{report.SeriesNumber}").dblclick()
            ohif.await_shown(str(report.SeriesInstanceUID))
            ohif.await_text(first_tracking(report))
        settle(ohif, picture("ohif-last-report"))
        assert result_page_of(ohif) == (f"?study={study.uid}", "Series")
        assert ohif.complaints() == []


def first_tracking(report: Dataset) -> str:
    """The first Tracking Identifier of a report: it tells readers what a group is about."""
    items = list(report.ContentSequence)
    while items:
        item = items.pop(0)
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == "112039":
            return str(item.TextValue)
        items = [*item.get("ContentSequence", []), *items]
    raise AssertionError(f"no Tracking Identifier in {report.SeriesDescription}")


def test_slice_levels_are_drawn_on_their_slices(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture
) -> None:
    (report,) = study.of(0, "SR", "Slice levels")
    with open_ohif(browser, site, study.uid, report.SeriesInstanceUID) as ohif:
        ohif.await_shown(study.series[0])
        ohif.page.wait_for_function("() => services.measurementService.getMeasurements().length > 0", timeout=60_000)
        settle(ohif, picture("ohif-slice-levels"))
        drawn = ohif.page.evaluate(
            """() => services.measurementService.getMeasurements()
                .map(({ label, referencedImageId }) => [label, referencedImageId.match(/instances[/]([0-9.]+)/)[1]])"""
        )
        assert sorted(map(tuple, drawn)) == sorted(levels_of(report))
        assert ohif.complaints() == []


def levels_of(report: Dataset) -> list[tuple[str, str]]:
    """Label and slice of each point of the report."""
    levels = []

    def walk(items: Iterable[Dataset]) -> None:
        for item in items:
            content = item.get("ContentSequence", [])
            points = [child for child in content if child.ValueType == "SCOORD"]
            if points:
                (label,) = (text for child in content if (text := child.get("TextValue", "")).startswith("slice level"))
                image = points[0].ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
                levels.append((label, str(image)))
            walk(content)

    walk(report.ContentSequence)
    return levels


def test_contours_and_preview_open(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture
) -> None:
    contours = study.of(0, "RTSTRUCT")[0]
    with open_ohif(browser, site, study.uid, contours.SeriesInstanceUID) as ohif:
        (overlay,) = ohif.await_overlays(1)
        settle(ohif, picture("ohif-contours"))
        assert [label for _, label, _ in overlay.segments] == [
            str(roi.ROIName) for roi in contours.StructureSetROISequence
        ]
        assert ohif.complaints() == []
    preview = study.of(0, "OT")[0]
    with open_ohif(browser, site, study.uid, preview.SeriesInstanceUID) as ohif:
        ohif.await_shown(str(preview.SeriesInstanceUID))
        ohif.page.locator("canvas.cornerstone-canvas").first.wait_for()
        settle(ohif, picture("ohif-preview"))
        assert ohif.complaints() == []


def test_hostile_names_stay_text(
    site: EnrichedOrthanc, study: EnrichedStudy, browser: BrowserContext, picture: Picture
) -> None:
    page = browser.new_page()
    ohif = OhifPage(page)
    page.goto(f"{logged_in(site)}/")
    ohif.await_text("<b>Phantom")
    settle(ohif, picture("ohif-list"))
    assert ohif.complaints() == []
    page.close()
