"""The pages beside a real archive and a real worker: live progress, pause, order and end of jobs, slices, files."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, Page
from pydicom import dcmread

from orthanc_plugin.phantoms.dicom import write_phantom
from tests.browser.conftest import QUICK
from tests.browser.pages import PHONE, opened, too_wide, until, violations
from tests.browser.study import EnrichedStudy
from tests.support.cases.enriched import EnrichedOrthanc, small_chest
from tests.support.servers.orthanc_server import wait_until

pytestmark = pytest.mark.timeout(900)  # the first test waits for the whole enrichment

Send = Callable[..., str]
Picture = Callable[[str], Path]


@pytest.fixture
def page(site: EnrichedOrthanc, browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def send(site: EnrichedOrthanc, tmp_path: Path, request: pytest.FixtureRequest) -> Send:
    """Sends a chest of its own to the archive; returns its SeriesInstanceUID."""
    sent: list[str] = []

    def send(description: str = QUICK) -> str:
        seed = f"{request.node.name} {len(sent)}"
        files = write_phantom(tmp_path / str(len(sent)), small_chest(), uid_seed=seed)
        for file in files:
            ds = dcmread(file)
            ds.SeriesDescription = description
            ds.save_as(file)
        site.stow(files)
        sent.append(str(ds.SeriesInstanceUID))
        return sent[-1]

    return send


def state_of(site: EnrichedOrthanc, series: str) -> str:
    rows = site.rows(series)
    return str(rows[0]["state"]) if rows else ""


def shown_row(series: str) -> str:
    """The row of a series in the list, as an expression."""
    return f"document.querySelector('a[title^=\"series {series} \"]')?.closest('tr')"


def test_a_running_job_is_followed_to_its_end_without_a_reload(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page, send: Send, picture: Picture
) -> None:
    watch = opened(page, site, "")
    page.evaluate("window.never_reloaded = true")
    series = send("follow me")
    until(page, f"{shown_row(series)}?.querySelector('.progress')", 120)
    seen: list[tuple[str, int]] = []

    def ended() -> bool:
        told = page.evaluate(
            f"""() => {{
                const shown = {shown_row(series)}?.querySelector(".progress");
                return shown && [shown.querySelector("span").textContent, shown.querySelector("progress").value];
            }}"""
        )
        if told and (not seen or seen[-1] != tuple(told)):
            seen.append((told[0], int(told[1])))
            if len(seen) == 2:
                page.screenshot(path=picture("dashboard-live"))
        return bool(page.evaluate(f"() => Boolean({shown_row(series)}?.querySelector('.state.done'))"))

    wait_until(ended, 300, "the end of the job on the page")
    stages = [row["name"] for row in site.api(f"jobs/{site.rows(series)[0]['job_id']}")["stages"]]
    percents = [percent for _, percent in seen]
    assert len(seen) >= 3, seen
    assert {stage for stage, _ in seen if stage} <= {*stages, "retrieve"}
    assert percents == sorted(percents)
    assert percents[-1] > percents[0]
    assert page.evaluate("window.never_reloaded") is True
    assert (watch.errors, watch.failures) == ([], [])


def test_pause_order_and_cancel_from_the_page_reach_the_worker(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page, send: Send
) -> None:
    opened(page, site, "")
    page.get_by_role("button", name="Pause the queue").click()
    until(page, "document.querySelector('[data-act=resume]')")
    waiting, last, first = send(), send(), send()
    for series in (waiting, last, first):
        until(page, f"{shown_row(series)}?.querySelector('.state.queued')", 60)
    page.wait_for_timeout(3000)  # a worker that took jobs would have taken one by now
    assert {state_of(site, series) for series in (waiting, last, first)} == {"queued"}

    def press(what: str, series: str) -> None:
        page.locator(f"tr:has(a[title^='series {series} '])").get_by_role("button", name=what).click()

    press("first", first)
    until(page, f"{shown_row(first)}.textContent.includes('first') && !{shown_row(first)}.querySelector('[data-body]')")
    press("cancel", waiting)
    until(page, f"{shown_row(waiting)}.querySelector('.state.cancelled')")
    page.get_by_role("button", name="Resume the queue").click()
    until(page, "document.querySelector('[data-act=pause]')")
    for series in (first, last):
        until(page, f"{shown_row(series)}?.querySelector('.state.done')", 180)
    began = [site.api(f"jobs/{site.rows(series)[0]['job_id']}")["started_at"] for series in (first, last)]
    assert began == sorted(began)
    assert state_of(site, waiting) == "cancelled"


def test_a_running_job_is_cancelled_and_run_again_in_bulk(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page, send: Send
) -> None:
    opened(page, site, "")
    series = [send("cancel me"), send()]
    until(page, f"{shown_row(series[0])}?.querySelector('.state.running') && {shown_row(series[1])}", 120)
    choose(page, "cancel", *series)
    for one in series:
        until(page, f"{shown_row(one)}.querySelector('.state.cancelled')", 60)
    study_uid = site.rows(series[0])[0]["study_instance_uid"]
    assert wait_until(lambda: site.results(study_uid) == [], 60, "no results") is not None
    choose(page, "retry", series[1])
    until(page, f"{shown_row(series[1])}.querySelector('.state.done')", 180)
    assert state_of(site, series[0]) == "cancelled"


def choose(page: Page, act: str, *series: str) -> None:
    """Act on series by their boxes."""
    for one in series:
        page.locator(f'input[name=series][value="local/{one}"]').check()
    page.locator("#chosen select").select_option(act)
    page.locator("#chosen button").click()
    until(page, f"document.getElementById('said').textContent === 'Done with {len(series)} series.'")


def drawn(page: Page, plane: str) -> NDArray[np.uint8]:
    """The pixels of the picture that a plane shows, once it is loaded."""
    image = f"document.querySelector('.pane[data-plane={plane}] img')"
    until(page, f"{image}.complete && {image}.naturalWidth > 0")
    url = page.evaluate(
        """plane => {
            const image = document.querySelector(`.pane[data-plane=${plane}] img`);
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL("image/png");
        }""",
        plane,
    )
    return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def coloured(pixels: NDArray[np.uint8]) -> int:
    """How many pixels are not grey."""
    return int(np.count_nonzero(np.ptp(pixels.astype(int), axis=2) > 40))


class Slices:
    """The axial pane of a result page."""

    def __init__(self, page: Page, site: EnrichedOrthanc, study: EnrichedStudy, series: str) -> None:
        self.page = page
        headers = site.client.get(f"{site.dicomweb_url}/studies/{study.uid}/series/{series}/metadata").json()
        self.number_at = {round(ds["00200032"]["Value"][2], 1): int(ds["00200013"]["Value"][0]) for ds in headers}
        self.slider = page.locator("#slice-axial")

    @property
    def index(self) -> int:
        return int(self.slider.input_value())

    def settle(self, index: int) -> NDArray[np.uint8]:
        """Wait until a slice is shown, check that its number is that of the source's slice there, and return it."""
        until(self.page, f"document.querySelector('.pane[data-plane=axial] img').src.includes('/axial/{index}.png')")
        said = self.page.locator(".pane[data-plane=axial] output").inner_text()
        z = round(float(said.rpartition("z ")[2].removesuffix(" mm")), 1)
        heights = sorted(self.number_at)
        assert self.index == index
        assert heights[index] == z, said
        assert f"slice {index + 1} of {len(heights)} from the feet, image {self.number_at[z]}, " in said
        return drawn(self.page, "axial")


