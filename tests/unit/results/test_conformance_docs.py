"""docs/conformance.md lists what the code can write: kinds, SOP classes, transfer syntaxes, schemes, private codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results import seg
from tests.conformance.cases import FEW, Case
from tests.conformance.kinds import KINDS
from tests.conformance.private_codes import ROOMS, private_codes
from tests.conformance.table import BEGIN, END, PAGE, Table
from tests.support.cases.realct import ROOT
from tests.support.cases.results_case import small_series

TEXT = PAGE.read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Make an object of each kind."""
    case = Case("docs", small_series(slices=16), tmp_path_factory.mktemp("docs"), landmarks=FEW)
    return {kind: ds for kind, entry in KINDS.items() if (ds := entry.make(case)) is not None}


def test_every_output_has_its_sop_classes_and_transfer_syntaxes(made: dict[str, Dataset]) -> None:
    told = set(re.findall(r"^\| `([\w-]+)` \| [^|]+ \| [^|]+ \| ([\d.]+) \| ([\d.]+) \|$", TEXT, re.MULTILINE))
    written = {(KINDS[kind].output.value, ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for kind, ds in made.items()}
    assert told == written
    assert {output for output, *_ in told} == {output.value for output in Output}


def test_every_coding_scheme_and_template_is_named(made: dict[str, Dataset]) -> None:
    schemes = set(re.findall(r"^\| (\w+) \| ", TEXT.partition("### Coding schemes")[2], re.MULTILINE))
    templates = set(re.findall(r"TID (\d+)", TEXT))
    for ds in made.values():
        elements = list(ds.iterall())
        assert {element.value for element in elements if element.keyword == "CodingSchemeDesignator"} <= schemes
        assert {element.value for element in elements if element.keyword == "TemplateIdentifier"} <= templates


def test_every_private_code_has_its_row() -> None:
    assert dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", TEXT, re.MULTILINE)) == private_codes()


def test_private_codes_are_made_in_the_rooms_that_are_searched() -> None:
    package = Path(seg.__file__).parents[2]
    makers = {path.relative_to(package) for path in package.rglob("*.py") if "PRIVATE_SCHEME" in path.read_text()}
    # The audit log sends no objects: docs/security/audit.md lists its codes.
    assert {path.parts[0] for path in makers} <= {*ROOMS, "codes.py", "audit"}
    strays = {path for path in package.rglob("*.py") if '"99AIE"' in path.read_text()} - {package / "codes.py"}
    assert {path.relative_to(package).as_posix() for path in strays} == set()


def test_private_codes_in_objects_are_those_of_the_page(made: dict[str, Dataset]) -> None:
    for ds in made.values():
        items = [item for element in ds.iterall() if element.VR == "SQ" for item in element.value]
        private = {
            item.CodeValue for item in items if item.get("CodingSchemeDesignator") == "99AIE" and "CodeValue" in item
        }
        assert private <= set(private_codes())


def test_the_table_of_the_matrix_has_a_column_for_every_kind() -> None:
    table = TEXT.partition(BEGIN)[2].partition(END)[0]
    (head,) = re.findall(r"^\| series \| (.+) \|$", table, re.MULTILINE)
    assert head.split(" | ") == list(KINDS)
    assert "FAILED" not in table


def test_the_page_is_linked() -> None:
    assert "conformance.md" in (ROOT / "docs" / "results.md").read_text()


def test_a_part_of_the_matrix_fills_its_cells_and_keeps_the_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    rows = "| series | SEG | summary |\n| --- | --- | --- |\n| one | 0 | - |\n| two | 0 | - |\n"
    page.write_text(f"before\n{BEGIN}\nold, tools\n\n{rows}{END}\nafter\n")
    table = Table()
    table.add("b", "two", "summary", "0", failed=False)
    table.add("a", "three", "SEG", "0", failed=True)
    table.write_page(page)
    text = page.read_text()
    assert text.endswith("| one | 0 | - |\n| two | 0 | 0 |\n| three | FAILED | - |\n" + END + "\nafter\n")
    assert "old, tools" not in text
