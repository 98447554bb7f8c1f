"""A rule with `Measure: expert` in a real Orthanc: somebody draws after the CT arrived, and the report follows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from orthanc_plugin.series.read import read_series
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.cases.foreign_case import highdicom_seg, rtstruct, square
from tests.support.servers.orthanc_server import wait_until

RULE = {
    "Name": "drawn",
    "Measure": "expert",
    "RadiomicsSettings": {"Classes": ["shape", "firstorder"]},
}


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    with EnrichedOrthanc(section={"Rules": [RULE]}) as orthanc:
        orthanc.await_service()
        yield orthanc


def reports(server: EnrichedOrthanc, study_uid: str) -> list[Dataset]:
    return [ds for ds in server.results(study_uid) if ds.Modality == "SR"]


def test_masks_drawn_after_the_ct_arrived_are_measured(server: EnrichedOrthanc) -> None:
    instances = encode_phantom(make_phantom((24, 32, 32), (5, 12, 12)))
    series = read_series(iter(instances))
    study_uid, series_uid = series.identity.study_instance_uid, series.identity.series_instance_uid
    server.send(*instances)
    row = server.await_final(series_uid)
    assert (row["state"], row["reason"]) == ("skipped", "no-masks")

    mask = np.zeros(series.source_shape, bool)
    mask[8:14, 10:20, 10:20] = True
    server.send(highdicom_seg(series, [mask]))
    wait_until(lambda: len(reports(server, study_uid)) == 1, 120, "the report on the SEG")
    wait_until(lambda: server.rows(series_uid)[0]["state"] == "done", 60, "the end of the job")

    contours = rtstruct(series, {"GTV": {z: [square(4.6, 4.6, 12.4, 12.4)] for z in range(5, 9)}})
    contours.SOPInstanceUID = contours.file_meta.MediaStorageSOPInstanceUID = "2.25.7009"
    server.send(contours)
    wait_until(lambda: len(reports(server, study_uid)) == 2, 120, "the report on the RT structure set")

    rows = [row for report in reports(server, study_uid) for row in read_radiomics_sr(report)]
    voxels = {row.seg_sop_instance_uid: row.voxels for row in rows}
    assert voxels == {"2.25.7001": 600, "2.25.7009": 4 * 64}
    assert len(server.rows(series_uid)) == 1

    # Once its SEG is deleted, the report on it goes, and the other stays.
    (found,) = server.client.post("/tools/lookup", content="2.25.7001").json()
    server.client.delete(f"/instances/{found['ID']}").raise_for_status()
    query = {"Level": "Series", "Query": {"StudyInstanceUID": study_uid, "Modality": "SR"}}
    wait_until(lambda: len(server.client.post("/tools/find", json=query).json()) == 1, 120, "the withdrawal")
    (left,) = reports(server, study_uid)
    assert {row.seg_sop_instance_uid for row in read_radiomics_sr(left)} == {"2.25.7009"}
    wait_until(lambda: server.rows(series_uid)[0]["state"] == "done", 60, "the end of the job")
