"""A CT series in which a report or a document lies is decided on like any other, whatever comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage

from orthanc_plugin.jobs.ledger import Verdict
from tests.support.fakes.memory_archive import ct_series, ct_slice
from tests.unit.jobs.test_admission import House


@pytest.mark.parametrize("modality", ["SR", "OT"])
def test_a_report_before_the_slices_does_not_hide_the_series(tmp_path: Path, modality: str) -> None:
    house = House(tmp_path)
    report = ct_slice(0)
    report.Modality, report.SOPClassUID = modality, BasicTextSRStorage
    report.SOPInstanceUID = "1.1"
    del report.ImagePositionPatient, report.ImageOrientationPatient
    house.archive.put(report, *ct_series())
    house.start(feed=False)
    house.hint()
    (row,) = house.rows()
    assert row.decision is Verdict.ENRICH
    house.queue.close()
