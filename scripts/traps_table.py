"""Write into docs/geometry.md what this project and other readers make of each trap.

Usage: python -m scripts.traps_table. It replaces the block between the two marks. All readers come with `make setup`.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.support.cases.traps import READERS, TRAPS, verdict, written

PAGE = Path(__file__).resolve().parents[1] / "docs" / "geometry.md"
BEGIN, END = "<!-- traps: written by scripts/traps_table.py -->", "<!-- end of traps -->"


def rows() -> Iterator[str]:
    """Return the lines of the table."""
    yield f"| trap | {' | '.join(READERS)} |"
    yield "|---" * (len(READERS) + 1) + "|"
    for trap in TRAPS:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written(trap, Path(folder))
            found = [verdict(reader, trap, Path(folder)) for reader in READERS]
        yield f"| {trap} | {' | '.join(found)} |"


def main() -> None:
    """Replace the block of the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text("\n".join([before + BEGIN, "", *rows(), "", END + rest.split(END)[1]]))


if __name__ == "__main__":
    main()
