"""The report of quality checks by readers that are not ours: dciodvfy, dcmtk and dcmqi."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.sr.content import shown
from tests.conformance.cases import real
from tests.conformance.readers import DCMQI_TROUBLE, complaints, output_of, tool
from tests.support.cases.checks_case import OTHER, checks_report, results_of, stored
from tests.support.cases.results_case import CARD, small_series

CASES: dict[str, Callable[[], CtSeries]] = {
    "cip_ct64": lambda: real("cip_ct64/dicom"),
    "labelmap": lambda: small_series(201, 204),
}


@pytest.mark.parametrize("case", CASES)
def test_readers_take_the_checks_of_two_models(case: str, tmp_path: Path) -> None:
    series = CASES[case]()
    models = [stored(series), stored(series, OTHER)]
    path, out = tmp_path / "checks_sr.dcm", tmp_path / "checks.json"
    checks_report(series, models).save_as(path, enforce_file_format=True)
    assert complaints(path) == []

    status, text = output_of(tool("dsrdump"), str(path))
    assert status == 0
    assert text.count('<contains CONTAINER:(,,"Measurement Group")') == 8
    assert not [line for line in text.splitlines() if line.startswith(("E:", "F:"))]

    status, text = output_of(tool("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out))
    assert (status, DCMQI_TROUBLE.search(text)) == (0, None), text
    groups = {group["TrackingIdentifier"]: group for group in json.loads(out.read_text())["Measurements"]}
    assert len(groups) == 8
    results = results_of(series, models)
    lungs = [result for result in results if (result.model, result.key) == (CARD.name, "lung_left")]
    read = groups[f"{CARD.name}: Left lung"]["measurementItems"]
    assert [float(item["value"]) for item in read] == [float(shown(result.value)) for result in lungs]  # NumericValue
