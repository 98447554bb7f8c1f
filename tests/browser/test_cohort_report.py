"""The report of a cohort in Chromium: of the published table, and of results of ours, hostile texts included."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Request

from orthanc_plugin.cli.main import EXIT_DONE, main
from tests.browser.chromium import Watch
from tests.support.cases.cohort_case import built, our_results, shared, write

PUBLISHED = "sci_data_2024/segmentation_metrics_expert_vs_ai.csv"
HOSTILE = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>"


def opened(browser: BrowserContext, page_file: Path) -> tuple[Page, Watch, list[str]]:
    """Open a report from the disk; the list fills with every request that is not the file itself."""
    page = browser.new_page()
    asked: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            asked.append(request.url)

    page.on("request", note)
    watch = Watch(page)
    page.goto(page_file.as_uri())
    return page, watch, asked


def test_published_table_is_drawn_and_its_points_open_the_viewer(
    browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]
) -> None:
    command = ["cohort", "report", "--metrics", str(shared(PUBLISHED, folder="reference")), "--out", str(tmp_path)]
    assert main(command) == EXIT_DONE
    page, watch, asked = opened(browser, tmp_path / "report.html")
    page.locator("section.figure canvas").first.wait_for()
    assert page.locator("section.figure").count() == 6
    assert "0.8899" in page.locator("#heart-dice_score").inner_text()
    page.screenshot(path=picture("cohort-published"), full_page=True)
    with page.expect_popup() as popup:
        _click_a_point(page)
    assert popup.value.url.startswith(("https://viewer.imaging.datacommons.cancer.gov/viewer/", "chrome-error:"))
    popup.value.close()
    assert (watch.errors, [url for url in asked if "viewer.imaging" not in url]) == ([], [])
    page.close()


def _click_a_point(page: Page) -> None:
    """Click where Bokeh says that it drew the first point of the first figure."""
    place = page.evaluate(
        """() => {
          const view = Object.values(Bokeh.index)[0] ?? [...Bokeh.index.roots][0];
          const renderer = view.model.renderers.at(-1), data = renderer.data_source.data;
          const glyph = view.views.find_one(renderer).glyph;
          const box = view.canvas_view.el.getBoundingClientRect();
          return [box.left + glyph.sx[0], box.top + glyph.sy[0]];
        }"""
    )
    page.mouse.click(*place)


def test_results_of_ours_are_drawn_without_errors(
    browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]
) -> None:
    built(write(our_results(), tmp_path / "in"), tmp_path / "tables")
    assert main(["cohort", "report", "--tables", str(tmp_path / "tables"), "--out", str(tmp_path)]) == EXIT_DONE
    page, watch, asked = opened(browser, tmp_path / "report.html")
    page.locator("section.figure canvas").first.wait_for()
    drawn = {section.get_attribute("id") for section in page.locator("section.figure[id]").all()}
    assert drawn == {"volume", "mean-intensity", "lung-differences", "lung-extent", "region-shares"}
    page.screenshot(path=picture("cohort-ours"), full_page=True)
    assert (watch.errors, asked) == ([], [])
    page.close()


@pytest.mark.parametrize("link", ["javascript:window.hurt=1", 'https://x/"><script>window.hurt=1</script>'])
def test_hostile_texts_do_nothing(browser: BrowserContext, tmp_path: Path, link: str) -> None:
    file = tmp_path / f"{HOSTILE[:9].strip('</>')}.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = ["PatientID", "SeriesInstanceUID", "StudyInstanceUID", "structure_name", "model", "dice_score"]
        writer.writerow([*names, "viewer_url"])
        for number in range(9):
            value = "0.1" if number == 4 else f"0.9{number}"
            writer.writerow([HOSTILE, HOSTILE, HOSTILE, HOSTILE, f"{HOSTILE}{number % 2}", value, link])
            writer.writerow(["p", "1.2", "1.3", r"$$\frac{a}{b}$$", rf"$$\sqrt{number % 2}$$", value, link])
    command = ["cohort", "report", "--metrics", str(file), "--out", str(tmp_path), "--title", HOSTILE]
    assert main(command) == EXIT_DONE
    page, watch, asked = opened(browser, tmp_path / "report.html")
    page.locator("section.figure canvas").first.wait_for()
    box = page.locator("section.figure canvas").first.bounding_box()
    assert box is not None
    for part in range(1, 40):  # over every point, so that its tip shows
        page.mouse.move(box["x"] + box["width"] * part / 40, box["y"] + box["height"] * 0.3)
    assert page.evaluate("window.hurt") is None
    assert page.locator("a[href^='javascript']").count() == 0
    assert (watch.errors, asked) == ([], [])
    page.close()