@pytest.mark.parametrize("number", [0, 1])
def test_slices_scroll_by_wheel_keys_and_slider_with_outlines_on(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page, picture: Picture, number: int
) -> None:
    series = study.series[number]
    watch = opened(page, site, f"series/{series}")
    pane = Slices(page, site, study, series)
    best = pane.index
    shown = {best: pane.settle(best)}
    page.screenshot(path=picture(f"result-{number + 1}"), full_page=True)
    picture_box = page.locator(".pane[data-plane=axial] .picture")
    picture_box.hover()
    page.mouse.wheel(0, -120)
    shown[best + 1] = pane.settle(best + 1)
    page.mouse.wheel(0, 120)
    assert np.array_equal(pane.settle(best), shown[best])
    pane.slider.focus()
    page.keyboard.press("ArrowRight")
    assert np.array_equal(pane.settle(best + 1), shown[best + 1])
    page.keyboard.press("Home")
    shown[0] = pane.settle(0)
    page.keyboard.press("End")
    last = len(pane.number_at) - 1
    shown[last] = pane.settle(last)
    box = pane.slider.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    middle = pane.index
    assert abs(middle - last / 2) <= 2
    shown[middle] = pane.settle(middle)
    kept = list(shown.values())
    assert all(not np.array_equal(one, other) for n, one in enumerate(kept) for other in kept[:n])
    page.keyboard.press("Home")
    for _ in range(best):
        page.keyboard.press("ArrowRight")
    assert coloured(pane.settle(best)) > 200
    page.get_by_label("Outlines").uncheck()
    until(page, "document.querySelector('.pane[data-plane=axial] img').src.includes('outlines=no')")
    assert coloured(drawn(page, "axial")) == 0
    assert (watch.errors, watch.failures) == ([], [])


