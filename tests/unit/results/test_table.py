"""Tables of radiomics reports have the numbers of the report to the last bit, in forms that other software reads."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pydicom
import pytest
from pyarrow import parquet
from pydicom.dataset import Dataset

from orthanc_plugin import __version__
from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.domain.measures import Conditions, FeatureValue, Missing, SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import RadiomicsMode, RadiomicsSettings
from orthanc_plugin.errors import ConfigError, EncodingError
from orthanc_plugin.radiomics.feature_codes import coded_features
from orthanc_plugin.results import seg
from orthanc_plugin.results.sr.radiomics import encode_radiomics_sr
from orthanc_plugin.results.sr.radiomics_table import (
    TableRow,
    read_radiomics_sr,
    to_csv,
    to_json,
    to_parquet,
    write_tables,
)
from tests.support.cases.results_case import (
    CARD,
    RADIOMICS_UID,
    SEG_UID,
    ellipsoids,
    encode,
    landmarks_report,
    provenance_of,
    radiomics_report,
    small_series,
)

SERIES = small_series()
ROW = TableRow(
    "m", "1", "ab", "2.25.1", "2.25.2", "2.25.3", 4, "Lung, left", "original", "f_F", "C", "S", "a \"b\"", 1 / 3, "/mm"
)  # fmt: skip
AWKWARD = (0.1 + 0.2, -1e-300, 5e-324, 1.7976931348623157e308, -0.0, 123456789012345.67, 1 / 3)


@pytest.fixture(scope="module")
def stored() -> Dataset:
    return encode(SERIES, ellipsoids(SERIES))


def written(ds: Dataset) -> Dataset:
    """Write the report and read it back."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))


def measured(
    number: int, values: tuple[float, ...], mode: RadiomicsMode = RadiomicsMode.IBSI, image: str = "original"
) -> SegmentFeatures:
    coded = coded_features(mode)
    features = [FeatureValue(c.name, c.concept, c.unit, v, c.derivation) for c, v in zip(coded, values, strict=False)]
    return SegmentFeatures(number, tuple(features), image=image)


@pytest.mark.parametrize("mode", RadiomicsMode)
def test_rows_are_the_features_that_were_measured(stored: Dataset, mode: RadiomicsMode) -> None:
    values = tuple(math.sqrt(number + 2) for number in range(len(coded_features(mode))))
    features = measured(1, values, mode)
    rows = read_radiomics_sr(written(radiomics_report(SERIES, stored, [features])))
    assert [(row.feature, row.code, row.scheme, row.meaning, row.unit, row.value) for row in rows] == [
        (f.name, f.concept.value, f.concept.scheme, f.concept.meaning, f.unit.value, f.value) for f in features.features
    ]
    assert {(row.model, row.model_version, row.model_digest) for row in rows} == {
        (CARD.name, CARD.version, CARD.digest)
    }
    uids = {(row.series_instance_uid, row.seg_sop_instance_uid, row.sr_sop_instance_uid) for row in rows}
    assert uids == {(SERIES.identity.series_instance_uid, SEG_UID, RADIOMICS_UID)}
    assert {(row.segment_number, row.label, row.image) for row in rows} == {(1, "Left lung", "original")}


def test_values_are_those_of_the_report_to_the_last_bit(stored: Dataset) -> None:
    rows = read_radiomics_sr(written(radiomics_report(SERIES, stored, [measured(1, AWKWARD)])))
    for values in (
        [row.value for row in rows],
        [float(row["value"]) for row in csv.DictReader(io.StringIO(to_csv(rows)))],
        [row["value"] for row in json.loads(to_json(rows))],
    ):
        assert [value.hex() for value in values] == [value.hex() for value in AWKWARD]


def test_filtered_images_are_told_apart_and_keep_the_label(stored: Dataset) -> None:
    features = [measured(2, (1.5,)), measured(2, (2.5,), image="log-sigma-2-0-mm-3D")]
    rows = read_radiomics_sr(written(radiomics_report(SERIES, stored, features)))
    assert [(row.label, row.image, row.value) for row in rows] == [
        ("Right lung", "original", 1.5),
        ("Right lung", "log-sigma-2-0-mm-3D", 2.5),
    ]


def test_reports_of_earlier_versions_state_parameters_in_every_group_and_are_read(stored: Dataset) -> None:
    report = written(radiomics_report(SERIES, stored, [measured(1, (1.0,))]))
    kept = [item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue != "111002"]
    shared = [item for item in report.ContentSequence if item not in kept]
    report.ContentSequence = kept
    group = report.ContentSequence[-1].ContentSequence[0]
    group.ContentSequence = [*shared, *group.ContentSequence]
    (row,) = read_radiomics_sr(report)
    assert (row.model_digest, row.image, row.value) == (CARD.digest, "original", 1.0)


def test_a_code_that_we_do_not_know_has_no_name_of_a_feature(stored: Dataset) -> None:
    report = written(radiomics_report(SERIES, stored, [measured(1, (1.0,))]))
    number = report.ContentSequence[-1].ContentSequence[0].ContentSequence[-1]
    number.ConceptNameCodeSequence[0].CodeValue = "NEVER"
    (row,) = read_radiomics_sr(report)
    assert (row.feature, row.code) == ("", "NEVER")


def test_what_is_no_radiomics_report_is_refused_by_its_uid(stored: Dataset) -> None:
    foreign = written(radiomics_report(SERIES, stored))
    del foreign.ContentSequence[-1].ContentSequence[0].ContentSequence[-1].MeasuredValueSequence
    for ds in (stored, written(landmarks_report(SERIES, stored)), foreign, Dataset()):
        with pytest.raises(EncodingError, match="not a radiomics report"):
            read_radiomics_sr(ds)


