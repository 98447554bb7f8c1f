"""A SEG of a job is edited as OHIF and Slicer do and stored back by STOW: page and tables show it, no job starts."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.cli import main as cli
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.pipeline.foreign import read_masks
from orthanc_plugin.series.read import read_series
from orthanc_plugin.validation.corrections import is_ours
from tests.support.cases.enriched import EnrichedOrthanc, small_chest
from tests.support.cases.expert_case import by_ohif, drawn_seg


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    with EnrichedOrthanc() as orthanc:
        orthanc.await_service()
        yield orthanc


def cut(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take the upper half of a mask away."""
    levels = np.flatnonzero(mask.any(axis=(1, 2)))
    kept = mask.copy()
    kept[int(levels.mean()) :] = False
    return kept


def test_edits_stand_beside_the_result(
    server: EnrichedOrthanc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instances = encode_phantom(small_chest())
    series = read_series(iter(instances))
    study_uid, series_uid = series.identity.study_instance_uid, series.identity.series_instance_uid
    server.send(*instances)
    row = server.await_final(series_uid)
    assert row["state"] == "done"
    (ours,) = (ds for ds in server.results(study_uid) if ds.Modality == "SEG")
    assert is_ours(ours)

    found = read_masks(ours, series)
    masks = {s.label: layer.mask(s) for layer in found.layers for s in layer.segments}
    first, *others = masks
    edited = {first: cut(masks[first]), **{label: masks[label] for label in others}}
    edits: list[Dataset] = [
        by_ohif(series, edited),
        by_ohif(series, edited, "LABELMAP"),
        drawn_seg(series, {f"renamed {k}": mask for k, mask in enumerate(edited.values())}, maker="QIICR"),
    ]
    archive = DicomWebArchive("local", server.dicomweb_url, server.user, server.password)
    for edit in edits:
        archive.store(edit)
    archive.close()

    url = f"{server.service_url}/enrichment/jobs/{row['job_id']}/corrections"
    page = httpx.get(url, auth=(server.user, server.password), timeout=120, trust_env=False).text
    assert page.count("OHIF Editor") == 2 * len(masks)
    assert page.count("QIICR Editor") == len(masks)

    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps({"Enrichment": {"Archives": server.enrichment["Archives"]}}))
    words = ["validate", "--corrections", "--config", str(config), "--out", str(tmp_path / "out"), "--json"]
    assert cli.main(words) == cli.EXIT_DONE
    assert json.loads(capsys.readouterr().out)["refused"] == 0
    table = list(csv.DictReader((tmp_path / "out" / "corrections.csv").read_text().splitlines()))
    assert len(table) == 3 * len(masks)
    assert {line["ai_sop_instance_uid"] for line in table} == {str(ours.SOPInstanceUID)}
    changed = {line["ai_label"]: float(line["dice"]) for line in table}
    assert 0.3 < changed.pop(first) < 0.95
    assert set(changed.values()) == {1.0}

    assert len(server.rows(series_uid)) == 1
    again = [ds for ds in server.results(study_uid) if is_ours(ds) and ds.Modality == "SEG"]
    assert [ds.SOPInstanceUID for ds in again] == [ours.SOPInstanceUID]
    assert again[0].PixelData == ours.PixelData
    served = server.api("series?limit=500")["series"]
    assert {line["series_instance_uid"] for line in served if line["state"] == "done"} == {series_uid}
