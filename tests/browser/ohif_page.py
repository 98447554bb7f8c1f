"""OHIF in a browser: what it shows, as its own services know it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import BrowserContext, Page, Request

from tests.browser.chromium import Watch
from tests.browser.study import Segment, Voxels
from tests.support.cases.enriched import EnrichedOrthanc

PATIENCE_MS = 240_000
# Until React has drawn the page, OHIF's services answer with an exception.
_GRID = """() => {
  try { return [...services.viewportGridService.getState().viewports.values()]; } catch { return []; }
}"""
_SHOWN = f"""() => ({_GRID})()
  .flatMap(viewport => viewport.displaySetInstanceUIDs ?? [])
  .map(uid => services.displaySetService.getDisplaySetByUID(uid))
  .map(set => [set.Modality, set.SeriesInstanceUID])"""
_OVERLAYS = f"""() => ({_GRID})().flatMap(({{ viewportId }}) =>
  cornerstoneTools.segmentation.state.getSegmentationRepresentations(viewportId)
    .map(({{ segmentationId }}) => [viewportId, segmentationId]))"""
_SEGMENTATION = """([viewportId, id]) => {
  const segmentation = services.segmentationService.getSegmentation(id);
  const { SeriesInstanceUID } = services.displaySetService.getDisplaySetByUID(id);
  const { color } = cornerstoneTools.segmentation.config;
  const segments = Object.values(segmentation.segments).map(({ segmentIndex, label }) =>
    [segmentIndex, label, [...color.getSegmentIndexColor(viewportId, id, segmentIndex)].slice(0, 3)]);
  const voxels = [];
  for (const imageId of segmentation.representationData.Labelmap?.imageIds ?? []) {
    const image = cornerstone.cache.getImage(imageId);
    const counts = new Map();
    image.voxelManager.getScalarData().forEach((number, place) => {
      if (number) {
        const [count, places] = counts.get(number) ?? [0, 0];
        counts.set(number, [count + 1, places + place]);
      }
    });
    const sop = image.referencedImageId.match(/instances[/]([0-9.]+)/)[1];
    counts.forEach((found, number) => voxels.push([sop, number, ...found]));
  }
  return { series: SeriesInstanceUID, label: segmentation.label, segments, voxels };
}"""


_GIVEN_UP = "error in event listener of type:  CORNERSTONE_IMAGE_LOAD_FAILED TypeError: handler is not a function"
"""OHIF 3.13 sets no handler for an image that fails to load, and logs this. Once it came without a failed request,
probably for an image that OHIF had given up itself. Then each image must load when it is asked for again."""

_UNLOADABLE = """async () => {
  const viewports = cornerstone.getRenderingEngines().flatMap((engine) => engine.getViewports());
  const ids = [...new Set(viewports.flatMap((viewport) => viewport.getImageIds()))];
  const loads = ids.map((id) => cornerstone.imageLoader.loadAndCacheImage(id));
  const lost = (await Promise.allSettled(loads)).flatMap(({ status }, n) => (status === "rejected" ? [ids[n]] : []));
  return ids.length ? lost : ["no image is shown"];
}"""


@dataclass(frozen=True)
class Overlay:
    """A segmentation on the images. series: the SEG's. label: its name in the panel."""

    series: str
    label: str
    segments: list[Segment]
    voxels: Voxels


class OhifPage:
    """A page that shows OHIF. seconds: from the click until the page showed what a test waited for."""

    def __init__(self, page: Page) -> None:
        self.page, self.watch = page, Watch(page)
        self.began = time.monotonic()
        page.on("requestfailed", self._failed)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def await_shown(self, series_uid: str) -> None:
        """Wait until a viewport shows a series."""
        self.page.wait_for_function(
            f"uid => ({_SHOWN})().some(([, shown]) => shown === uid)", arg=series_uid, timeout=PATIENCE_MS
        )

    def await_overlays(self, count: int) -> list[Overlay]:
        """Wait until so many segmentations are drawn, and return them."""
        self.page.wait_for_function(f"count => ({_OVERLAYS})().length === count", arg=count, timeout=PATIENCE_MS)
        return [self._overlay(found) for found in self.page.evaluate(_OVERLAYS)]

    def await_text(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.page.get_by_text(text).first.wait_for(timeout=PATIENCE_MS)

    def shown(self) -> list[tuple[str, str]]:
        """Modality and SeriesInstanceUID of what the viewports show."""
        return [tuple(found) for found in self.page.evaluate(_SHOWN)]

    def listed(self) -> list[int]:
        """SeriesNumbers in the list on the left, from the top."""
        rows = self.page.locator("[data-cy=study-browser-thumbnail], [data-cy=study-browser-thumbnail-no-image]")
        return [int(line[2:]) for text in rows.all_inner_texts() for line in text.split("\n") if line.startswith("S:")]

    def complaints(self) -> list[str]:
        """All that went wrong so far; must be empty."""
        asked = ["a question was asked"] * self.page.locator("[data-cy=yes-hydrate-btn]").count()
        hacked = ["a text of the study ran as code"] if self.page.evaluate("() => window.hacked") else []
        errors = [text for text in self.watch.errors if not text.startswith(_GIVEN_UP)]
        if len(errors) < len(self.watch.errors):
            errors += self.unloadable()
        return [*errors, *self.watch.failures, *self.watch.alarms(), *asked, *hacked]

    def unloadable(self) -> list[str]:
        """Images of what is shown that do not load."""
        return list(self.page.evaluate(_UNLOADABLE))

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":
            self.watch.failures.append(f"{request.failure} {request.url}")

    def _overlay(self, found: list[str]) -> Overlay:
        told = self.page.evaluate(_SEGMENTATION, found)
        segments = [(number, label, tuple(colour)) for number, label, colour in told["segments"]]
        voxels = {(sop, number): (count, places) for sop, number, count, places in told["voxels"]}
        return Overlay(told["series"], told["label"], segments, voxels)


@contextmanager
def open_ohif(browser: BrowserContext, site: EnrichedOrthanc, *uids: str) -> Iterator[OhifPage]:
    """Open study, series and object by the link that pages and buttons have."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    query = "&".join(f"{name}={uid}" for name, uid in zip(names, uids, strict=False))
    page = browser.new_page()
    ohif = OhifPage(page)
    try:
        page.goto(f"{logged_in(site)}/enrichment/open?{query}", wait_until="domcontentloaded")
        yield ohif
    finally:
        page.close()


def logged_in(site: EnrichedOrthanc) -> str:
    """The service's address with a login, as the demo's link has it."""
    return site.service_url.replace("://", f"://{site.user}:{site.password}@")