def test_csv_always_has_its_header_and_follows_rfc_4180() -> None:
    header = ",".join(field.name for field in fields(TableRow))
    assert to_csv([]) == f"{header}\r\n"
    line = 'm,1,ab,2.25.1,2.25.2,2.25.3,4,"Lung, left",original,f_F,C,S,"a ""b""",0.3333333333333333,/mm'
    line += "," * (len(fields(TableRow)) - 15)
    assert to_csv([ROW]) == f"{header}\r\n{line}\r\n"


def test_each_row_carries_how_it_was_measured(stored: Dataset) -> None:
    done = Conditions("firstorder", "width 25 from -150, a multiple of it", (5.0, 8.0, 8.0), 321)
    settings = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, log_sigma_mm=(2.0,), spacing_mm=(5.0, 8.0, 8.0))
    features = [replace(measured(1, (1.0,), image="log-sigma-2-0-mm-3D"), conditions=done)]
    ds = encode_radiomics_sr(
        provenance_of(SERIES, RADIOMICS_UID), stored, seg.decode_seg(stored, SERIES, CARD), features,
        title=REPORT_TITLE, settings=settings,
    )  # fmt: skip
    (row,) = read_radiomics_sr(written(ds), patient=str.lower)
    told = {name: value for name, value in asdict(row).items() if name in [f.name for f in fields(TableRow)][15:]}
    assert told == {
        "reason": "",
        "segment_code": "39607008",
        "segment_scheme": "SCT",
        "segment_meaning": "Lung",
        "segment_modifier": "Left",
        "mode": "pyradiomics",
        "classes": "firstorder",
        "discretisation": "width 25 from -150, a multiple of it",
        "resampling": "5 8 8 mm (z y x), linear, corners aligned, mask nearest",
        "resegmentation": "none",
        "textures": "3D, averaged; distance 1; alpha 0",
        "filter": "LoG, sigma 2 mm",
        "spacing_mm": "5 8 8",
        "voxels": 321,
        "software": f"orthanc-enrichment {__version__}",
        "library": "pyradiomics 3.0.1",
        "study_instance_uid": "2.25.100",
        "patient": "p1",
    }


def test_by_default_no_table_names_the_patient(stored: Dataset) -> None:
    rows = read_radiomics_sr(written(radiomics_report(SERIES, stored, [measured(1, (1.0,))])))
    assert {row.patient for row in rows} == {""}


def test_a_feature_without_a_value_is_a_row_with_its_reason_in_every_form(stored: Dataset) -> None:
    features = replace(measured(1, (1.0,)), missing=(Missing(("glcm_MCC", "no_such"), "undefined: flat"),))
    rows = read_radiomics_sr(written(radiomics_report(SERIES, stored, [features])))
    assert [(row.feature, row.code, row.value, row.reason) for row in rows] == [
        ("shape_MeshVolume", "RNU0", 1.0, ""),
        ("glcm_MCC", "MCC", None, "undefined: flat"),
        ("no_such", "", None, "undefined: flat"),
    ]
    in_csv = [(row["value"], row["reason"]) for row in csv.DictReader(io.StringIO(to_csv(rows)))]
    assert in_csv == [("1.0", ""), ("", "undefined: flat"), ("", "undefined: flat")]
    assert [row["value"] for row in json.loads(to_json(rows))] == [1.0, None, None]
    assert parquet.read_table(io.BytesIO(to_parquet(rows)))["value"].to_pylist() == [1.0, None, None]


def test_parquet_has_the_rows_of_the_csv_with_types(stored: Dataset) -> None:
    rows = read_radiomics_sr(written(radiomics_report(SERIES, stored, [measured(1, AWKWARD)])))
    table = parquet.read_table(io.BytesIO(to_parquet(rows)))
    assert table.column_names == [field.name for field in fields(TableRow)]
    assert {str(table.schema.field(name).type) for name in ("segment_number", "voxels")} == {"int64"}
    assert [value.hex() for value in table["value"].to_pylist()] == [value.hex() for value in AWKWARD]
    assert [TableRow(**row) for row in table.to_pylist()] == [*rows]
    assert parquet.read_table(io.BytesIO(to_parquet([]))).num_rows == 0


def test_without_pyarrow_parquet_is_refused_and_the_other_tables_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="install the extra `parquet`"):
        to_parquet([ROW])
    monkeypatch.setattr("orthanc_plugin.results.sr.radiomics_table.find_spec", lambda name: None)
    write_tables(tmp_path / "report.dcm", [ROW])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.csv", "report.json"]


def test_tables_lie_beside_their_report(tmp_path: Path) -> None:
    write_tables(tmp_path / "report.dcm", [ROW])
    assert (tmp_path / "report.csv").read_bytes() == to_csv([ROW]).encode()
    assert json.loads((tmp_path / "report.json").read_text())[0]["feature"] == "f_F"
    assert parquet.read_table(tmp_path / "report.parquet").num_rows == 1


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_text_is_a_formula_for_a_spreadsheet(label: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([replace(ROW, label=label, value=-1.0)]), newline=""))
    assert (row["label"], row["value"]) == (f"'{label}", "-1.0")


def test_json_has_the_names_of_the_csv_and_numbers_as_numbers() -> None:
    (row,) = json.loads(to_json([ROW]))
    assert list(row) == [field.name for field in fields(TableRow)]
    assert (row["value"], row["segment_number"]) == (1 / 3, 4)
    assert json.loads(to_json([])) == []
