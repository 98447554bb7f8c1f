"""A converted nnU-Net in a real Orthanc: a phantom with organs arrives, its organs come back; a patient is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.errors import Refusal
from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import Phantom
from orthanc_plugin.phantoms.thorax import ORGANS, make_thorax_phantom
from orthanc_plugin.results.seg import decode_seg
from orthanc_plugin.series.read import read_series
from tests.conformance.readers import complaints
from tests.support.cases.enriched import EnrichedOrthanc, files_of
from tests.support.cases.realct import real_ct

STANDIN = "thorax_standin"
HELD_OUT_SEED = 2_000_000
LEAST_DICE = {"esophagus": 0.7, "heart": 0.85, "trachea": 0.85, "aorta": 0.8, "lung_left": 0.93, "lung_right": 0.93}
"""Measured: docs/models/thorax_standin.md."""


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_thorax_phantom((75, 96, 96), seed=HELD_OUT_SEED)


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    """An Orthanc whose only rule runs the stand-in, with the guards of the default rule."""
    with EnrichedOrthanc(section={"Rules": [{"Name": "organs", "Models": [STANDIN]}]}) as orthanc:
        orthanc.await_service()
        yield orthanc


@pytest.fixture(scope="module")
def enriched(server: EnrichedOrthanc, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The phantom's files, once it was sent and is done."""
    files = write_phantom(tmp_path_factory.mktemp("phantom"), phantom)
    server.stow(files)
    row = server.await_final(dcmread(files[0]).SeriesInstanceUID, within_s=300)
    assert (row["state"], row["reason"]) == ("done", ""), row
    return files


def results_of(server: EnrichedOrthanc, files: list[Path]) -> list[Dataset]:
    return server.results(dcmread(files[0]).StudyInstanceUID)


def stored_organs(server: EnrichedOrthanc, files: list[Path]) -> Segmentation:
    """The SEG in the archive, on the grid of its series."""
    (seg,) = (ds for ds in results_of(server, files) if ds.Modality == "SEG")
    return decode_seg(seg, read_series(map(dcmread, files)), find_model(STANDIN, None))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def test_organs_of_the_stored_seg_are_those_of_the_phantom(
    server: EnrichedOrthanc, enriched: list[Path], phantom: Phantom
) -> None:
    found = stored_organs(server, enriched)
    scores = {s.key: dice(found.mask(s), phantom.labels == ORGANS[s.key]) for s in found.segments}
    assert scores.keys() == ORGANS.keys()
    assert {organ for organ, score in scores.items() if score < LEAST_DICE[organ]} == set(), scores


def test_left_is_the_patients_left(server: EnrichedOrthanc, enriched: list[Path]) -> None:
    """LPS: in an axial slice of a patient that lies head first on the back, columns grow to the left."""
    found = stored_organs(server, enriched)
    column = {s.key: float(np.argwhere(found.mask(s))[:, 2].mean()) for s in found.segments}
    assert column["lung_right"] < column["heart"] < column["lung_left"]


def test_every_object_is_there_and_says_what_made_it(server: EnrichedOrthanc, enriched: list[Path]) -> None:
    results = results_of(server, enriched)
    assert sorted(ds.Modality for ds in results) == ["SEG", "SR", "SR", "SR"]
    (seg,) = (ds for ds in results if ds.Modality == "SEG")
    card = find_model(STANDIN, None)
    told = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert told.AlgorithmName == STANDIN
    assert card.digest in seg.SegmentSequence[0].to_json()


def test_the_validator_finds_no_error(server: EnrichedOrthanc, enriched: list[Path], tmp_path: Path) -> None:
    for number, ds in enumerate(results_of(server, enriched)):
        ds.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        assert complaints(tmp_path / f"{number}.dcm") == []
    assert [line for line in complaints(enriched[0]) if line.startswith("Error")] == []


@pytest.mark.real_ct
def test_a_patient_is_refused_with_the_reason(server: EnrichedOrthanc) -> None:
    files = files_of(real_ct("cip_ct64/dicom"))
    server.stow(files)
    patient = dcmread(files[0])
    row = server.await_final(patient.SeriesInstanceUID)
    assert (row["state"], row["reason"]) == ("skipped", Refusal.TEST_MODEL)
    assert STANDIN in row["detail"]
    assert "AllowTestModels" in row["detail"]
    assert server.results(patient.StudyInstanceUID) == []
