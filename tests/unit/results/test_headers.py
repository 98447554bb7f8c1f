"""Headers that results inherit are repaired on copies, and no warning holds a patient's name."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pydicom.config
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.headers import instance_number, result_headers
from tests.support.cases.results_case import ellipsoids, encode, small_series


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
        ("StudyDate", "00000000", ""),
        ("PatientBirthDate", "00010101", ""),
        ("PatientSex", "female", "F"),
        ("PatientSex", "unknown", ""),
        ("PatientSex", ["M", "F"], ""),
        ("PatientSex", "F", "F"),
        ("StudyID", "longer than sixteen characters", ""),
        ("StudyDescription", "x" * 80, "x" * 64),
        ("StudyDescription", "chest\n\x01 left\x7f", "chest left"),
        ("StudyDescription", ["chest", "abdomen"], "chest/abdomen"),
        ("AccessionNumber", "A1\n", "A1"),
        ("IssuerOfPatientID", "x" * 65, None),
        ("LongitudinalTemporalInformationModified", "SOME", None),
        ("PatientWeight", "70.5", 70.5),
        ("PatientWeight", "0", None),
        ("PatientSize", ["1.7", "1.8"], None),
        ("AccessionNumber", None, ""),
        ("ReferringPhysicianName", None, ""),
    ],
)
def test_values_are_repaired_emptied_or_left_out(keyword: str, given: object, inherited: object) -> None:
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
    assert result_headers(series_with(PatientID=" odd/id"))[0].PatientID == " odd/id"


@pytest.mark.parametrize("patient_id", ["x" * 65, "two\\values", "line\nbreak"])
def test_a_patient_id_that_no_result_can_carry_is_refused_by_name(patient_id: str) -> None:
    with pytest.raises(EncodingError, match=r"^PatientID is not a text") as caught:
        result_headers(series_with(PatientID=patient_id))
    assert patient_id not in str(caught.value)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("uid", ["1.2.03", "1.2.x", "1." * 40 + "1", "1.2."])
def test_a_uid_that_is_none_is_refused_by_name(keyword: str, uid: str) -> None:
    series = series_with(**{keyword: uid})
    with pytest.raises(EncodingError, match=f"^{keyword} is not a valid UID"):
        result_headers(series)


def test_an_invalid_frame_of_reference_is_refused_by_name() -> None:
    with pytest.raises(EncodingError, match="FrameOfReferenceUID"):
        result_headers(replace(small_series(), frame_of_reference_uid="1.02"))


def test_repairs_are_logged_once_a_series_by_keyword_alone(caplog: pytest.LogCaptureFixture) -> None:
    series = series_with(
        SeriesInstanceUID="2.25.20047", PatientAge="45", PatientName="Muster\x01^Eva", StudyDescription="knee\n"
    )
    series = replace(series, identity=replace(series.identity, series_instance_uid="2.25.20047"))
    with caplog.at_level(logging.INFO, logger="orthanc_plugin"):
        result_headers(series)
        result_headers(series)
    (said,) = caplog.messages
    assert said == "series 2.25.20047: repaired or left out in results: PatientName, PatientAge, StudyDescription"


def test_a_sound_header_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="orthanc_plugin"):
        result_headers(small_series())
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("given", "inherited"),
    [
        ("Doe\x01^Jane\n", "Doe^Jane"),
        ("a^b^c^d^e^f^g", "a^b^c^d^e f g"),
        ("a^b=c=d=e", "a^b=c=d"),
        ("Doe^" + "J" * 80, "Doe^" + "J" * 60),
        ("Doe^Jane\\Roe^Rita", "Doe^Jane"),
    ],
)
def test_a_name_is_repaired(given: str, inherited: str) -> None:
    series = series_with(PatientName=given)
    assert str(encode(series, ellipsoids(series)).PatientName) == inherited


@pytest.mark.parametrize(
    "name", ["Single", "Müller^Jürgen", "Παπαδόπουλος^Γιώργος", "Yamada^Tarou=山田^太郎=やまだ^たろう", ""]
)
def test_names_of_any_script_reach_the_result_without_a_warning(name: str) -> None:
    series = series_with(PatientName=name, SpecificCharacterSet="ISO_IR 192")
    stored = encode(series, ellipsoids(series))
    assert (str(stored.PatientName), stored.SpecificCharacterSet) == (name, "ISO_IR 192")


@pytest.mark.parametrize(
    ("given", "told"), [(b"7 ", "7"), (b"", "?"), (b"1a", "?"), (b"1\\2 ", "?"), (b"9999999999999999", "?")]
)
def test_an_instance_number_that_is_none_reads_as_a_question_mark(given: bytes, told: str) -> None:
    tag = Tag("InstanceNumber")
    header = Dataset()
    header[tag] = RawDataElement(tag, "IS", len(given), given, 0, False, True)
    assert instance_number(header) == told
    assert instance_number(Dataset()) == "?"
