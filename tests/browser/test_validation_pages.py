"""The pages of `validate` and `timeline` in Chromium, opened from the disk: no error, no request, text is text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, Page

from orthanc_plugin.cli.main import EXIT_DONE, main
from tests.browser.chromium import Watch
from tests.support.cases.expert_case import drawn_seg, edited, our_seg, read, small_ct, write
from tests.unit.validation.test_timeline import study

HOSTILE = "<img src=x onerror=alert(1)>"


def opened(browser: BrowserContext, file: Path) -> tuple[Page, Watch, list[str]]:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    watch = Watch(page)
    page.goto(file.as_uri())
    return page, watch, [url for url in asked if not url.startswith(("file:", "data:"))]


def test_validation_page(browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]) -> None:
    for number in range(3):
        ct = small_ct(uid_seed=str(number))
        series = read(ct)
        write(tmp_path / "ct", *ct)
        write(tmp_path / "ai", our_seg(series, uid=f"2.25.5{number}"))
        masks = edited(series)
        write(tmp_path / "expert", drawn_seg(series, {"Lung_L": masks["lung_left"], HOSTILE: masks["airway"]}))
    words = [
        "--ai",
        tmp_path / "ai",
        "--expert",
        tmp_path / "expert",
        "--ct",
        tmp_path / "ct",
        "--out",
        tmp_path / "out",
    ]
    assert main(["validate", *map(str, words)]) == EXIT_DONE
    page, watch, asked = opened(browser, tmp_path / "out" / "validation.html")
    assert page.locator("svg circle").count() == 3
    assert page.locator(".worst img").first.evaluate("image => image.naturalWidth") > 100
    assert page.get_by_text(HOSTILE).count() > 0
    page.screenshot(path=picture("validation"), full_page=True)
    assert (watch.errors, asked) == ([], [])
    page.close()


def test_timeline_page(browser: BrowserContext, tmp_path: Path, picture: Callable[[str], Path]) -> None:
    write(tmp_path / "in", *study(1, 1.0, "20240110"), *study(2, 1.12, "20240710"))
    words = ["timeline", "--patient", "P 1", "--ct", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(words) == EXIT_DONE
    page, watch, asked = opened(browser, tmp_path / "out" / "timeline.html")
    assert page.locator("svg polyline").count() == 2
    assert page.locator("td .bad", has_text="beyond repeatability").count() == 2
    page.screenshot(path=picture("timeline"), full_page=True)
    assert (watch.errors, asked) == ([], [])
    page.close()
