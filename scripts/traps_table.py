"""Write into docs/geometry.md what this project and other readers make of each trap.

Usage: python -m scripts.traps_table. It replaces the block between the two marks. dcm2niix must be installed
(`pip install dcm2niix` in any environment, its folder in PATH); highdicom and SimpleITK come with this project.
"""

from __future__ import annotations

import shutil
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
    if shutil.which("dcm2niix") is None:
        raise SystemExit("dcm2niix is not in PATH; install it (pip install dcm2niix) and try again")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text("\n".join([before + BEGIN, "", *rows(), "", END + rest.split(END)[1]]))


if __name__ == "__main__":
    main()
