"""A comparison as DICOM SR: what stands in it, and that validators take it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.validation.cases import compare_objects
from orthanc_plugin.validation.sr import METRICS, encode_comparison_sr
from tests.conformance import readers
from tests.support.cases.expert_case import HEART, drawn_seg, edited, ellipsoid, our_seg, read, small_ct

SERIES = read(small_ct())
AI = our_seg(SERIES)


def report(expert: Dataset) -> tuple[Dataset, dict[str, dict[str, float]]]:
    case = compare_objects(SERIES, AI, expert)
    ds = encode_comparison_sr(case, title=REPORT_TITLE, created=datetime(2026, 1, 2, 3, 4, 5))
    groups = {}
    for group in ds.ContentSequence[-1].ContentSequence:
        name = next(c.TextValue for c in group.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "112039")
        numbers = (c for c in group.ContentSequence if c.ValueType == "NUM")
        groups[name] = {
            c.ConceptNameCodeSequence[0].CodeValue: float(c.MeasuredValueSequence[0].FloatingPointValue)
            for c in numbers
        }
    return ds, groups


def test_each_structure_has_a_group_with_its_metrics(tmp_path: Path) -> None:
    masks = {"Lung_L": edited(SERIES)["lung_left"], "heart": ellipsoid(SERIES, (0, 0.2, 0), (0.3, 0.2, 0.1))}
    expert = drawn_seg(SERIES, masks, {"heart": HEART})
    ds, groups = report(expert)
    case = compare_objects(SERIES, AI, expert)
    values = {row.structure: row for row in case.rows}
    for name, (concept, _) in METRICS.items():
        assert groups["Lung_L"][concept.value] == getattr(values["Lung_L"], name)
    assert groups["Heart"]["CMP_DICE"] == 0.0
    assert "CMP_HD" not in groups["Heart"]
    evidence = {str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
    assert {str(AI.SOPInstanceUID), str(expert.SOPInstanceUID)} <= evidence
    again, _ = report(expert)
    assert again.SOPInstanceUID == ds.SOPInstanceUID
    path = tmp_path / "comparison.dcm"
    ds.save_as(path, enforce_file_format=True)
    assert readers.complaints(path) == []
    readers.highdicom_reads_report(path)


def test_nothing_compared_is_no_report() -> None:
    case = compare_objects(SERIES, AI, drawn_seg(SERIES, {"Lung_L": edited(SERIES)["lung_left"]}))
    from dataclasses import replace

    with pytest.raises(EncodingError, match="nothing to report"):
        encode_comparison_sr(replace(case, rows=(), pairs=()), title=REPORT_TITLE, created=datetime(2026, 1, 2))
