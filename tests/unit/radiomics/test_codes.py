"""Compares the code table of the features with the reference table, and the documentation with the code table."""

from __future__ import annotations

import csv
from collections.abc import Iterator

import pytest
from pydicom.sr._concepts_dict import concepts

from orthanc_plugin.codes import PRIVATE_SCHEME
from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.radiomics.feature_codes import FEATURES, PYRADIOMICS_OWN, CodedFeature, coded_features
from orthanc_plugin.radiomics.parameters import describe
from tests.support.cases.realct import ROOT, real_ct

PAGE = ROOT / "docs" / "radiomics.md"
REPEATING_SPHERICITY = {
    "shape_Compactness1": ("SKGS", "1"),
    "shape_Compactness2": ("BQWJ", "1"),
    "shape_SphericalDisproportion": ("KRCK", "1"),
}
"""Not in the table, because pyradiomics disables them by default. Codes of the IBSI reference manual."""

CODED = [coded for coded in FEATURES if coded.name.split("_")[0] in (*RadiomicsSettings().classes,)]


def reference_rows() -> list[dict[str, str]]:
    with (real_ct("../reference") / "pyradiomics_ibsi_codes.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_feature_has_the_code_and_unit_of_the_reference_table() -> None:
    rows = reference_rows()
    assert len(rows) == 107
    expected = {f"{row['class']}_{row['feature']}": (row["ibsi"], row["ucum"]) for row in rows} | REPEATING_SPHERICITY
    actual = {
        coded.name: (coded.concept.value if coded.concept.scheme == "IBSI" else "", coded.unit.value) for coded in CODED
    }
    assert actual == expected


def test_a_feature_of_dicoms_list_has_dicoms_meaning() -> None:
    meanings = {row["ibsi"]: row["dicom_meaning"] for row in reference_rows() if row["dicom_meaning"]}
    assert {c.concept.value: c.concept.meaning for c in FEATURES if c.concept.value in meanings} == meanings


def test_the_features_without_ibsi_code_have_one_of_the_private_scheme() -> None:
    private = [coded.name for coded in CODED if coded.concept.scheme == PRIVATE_SCHEME]
    assert private == [
        "shape_Maximum2DDiameterSlice",
        "shape_Maximum2DDiameterColumn",
        "shape_Maximum2DDiameterRow",
        "firstorder_TotalEnergy",
        "glcm_MCC",
    ]
    assert {coded.concept.scheme for coded in FEATURES} == {"IBSI", PRIVATE_SCHEME}


def test_the_features_that_only_ibsi_has_have_ibsis_codes_and_dicoms_meanings() -> None:
    added = [coded for coded in FEATURES if coded not in CODED and not coded.name.startswith("shape2D_")]
    assert len(added) == 64
    assert {coded.concept.scheme for coded in added} == {"IBSI"}
    dicom = {code: entry[0] for entries in concepts["IBSI"].values() for code, entry in entries.items()}
    known = {coded.concept.value: coded.concept.meaning for coded in added if coded.concept.value in dicom}
    assert len(known) == 53
    assert known == {value: dicom[value] for value in known}


def test_shape_of_one_slice_has_no_code_of_shape_in_space() -> None:
    flat = [coded for coded in FEATURES if coded.name.startswith("shape2D_")]
    assert len(flat) == 9
    assert {coded.concept.scheme for coded in flat} == {PRIVATE_SCHEME}


def test_pyradiomics_mode_has_its_own_concepts_where_it_misses_ibsi_and_shares_the_others() -> None:
    ibsi, pyradiomics = (coded_features(mode) for mode in RadiomicsMode)
    own = {a.name: b.concept for a, b in zip(ibsi, pyradiomics, strict=True) if a != b}
    assert own == PYRADIOMICS_OWN
    assert {concept.scheme for concept in own.values()} == {PRIVATE_SCHEME}


@pytest.mark.parametrize("mode", RadiomicsMode)
def test_no_two_features_share_a_name_or_a_concept(mode: RadiomicsMode) -> None:
    assert len({coded.concept for coded in coded_features(mode)}) == len(FEATURES)
    assert len({coded.name for coded in coded_features(mode)}) == len(FEATURES)


def test_statistics_of_hu_say_which_statistic_they_are() -> None:
    derived = {coded.name: coded.derivation.meaning for coded in FEATURES if coded.derivation}
    assert derived == {
        "firstorder_Mean": "Mean",
        "firstorder_Variance": "Variance",
        "firstorder_Skewness": "Skewness",
        "firstorder_Kurtosis": "Kurtosis",
        "firstorder_Median": "Median",
        "firstorder_Minimum": "Minimum",
        "firstorder_Maximum": "Maximum",
        "firstorder_RootMeanSquared": "Root Mean Square",
    }


@pytest.mark.parametrize("mode", RadiomicsMode)
def test_codes_fit_their_dicom_attributes(mode: RadiomicsMode) -> None:
    for coded in coded_features(mode):
        for code in filter(None, (coded.concept, coded.unit, coded.derivation)):
            assert 0 < len(code.value) <= 16, coded.name  # CodeValue, SH
            assert 0 < len(code.meaning) <= 64, coded.name  # CodeMeaning, LO


def table_of(features: tuple[CodedFeature, ...]) -> Iterator[list[str]]:
    for coded in features:
        derivation = coded.derivation.meaning if coded.derivation else ""
        concept = coded.concept
        yield [coded.name, concept.scheme, concept.value, concept.meaning, coded.unit.value, derivation]


def test_the_documentation_lists_the_features_of_both_modes_as_they_are() -> None:
    own = tuple(coded for coded in coded_features(RadiomicsMode.PYRADIOMICS) if coded.name in PYRADIOMICS_OWN)
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    begins = tuple(f"{one}_" for one in FeatureClass)
    listed = [row for row in cells if len(row) == 6 and row[0].startswith(begins)]
    assert listed == list(table_of(FEATURES + own))


def test_the_documentation_quotes_the_parameters_of_the_default() -> None:
    assert describe(RadiomicsSettings()) in PAGE.read_text()
