"""The report on the input that a job stores, by readers that are not ours: dciodvfy, dcmtk and dcmqi."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.plan import Location, Output
from tests.conformance.readers import DCMQI_TROUBLE, complaints, output_of, tool
from tests.support.cases.input_quality_case import scan_with_metal
from tests.support.cases.location_case import CHEST
from tests.support.fakes.hand_job import BPR, HandProcess, job, run


@pytest.fixture
def report() -> Dataset:
    """What a job stores for a series with metal."""
    process = HandProcess(CHEST)
    what = job(Location(BPR), Output.INPUT_QUALITY)
    process.series[what.series_instance_uid] = scan_with_metal()
    stored = run(process, what)["report input-quality"].stored
    assert stored is not None
    return process.stored[stored.sop_instance_uid]


def test_readers_take_the_report(report: Dataset, tmp_path: Path) -> None:
    path, out = tmp_path / "input_sr.dcm", tmp_path / "input.json"
    report.save_as(path, enforce_file_format=True)
    assert complaints(path) == []

    status, text = output_of(tool("dsrdump"), str(path))
    assert status == 0
    assert text.count('<contains CONTAINER:(,,"Measurement Group")') == 1
    assert not [line for line in text.splitlines() if line.startswith(("E:", "F:"))]

    status, text = output_of(tool("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out))
    assert (status, DCMQI_TROUBLE.search(text)) == (0, None), text
    (group,) = json.loads(out.read_text())["Measurements"]
    items = {item["quantity"]["CodeValue"]: float(item["value"]) for item in group["measurementItems"]}
    assert items["QI_METAL"] == 0.08333  # NumericValue, for people; the report holds all digits of 1/12 too
