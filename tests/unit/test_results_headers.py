"""Headers that results inherit: repaired on copies, never the source, never a patient's name in a warning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom.config
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from orthanc_plugin.ct import CtSeries
from orthanc_plugin.results.headers import instance_number, result_headers
from tests.results_case import ellipsoids, encode, small_series


def series_with(**attributes: object) -> CtSeries:
    with pydicom.config.disable_value_validation():
        return small_series(**attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keyword", "given", "inherited"),
    [
        ("PatientAge", "45", "045Y"),
        ("PatientAge", "8m", "008M"),
        ("PatientAge", "old", None),
        ("PatientAge", "1234", None),
        ("StudyDate", "2003.01.31", "20030131"),
        ("StudyDate", "yesterday", ""),
        ("StudyTime", "10:20:30", "102030"),
        ("StudyTime", "noon", ""),
        ("PatientSex", "female", ""),
        ("PatientSex", "F", "F"),
        ("StudyID", "longer than sixteen characters", ""),
        ("StudyDescription", "x" * 80, "x" * 64),
        ("PatientWeight", "70.5", 70.5),
        ("AccessionNumber", None, ""),
        ("ReferringPhysicianName", None, ""),
    ],
)
def test_values_are_repaired_emptied_or_left_out(keyword: str, given: str | None, inherited: object) -> None:
    header = result_headers(series_with(**{keyword: given}))[0]
    assert header.get(keyword) == inherited


def test_a_decimal_that_is_no_number_is_left_out() -> None:
    series = small_series()
    tag = Tag("PatientWeight")
    series.headers[0][tag] = RawDataElement(tag, "DS", 6, b"heavy ", 0, False, True)
    assert "PatientWeight" not in result_headers(series)[0]


def test_the_source_is_not_touched() -> None:
    series = series_with(PatientAge="45", SliceThickness=None)
    before = [header.to_json() for header in series.headers]
    encode(series, ellipsoids(series))
    assert [header.to_json() for header in series.headers] == before


def test_thickness_is_derived_where_it_is_missing_or_zero() -> None:
    assert result_headers(series_with(SliceThickness=None))[0].SliceThickness == 5.0
    assert result_headers(series_with(SliceThickness=0))[0].SliceThickness == 5.0
    assert result_headers(series_with(SliceThickness=7.5))[0].SliceThickness == 7.5


def test_slices_share_one_orientation_and_one_frame_of_reference() -> None:
    noisy = series_with(ImageOrientationPatient=[0.99999, 1e-4, 0, 0, 1, 1e-5])
    headers = result_headers(replace(noisy, frame_of_reference_uid="2.25.7"))
    assert {tuple(header.ImageOrientationPatient) for header in headers} == {(1, 0, 0, 0, 1, 0)}
    assert {header.FrameOfReferenceUID for header in headers} == {"2.25.7"}
    assert [header.ImagePositionPatient[2] for header in headers] == list(np.arange(-300.0, -240.0, 5.0))


def test_a_removed_identity_is_passed_on_only_with_its_method() -> None:
    stated = result_headers(series_with(PatientIdentityRemoved="YES", DeidentificationMethod=["DCM:113100", "own"]))[0]
    assert (stated.PatientIdentityRemoved, stated.DeidentificationMethod) == ("YES", "DCM:113100/own")
    assert "PatientIdentityRemoved" not in result_headers(series_with(PatientIdentityRemoved="YES"))[0]


def test_patient_id_is_copied_as_it_is() -> None:
    assert result_headers(series_with(PatientID=" odd/id\\"))[0].PatientID == str(
        series_with(PatientID=" odd/id\\").headers[0].PatientID
    )


@pytest.mark.parametrize(
    "name", ["Single", "Müller^Jürgen", "Παπαδόπουλος^Γιώργος", "Yamada^Tarou=山田^太郎=やまだ^たろう", ""]
)
def test_names_of_any_script_reach_the_result_without_a_warning(name: str) -> None:
    series = series_with(PatientName=name, SpecificCharacterSet="ISO_IR 192")
    stored = encode(series, ellipsoids(series))
    assert (str(stored.PatientName), stored.SpecificCharacterSet) == (name, "ISO_IR 192")


def test_a_missing_instance_number_reads_as_a_question_mark() -> None:
    assert instance_number(Dataset()) == "?"
