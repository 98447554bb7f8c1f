"""What tells of outdated results, by readers that are not ours: rejection notes, and reports with predecessors."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.kinds import reference_of
from orthanc_plugin.results.rejection import encode_rejection
from tests.conformance.readers import complaints, output_of, tool
from tests.support.cases.location_case import CHEST
from tests.support.fakes.hand_job import HandProcess, job, run

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def results() -> list[Dataset]:
    """What a job stores: a SEG and two reports."""
    process = HandProcess(CHEST)
    run(process, job(None, Output.RADIOMICS, Output.LANDMARKS))
    return list(process.stored.values())


def test_readers_take_a_rejection_note(results: list[Dataset], tmp_path: Path) -> None:
    note, path = encode_rejection(results, CREATED), tmp_path / "note.dcm"
    note.save_as(path, enforce_file_format=True)
    assert complaints(path) == []
    encode_rejection([ds for ds in results if ds.Modality == "SR"], CREATED).save_as(path, enforce_file_format=True)
    assert complaints(path) == []
    status, text = output_of(tool("dsrdump"), str(path))  # it does not know the SOP class of our SEG
    assert (status, [line for line in text.splitlines() if line.startswith(("E:", "F:"))]) == (0, [])
    assert "Rejected for Quality Reasons" in text
    assert len(results) == 3
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    rejected = [item for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]
    assert {item.ReferencedSOPInstanceUID for item in rejected} == {ds.SOPInstanceUID for ds in results}
    again = encode_rejection(results[::-1], CREATED)
    assert (again.SOPInstanceUID, again.PatientID) == (note.SOPInstanceUID, results[0].PatientID)


def test_readers_take_a_report_with_predecessors(tmp_path: Path) -> None:
    process = HandProcess(CHEST)
    earlier = replace(job(None), fingerprint="0" * 64)
    run(process, replace(earlier, plan=replace(earlier.plan, outputs=(Output.SEG, Output.LANDMARKS))))
    references = tuple(reference_of(ds) for ds in process.stored.values() if ds.Modality == "SR")
    process.sessions = replace(process.sessions, predecessors=lambda job, kind: references)
    run(process, job(None, Output.LANDMARKS))
    reports = [ds for ds in process.stored.values() if ds.Modality == "SR"]
    assert ["PredecessorDocumentsSequence" in ds for ds in reports] == [False, True]
    for number, ds in enumerate(reports):
        path = tmp_path / f"{number}.dcm"
        ds.save_as(path, enforce_file_format=True)
        assert complaints(path) == []
