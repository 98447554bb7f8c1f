"""Examples in the pages: fenced blocks with their language, and whether the page promises that they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cases.realct import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^(<!-- tested -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """tested: marked with `<!-- tested -->`, so that tests/integration/test_snippets.py runs it."""

    page: Path
    language: str
    text: str
    tested: bool


def snippets() -> Iterator[Snippet]:
    """Yield every fenced block that names its language, page by page in the order of the text."""
    for page in PAGES:
        for mark, language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
            yield Snippet(page, language, text, bool(mark))
