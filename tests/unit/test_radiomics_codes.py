"""The code table of the features against the reference table, and the documentation against the code table."""

from __future__ import annotations

import csv

import pytest

from orthanc_plugin.codes import PRIVATE_SCHEME
from orthanc_plugin.radiomics.feature_codes import FEATURES, CodedFeature
from orthanc_plugin.radiomics.features import SETTINGS
from tests.realct import ROOT, real_ct

PAGE = ROOT / "docs" / "radiomics.md"


def test_every_shape_and_first_order_feature_has_the_code_and_unit_of_the_reference_table() -> None:
    with (real_ct("../reference") / "pyradiomics_ibsi_codes.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"] in ("shape", "firstorder")]
    expected = {f"{row['class']}_{row['feature']}": (row["ibsi"], row["ucum"]) for row in rows}
    actual = {
        coded.name: (coded.concept.value if coded.concept.scheme == "IBSI" else "", coded.unit.value)
        for coded in FEATURES
    }
    assert actual == expected
    meanings = {row["ibsi"]: row["dicom_meaning"] for row in rows if row["dicom_meaning"]}
    assert {c.concept.value: c.concept.meaning for c in FEATURES if c.concept.value in meanings} == meanings


def test_a_feature_without_ibsi_code_has_one_of_the_private_scheme() -> None:
    private = [coded.name for coded in FEATURES if coded.concept.scheme == PRIVATE_SCHEME]
    assert private == [
        "shape_Maximum2DDiameterSlice",
        "shape_Maximum2DDiameterColumn",
        "shape_Maximum2DDiameterRow",
        "firstorder_TotalEnergy",
    ]
    assert {coded.concept.scheme for coded in FEATURES} == {"IBSI", PRIVATE_SCHEME}


def test_no_two_features_share_a_concept() -> None:
    assert len({coded.concept for coded in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("coded", FEATURES, ids=lambda coded: coded.name)
def test_codes_fit_their_dicom_attributes(coded: CodedFeature) -> None:
    for code in (coded.concept, coded.unit):
        assert 0 < len(code.value) <= 16  # CodeValue, SH
        assert 0 < len(code.meaning) <= 64  # CodeMeaning, LO


def test_the_documentation_lists_the_features_as_they_are() -> None:
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    listed = [row for row in cells if row and row[0].startswith(("shape_", "firstorder_"))]
    assert listed == [[c.name, c.concept.scheme, c.concept.value, c.concept.meaning, c.unit.value] for c in FEATURES]


def test_the_documentation_quotes_the_settings() -> None:
    assert SETTINGS in PAGE.read_text()