def test_a_phone_shows_the_whole_result_without_scrolling_sideways(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page, picture: Picture
) -> None:
    page.set_viewport_size(PHONE)
    opened(page, site, f"series/{study.series[0]}")
    page.get_by_role("link", name="What the objects say of themselves").scroll_into_view_if_needed()
    page.locator(".described").wait_for()
    for summary in page.locator("details summary").all():
        summary.click()
    page.screenshot(path=picture("phone-result"), full_page=True)
    assert too_wide(page) == []
    assert violations(page) == []


def test_structures_that_two_models_found_are_told_apart(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page
) -> None:
    opened(page, site, f"series/{study.series[0]}")
    both = ["Left lung (chest_structures)", "Left lung (thorax_standin)"]
    legend = [text.strip() for text in page.locator(".legend label").all_inner_texts()]
    colours = [swatch.get_attribute("fill") for swatch in page.locator(".legend .swatch rect").all()]
    options = page.locator("#radiomics select[name=structure] option").all_inner_texts()
    volumes = [row.split("\t")[0] for row in page.locator("[aria-labelledby=volumes-title] tbody tr").all_inner_texts()]
    levels = page.locator(".levels .of-mask").all_text_contents()
    for names in (legend, options, volumes, levels, colours):
        assert len(set(names)) == len(names), names
    for names in (legend, options, volumes):
        assert set(both) <= set(names)
    assert "1 chest_structures, 2 thorax_standin." in page.locator(".viewer").inner_text()
    page.locator("#radiomics select[name=structure]").select_option(both[1])
    cells = "[...document.querySelectorAll('#radiomics tbody td:first-child')]"
    until(page, f"{cells}.every((cell) => cell.textContent === '{both[1]}')")
    assert page.locator("#radiomics tbody tr").count() > 50
    opened(page, site, f"?series={study.series[0]}")
    row = page.locator("#rows .volume").all_inner_texts()
    assert len({text.split("\n")[0] for text in row}) == len(row)
    page.get_by_role("link", name="and ").wait_for()


def test_dropped_files_are_judged_and_nothing_is_stored(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page, tmp_path: Path
) -> None:
    opened(page, site, "rules")
    before = site.client.get("/statistics").json()["CountInstances"], len(site.api("series?limit=500")["series"])
    files = write_phantom(tmp_path / "dropped", small_chest(), uid_seed="dropped")
    contents = [base64.b64encode(file.read_bytes()).decode() for file in files]
    data: Any = page.evaluate_handle(
        """contents => {
            const data = new DataTransfer();
            contents.forEach((content, n) => data.items.add(
                new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], `${n}.dcm`)));
            data.items.add(new File(["no DICOM"], "a.txt"));
            return data;
        }""",
        contents,
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": data})
    assert page.locator("#drop.over").count() == 1
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    page.locator("#dropped .good").wait_for()
    said = page.locator("#dropped").inner_text()
    assert "1 file is not DICOM" in said
    assert f"{len(files)} files" in said
    rows = [row.inner_text().split("\t") for row in page.locator("#dropped tbody tr").all()]
    assert rows[0][0] == QUICK
    assert "SeriesDescription" in rows[0][1]
    assert rows[-1][:2] == ["all", "takes the series: all criteria are met"]
    assert "segment chest_structures, segment thorax_standin" in said
    after = site.client.get("/statistics").json()["CountInstances"], len(site.api("series?limit=500")["series"])
    assert after == before


def test_a_changed_copy_of_the_rules_is_compared_on_the_page(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page
) -> None:
    opened(page, site, "rules")
    page.locator("#rules").fill('[{"Name": "thick", "Match": {"Slices": {"Min": 500}}}]')
    page.get_by_role("button", name="Compare").click()
    page.locator("#comparison b").wait_for(timeout=60_000)
    said = page.locator("#comparison").inner_text()
    assert "would change" in said
    rows = [row.inner_text().split("\t") for row in page.locator("#comparison table").last.locator("tbody tr").all()]
    of_study = [row for row in rows if any(uid.endswith(row[0].lstrip("…")) for uid in study.series)]
    assert [row[1:] for row in of_study] == [["rule all", "too few slices"]] * 2
    page.locator("#rules").fill("[")
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("This is not valid JSON").wait_for()


def test_a_list_that_changes_while_somebody_chooses_is_fresh_afterwards(
    site: EnrichedOrthanc, study: EnrichedStudy, page: Page, send: Send
) -> None:
    opened(page, site, "")
    box = page.locator(f"input[name=series][value='local/{study.series[0]}']")
    box.check()
    series = send()
    site.await_final(series)
    page.wait_for_timeout(3000)
    assert box.is_checked()
    assert page.evaluate(f"() => !{shown_row(series)}")
    box.uncheck()
    page.locator("h1").click()  # the focus leaves the list
    until(page, shown_row(series), 10)
