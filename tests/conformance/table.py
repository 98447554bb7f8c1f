"""The table of the conformance matrix, and its place in docs/conformance.md."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.support.cases.realct import ROOT

CELL = "conformance"
"""Name of the property by which a test reports a cell: `series|kind|what was said`."""

PAGE = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
TOOLS = ("dicom3tools", "dcmqi", "highdicom", "pydicom", "SimpleITK")


class Table:
    """What the validator said of each kind of object of each series."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], str] = {}
        self._files: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def add(self, file: str, series: str, kind: str, said: str, *, failed: bool) -> None:
        """A cell; `file`: of the test, by which rows are sorted whatever process ran first."""
        self._files[series] = file
        self._cells[series, kind] = "FAILED" if failed else said

    def text(self) -> str:
        """As Markdown: a row a series, a column a kind."""
        rows, columns = sorted(self._files, key=self._files.__getitem__), dict.fromkeys(key[1] for key in self._cells)
        lines = [
            ["series", *columns],
            ["---"] * (len(columns) + 1),
            *([row, *(self._cells.get((row, column), "-") for column in columns)] for row in rows),
        ]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def write_page(self, page: Path = PAGE) -> None:
        """Put the table between its markers."""
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in TOOLS)
        head = f"{datetime.now(UTC).date().isoformat()}, {versions}.\n\n"
        old = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
        new = f"{BEGIN}\n{head}{self.text()}{END}"
        page.write_text(old.sub(lambda _: new, page.read_text()))
