"""Codes and content items of reports are those of PS3.16; docs/conformance.md lists what differs, and why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from tests.conformance.cases import FEW, Case
from tests.conformance.kinds import KINDS
from tests.conformance.table import PAGE
from tests.support.cases.results_case import small_series

WITHOUT_GROUPS = ("probabilities", "SEG", "RTSTRUCT", "preview", "secondary capture", "summary", "key objects")
REPORTS = [name for name in KINDS if not name.startswith(WITHOUT_GROUPS)]
GROUP, MODIFIES, OBSERVES, CONTAINS = "125007", "HAS CONCEPT MOD", "HAS OBS CONTEXT", "CONTAINS"
OF_A_GROUP = {
    ("112039", OBSERVES, "TEXT"),  # Tracking Identifier
    ("112040", OBSERVES, "UIDREF"),  # Tracking Unique Identifier
    ("276214006", CONTAINS, "CODE"),  # Finding category
    ("121071", CONTAINS, "CODE"),  # Finding
    ("363698007", MODIFIES, "CODE"),  # Finding Site
    ("111001", MODIFIES, "TEXT"),  # Algorithm Name (TID 4019)
    ("111003", MODIFIES, "TEXT"),  # Algorithm Version
    ("111002", MODIFIES, "TEXT"),  # Algorithm Parameters
    ("111000", MODIFIES, "CODE"),  # Algorithm Family
    ("121191", CONTAINS, "IMAGE"),  # Referenced Segment
    ("121232", CONTAINS, "UIDREF"),  # Source Series for Segmentation
    ("111030", CONTAINS, "SCOORD"),  # Image Region
    ("121112", CONTAINS, "IMAGE"),  # Source of Measurement
    ("123014", CONTAINS, "CODE"),  # Target Region
    ("121106", CONTAINS, "TEXT"),  # Comment
}
"""Rows of PS3.16 TID 1410, 1411, 1419, 1501 and 4019 that groups have, beside numbers, evaluations, private items."""
OTHER_MEANINGS = {"276214006": "Finding category", "260753009": "Source"}
"""As PS3.16 TID 1411 and TID 320 write them; SNOMED CT has longer ones."""
UNKNOWN = {"421610009", "421812003"}
"""SCT codes that pydicom's dictionaries lack; the published annotations have them."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    case = Case("codes", small_series(slices=16), tmp_path_factory.mktemp("codes"), landmarks=FEW)
    return [ds for name in REPORTS if (ds := KINDS[name].make(case)) is not None]


def coded(ds: Dataset) -> Iterator[tuple[str, str, str]]:
    for element in ds.iterall():
        for item in element.value if element.VR == "SQ" else ():
            if "CodeValue" in item:
                yield item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning


def test_a_number_without_a_unit_says_so_in_words(reports: list[Dataset]) -> None:
    """PS3.16 7.2.2 forbids "1" as a meaning, and OHIF shows the code: neither may read as a part of the number."""
    units = {(scheme, value, meaning) for ds in reports for scheme, value, meaning in coded(ds) if scheme == "UCUM"}
    assert ("UCUM", "{unitless}", "unitless") in units
    assert not [unit for unit in units if unit[1][0].isdigit() or unit[2][0].isdigit()]


def plain(meaning: str) -> str:
    """Take a meaning without its semantic tag, in small letters."""
    return meaning.partition(" (")[0].removesuffix(" structure").lower()


def meanings(scheme: str, value: str) -> set[str]:
    schemes: dict[str, dict[str, dict[str, tuple[str, object]]]] = concepts  # type: ignore[assignment]
    return {plain(names[value][0]) for names in schemes[scheme].values() if value in names}


def test_every_code_of_a_report_means_what_the_standard_says(reports: list[Dataset]) -> None:
    unknown = set()
    for scheme, value, meaning in {code for ds in reports for code in coded(ds) if code[0] in {"DCM", "SCT", "UMLS"}}:
        known = meanings(scheme, value)
        unknown |= set() if known else {value}
        assert not known or plain(meaning) in known or OTHER_MEANINGS.get(value) == meaning, (value, meaning, known)
    assert unknown <= UNKNOWN


def test_groups_hold_rows_of_their_templates(reports: list[Dataset]) -> None:
    for ds in reports:
        for group in ds.ContentSequence[-1].ContentSequence:
            assert group.ConceptNameCodeSequence[0].CodeValue == GROUP
            for item in group.ContentSequence:
                name = item.ConceptNameCodeSequence[0]
                is_own = name.CodingSchemeDesignator == "99AIE" or item.ValueType == "NUM"
                assert is_own or (name.CodeValue, item.RelationshipType, item.ValueType) in OF_A_GROUP, name


@pytest.mark.parametrize(
    ("concept", "context_group"),
    [("111000", 7162), ("272741003", 244), ("QC_COMPLETE", 230), ("BPR_VALID", 230), ("QI_CONTIGUOUS", 230)],
)
def test_answers_are_of_their_context_groups(reports: list[Dataset], concept: str, context_group: int) -> None:
    allowed = {
        value
        for scheme, keywords in cid_concepts[context_group].items()
        for keyword in keywords
        for value in concepts[scheme][keyword]
    }
    answers = {
        item.ConceptCodeSequence[0].CodeValue
        for ds in reports
        for element in ds.iterall()
        for item in (element.value if element.VR == "SQ" else ())
        if "ConceptCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == concept
    }
    assert answers
    assert answers <= allowed


def test_the_page_lists_every_code_that_differs() -> None:
    section = PAGE.read_text().partition("### Deviations and workarounds")[2].partition("\n## ")[0]
    assert section
    for code in {
        *OTHER_MEANINGS,
        *UNKNOWN,
        "AIENRICH",
        "126000",
        "SEG_INSTANCE",
        "109102",
        "125040",
        "111002",
        "BPR_COV",
    }:
        assert code in section, code
