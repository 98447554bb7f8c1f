"""docs/quality.md agrees with the code on checks, thresholds, ranges, single structures and codes."""

from __future__ import annotations

import re

import pytest

from orthanc_plugin.catalog.anatomy import is_snomed_concept
from orthanc_plugin.catalog.anatomy import known as anatomy
from orthanc_plugin.catalog.shelf import list_models
from orthanc_plugin.codes import ENTIRE_BODY, PRIVATE_SCHEME
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.quality import agreement, masks, tissue
from orthanc_plugin.quality.structures import HEART, LUNGS, Structure, known
from orthanc_plugin.results.sr import checks as checks_sr
from tests.support.cases.realct import ROOT

PAGE = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
ROWS = list(known().values())
SIDES = {"one": "one side", "both": "both", "": "-"}


def section(heading: str) -> str:
    return re.split(r"^#+ ", PAGE.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def volume_row(row: Structure) -> str:
    assert row.volume
    (low, high), (asked_low, asked_high) = row.volume.published_ml, row.volume.asked_ml
    told = f"{low:g} to {high:g} | {row.volume.factor:g} | {asked_low:.4g} to {asked_high:.4g} | {row.volume.source}"
    return f"| {row.meaning} | {row.type} | {SIDES[row.sides]} | {told} |"


def single_names() -> str:
    return ", ".join(f"{row.meaning} ({row.type})" for row in ROWS if row.single) + "."


def concept_row(check: Check) -> str:
    statement, value = checks_sr.CONCEPTS[check]
    scheme = "" if value.scheme == PRIVATE_SCHEME else f"{value.scheme} "
    return f"| {check.value} | {statement.value} {statement.meaning} | {scheme}{value.value} {value.meaning} |"


def test_every_check_has_its_row() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", section("The checks"), re.MULTILINE) == [check.value for check in Check]


def test_thresholds() -> None:
    text = section("The checks")
    assert (masks.PIECE_ML, f"of {masks.PIECE_ML:g} mL" in text) == (1.0, True)
    assert f"of {100 * masks.PIECE_PART:g} %" in text
    assert f"more than {masks.MIDLINE_TOLERANCE_MM:g} mm beyond" in text
    assert f"at least {100 * masks.PART_INSIDE:g} %" in text
    assert f"above {tissue.TISSUE_HU:g} HU" in text
    assert f"at least {agreement.AGREEMENT_DICE:g}" in text


def test_volumes() -> None:
    rows = re.findall(r"^\| [^|]+ \| \d{5,} \|.*$", section("Volumes of adults"), re.MULTILINE)
    assert rows == [volume_row(row) for row in ROWS if row.volume]


def test_single_structures() -> None:
    assert single_names() in PAGE


def test_codes_of_the_report() -> None:
    rows = re.findall(r"^\| [a-z-]+ \| QC_.*$", section("The report"), re.MULTILINE)
    assert rows == [concept_row(check) for check in Check]


def test_sources_are_named_in_full() -> None:
    cited = {source for row in ROWS if row.volume for source in row.volume.source.split("; ")}
    assert set(re.findall(r"^\| ([A-Z]\w+ \d+|own) \|", section("Volumes of adults"), re.MULTILINE)) == cited


def test_the_table_holds_structures_that_models_name() -> None:
    types = {row.type.value for row in anatomy().values()}
    types |= {label.type.value for card in list_models(None) for label in card.labels}
    assert {row.type for row in ROWS} <= types
    assert {ENTIRE_BODY.value, HEART, *(part for parts in LUNGS.values() for part, _ in parts)} <= types
    assert all(is_snomed_concept(row.type) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.meaning} {row.sides}")
def test_rows_ask_for_something_and_ranges_rise(row: Structure) -> None:
    assert row.single or row.volume
    if row.volume:
        (low, high), (asked_low, asked_high) = row.volume.published_ml, row.volume.asked_ml
        assert 0 < asked_low < low < high < asked_high


def test_organs_that_must_have_a_range_have_one() -> None:
    named = {row.meaning for row in ROWS if row.volume}
    segthor = {"Esophagus", "Heart", "Trachea", "Aorta"}
    abdomen = {"Spleen", "Kidney", "Gallbladder", "Liver", "Stomach", "Pancreas", "Adrenal gland", "Bladder"}
    assert segthor | abdomen | {"Lung", "Upper lobe of lung", "Brain", "Thyroid"} <= named
