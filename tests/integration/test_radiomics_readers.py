"""The radiomics report by readers that are not ours: every feature that has a code, filtered images, image library."""

from __future__ import annotations

from pathlib import Path

import pytest

from orthanc_plugin.domain.plan import SegEncoding
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.conformance import readers
from tests.support.cases.radiomics_case import FILTERED, measured, report, stored_as


@pytest.mark.parametrize("library", [False, True], ids=["slices not listed", "slices listed"])
def test_readers_take_every_feature_of_three_images(library: bool, tmp_path: Path) -> None:
    features = [measured(number, image) for image in ("original", FILTERED, "wavelet-LLH") for number in (1, 2, 5)]
    ds = report(stored_as(SegEncoding.BINARY), features, library=library)
    path = tmp_path / "radiomics_sr.dcm"
    ds.save_as(path, enforce_file_format=True)
    assert readers.complaints(path) == []
    readers.dcmtk_reads_report(path, "AI Enrichment Report")
    readers.dcmqi_reads_report(path)
    readers.highdicom_reads_report(path)
    assert len(read_radiomics_sr(ds)) == sum(len(of.features) for of in features)
