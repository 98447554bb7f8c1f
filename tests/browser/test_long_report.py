"""OHIF shows a report of 116 structures with all features, as people read it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext
from pydicom.dataset import Dataset

from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import SegEncoding
from orthanc_plugin.results import seg
from orthanc_plugin.results.sr.radiomics import encode_radiomics_sr
from tests.browser.ohif_page import OhifPage, logged_in
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.cases.radiomics_case import SERIES, SETTINGS, measured, stored_as
from tests.support.cases.results_case import CARD, RADIOMICS_UID, provenance_of

pytestmark = pytest.mark.timeout(900)

STRUCTURES = 116
WHAT = f"from click to a report of {STRUCTURES} structures"
MOST_SECONDS = 60.0
"""It takes a sixth of it on a busy machine. A report that repeats itself, or a viewer that got slower, takes longer."""


@pytest.fixture(scope="module")
def long_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A report as a model of the whole body makes it; its structures are copies of one."""
    stored = stored_as(SegEncoding.BINARY)
    found = seg.decode_seg(stored, SERIES, CARD)
    first, names = found.segments[0], [f"Structure {number}" for number in range(1, STRUCTURES + 1)]
    segments = tuple(replace(first, number=number, label=name) for number, name in enumerate(names, 1))
    items = [deepcopy(stored.SegmentSequence[0]) for _ in names]
    for number, (item, name) in enumerate(zip(items, names, strict=True), 1):
        item.SegmentNumber, item.TrackingID, item.TrackingUID = number, name, f"2.25.77{number}"
    stored.SegmentSequence = items
    classes = {str(one) for one in SETTINGS.classes}
    features = []
    for number in range(1, STRUCTURES + 1):
        whole = measured(number)
        usual = tuple(one for one in whole.features if one.name.split("_")[0] in classes)
        features.append(replace(whole, features=usual))
    ds = encode_radiomics_sr(
        provenance_of(SERIES, RADIOMICS_UID), stored, Segmentation(found.labels, segments), features,
        title=REPORT_TITLE, settings=SETTINGS,
    )  # fmt: skip
    file = tmp_path_factory.mktemp("report") / "report.dcm"
    ds.save_as(file, enforce_file_format=True)
    return ds, file


def test_a_report_of_116_structures_lists_its_numbers_without_an_odd_1(
    site: EnrichedOrthanc, browser: BrowserContext, long_report: tuple[Dataset, Path],
    picture: Callable[[str], Path], keep_time: Callable[[str, float], None],
) -> None:  # fmt: skip
    ds, file = long_report
    site.stow([file])
    page = browser.new_page()
    ohif = OhifPage(page)
    link = f"/viewer?StudyInstanceUIDs={ds.StudyInstanceUID}&initialSeriesInstanceUID={ds.SeriesInstanceUID}"
    page.goto(f"{logged_in(site)}{link}", wait_until="domcontentloaded")
    ohif.await_text(f"Structure {STRUCTURES}")
    keep_time(WHAT, shown_s := ohif.seconds)
    assert shown_s < MOST_SECONDS
    page.screenshot(path=picture("ohif-long-report"))
    text = page.locator("body").inner_text()
    assert text.count("Sphericity:") == STRUCTURES
    assert "Sphericity: 2.449 {unitless}" in text
    numbers = [line for line in text.splitlines() if not line.startswith(("Tracking", "Algorithm"))]
    assert [line for line in numbers if line.endswith(" 1")] == []
    assert ohif.complaints() == []
    page.close()
