"""Write the table of the conformance matrix into docs/conformance.md."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.support.cases.realct import ROOT

CELL = "conformance"
"""Name of the property by which a test reports a cell: `series|kind|result`."""

PAGE = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
TOOLS = ("dicom3tools", "dcmqi", "highdicom", "pydicom", "SimpleITK")


class Table:
    """Results of the validator for each kind of object of each series."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], str] = {}
        self._files: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def add(self, file: str, series: str, kind: str, said: str, *, failed: bool) -> None:
        """Add a cell; rows are sorted by the `file` of the test, whatever process ran first."""
        self._files[series] = file
        self._cells[series, kind] = "FAILED" if failed else said

    def text(self) -> str:
        """Format the table as Markdown, with a row per series and a column per kind."""
        rows, columns = sorted(self._files, key=self._files.__getitem__), dict.fromkeys(key[1] for key in self._cells)
        lines = [
            ["series", *columns],
            ["---"] * (len(columns) + 1),
            *([row, *(self._cells.get((row, column), "-") for column in columns)] for row in rows),
        ]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def write_page(self, page: Path = PAGE) -> None:
        """Put the table between its markers; cells that did not run, of series of the page, stay as they are."""
        text = page.read_text()
        self._keep(text.split(BEGIN)[1].split(END)[0])
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in TOOLS)
        head = f"{datetime.now(UTC).date().isoformat()}, {versions}.\n\n"
        old = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
        new = f"{BEGIN}\n{head}{self.text()}{END}"
        page.write_text(old.sub(lambda _: new, text))

    def _keep(self, part: str) -> None:
        """Take over the cells of a table that this run did not fill, in its order of rows and columns."""
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line[:1] == "|"]
        if not lines:
            return
        (_, *kinds), _, *rows = lines
        known = {(row, kind): said for row, *cells in rows for kind, said in zip(kinds, cells, strict=True)}
        self._cells = known | self._cells
        self._files = {row: f"{number:04}" for number, (row, *_) in enumerate(rows)} | {
            row: file for row, file in self._files.items() if row not in {row for row, *_ in rows}
        }
