"""A person draws in OHIF and stores it as SEG or RT structure set; a rule with `Measure: expert` measures that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext
from pydicom.dataset import Dataset

from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.browser.ohif_page import open_ohif
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.servers.orthanc_server import wait_until

pytestmark = pytest.mark.timeout(600)

RULE = {"Name": "drawn", "Measure": "expert", "RadiomicsSettings": {"Classes": ["shape", "firstorder"]}}
SLICES, ROWS, COLUMNS = 24, 40, 44
STEPS_MM = (5.0, 9.0, 9.0)
BOXES = {1: (6, 12, 8, 20, 10, 30), 2: (9, 15, 22, 30, 10, 21)}
"""First and last slice, row and column (the last not included) of each segment."""
LABELS = {1: "Läsion 病変", 2: "Node <b>"}
SAID = {"Create Report\nSegmentation saved successfully", "Generating Contour Sets\nCompleted successfully"}
_LOADED = "count => services.displaySetService.getActiveDisplaySets().some(one => one.imageIds?.length === count)"
_DRAW = """async ({ boxes, labels }) => {
  const { displaySetService, segmentationService, viewportGridService } = services;
  const viewportId = viewportGridService.getActiveViewportId();
  const [uid] = viewportGridService.getDisplaySetsUIDsForViewport(viewportId);
  const images = displaySetService.getDisplaySetByUID(uid);
  const segments = Object.fromEntries(
    Object.entries(labels).map(([n, label]) => [n, { segmentIndex: +n, label, locked: false, active: n === '1' }]));
  const id = await segmentationService.createLabelmapForDisplaySet(images, { label: 'Drawn', segments });
  await segmentationService.addSegmentationRepresentation(viewportId, { segmentationId: id, type: 'Labelmap' });
  const { imageIds } = segmentationService.getSegmentation(id).representationData.Labelmap;
  const z = id => cornerstone.metaData.get('imagePlaneModule', id).imagePositionPatient[2];
  const drawn = imageIds.map(id => cornerstone.cache.getImage(id));
  for (const image of drawn) {
    await cornerstone.imageLoader.loadAndCacheImage(image.referencedImageId);
  }
  drawn.sort((one, other) => z(one.referencedImageId) - z(other.referencedImageId));
  for (const [number, [z0, z1, y0, y1, x0, x1]] of Object.entries(boxes)) {
    for (const image of drawn.slice(z0, z1)) {
      for (let y = y0; y < y1; y++) {
        for (let x = x0; x < x1; x++) {
          image.voxelManager.setAtIndex(y * image.columns + x, +number);
        }
      }
    }
  }
  cornerstoneTools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(id);
  return id;
}"""
_STORE = """([segmentationId, modality, mode]) => {
  services.customizationService.setCustomizations({ 'segmentation.store.defaultMode': { $set: mode } }, 'global');
  window.stored = commandsManager.run({
    commandName: 'storeSegmentation', commandOptions: { segmentationId, modality }, context: 'CORNERSTONE',
  }).then(() => 'stored', error => String(error));
}"""


@pytest.fixture(scope="module")
def archive(ready: None) -> Iterator[EnrichedOrthanc]:
    """An Orthanc of this module: the segments that are drawn here are in no other study."""
    with EnrichedOrthanc(section={"Rules": [RULE]}) as orthanc:
        orthanc.await_service()
        yield orthanc


def reports(archive: EnrichedOrthanc, study_uid: str) -> list[Dataset]:
    return [ds for ds in archive.results(study_uid) if ds.Modality == "SR"]


def voxels(number: int) -> int:
    z0, z1, y0, y1, x0, x1 = BOXES[number]
    return (z1 - z0) * (y1 - y0) * (x1 - x0)


@pytest.mark.parametrize(("modality", "mode"), [("SEG", "labelmap"), ("SEG", "bitmap"), ("RTSTRUCT", "labelmap")])
def test_what_ohif_stored_is_measured(
    archive: EnrichedOrthanc, browser: BrowserContext, picture: Callable[[str], Path], modality: str, mode: str
) -> None:
    instances = encode_phantom(make_phantom((SLICES, ROWS, COLUMNS), STEPS_MM), uid_seed=modality + mode)
    study_uid, series_uid = str(instances[0].StudyInstanceUID), str(instances[0].SeriesInstanceUID)
    archive.send(*instances)
    assert archive.await_final(series_uid)["reason"] == "no-masks"

    with open_ohif(browser, archive, study_uid, series_uid) as ohif:
        ohif.await_shown(series_uid)
        ohif.page.wait_for_function(_LOADED, arg=SLICES)
        segmentation = ohif.page.evaluate(_DRAW, {"boxes": BOXES, "labels": LABELS})
        ohif.page.evaluate(_STORE, [segmentation, modality, mode])
        ohif.page.get_by_role("button", name="Save").click()
        stored = ohif.page.evaluate("() => window.stored")
        ohif.page.screenshot(path=picture(f"ohif-drawn-{modality}-{mode}"))
        assert stored == "stored"
        if mode == "labelmap":  # OHIF then opens what it stored; Orthanc 1.10.1 decodes no BINARY with RLE
            assert set(ohif.complaints()) <= SAID

    wait_until(lambda: reports(archive, study_uid), 120, "the report on what OHIF stored")
    wait_until(lambda: archive.rows(series_uid)[0]["state"] == "done", 60, "the end of the job")
    if modality == "SEG":
        (seg,) = (ds for ds in archive.results(study_uid) if ds.Modality == "SEG")
        assert seg.SegmentationType == {"labelmap": "LABELMAP", "bitmap": "BINARY"}[mode]
    (report,) = reports(archive, study_uid)
    rows = read_radiomics_sr(report)
    assert {(row.label, row.voxels) for row in rows} == {(LABELS[number], voxels(number)) for number in BOXES}
    volumes = {row.label: row.value for row in rows if row.feature == "shape_VoxelVolume"}
    assert volumes == {LABELS[number]: pytest.approx(voxels(number) * math.prod(STEPS_MM)) for number in BOXES}
