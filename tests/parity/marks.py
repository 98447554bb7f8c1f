"""The page of the IBSI, and the parts of it that programs write."""

from __future__ import annotations

from tests.support.cases.realct import ROOT

PAGE = ROOT / "docs" / "radiomics-ibsi.md"


def with_part(text: str, part: str, begin: str, end: str) -> str:
    """Replace what lies between two marks."""
    before, rest = text.split(begin)
    return before + begin + "\n" + part + "\n" + end + rest.split(end, 1)[1]
