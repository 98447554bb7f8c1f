"""The table of traps in docs/geometry.md: what is read is right, and the table tells what readers make of them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from tests.support.cases.realct import ROOT
from tests.support.cases.traps import READERS, RIGHT_BY_NATURE, TRAPS, Verdict, verdict, written

PAGE = (ROOT / "docs" / "geometry.md").read_text()
ROWS = dict(re.findall(r"^\| ([^|]+) \| ((?:[^|]+ \| ){3}[^|]+) \|$", PAGE.partition("<!-- traps")[2], re.MULTILINE))


def test_the_table_has_every_trap() -> None:
    assert set(TRAPS) == set(ROWS) - {"trap"}


@pytest.mark.parametrize("trap", TRAPS)
def test_this_project_is_never_silently_wrong(trap: str, tmp_path: Path) -> None:
    found = verdict("this project", trap, written(trap, tmp_path))
    assert found in (Verdict.RIGHT, Verdict.REFUSED)
    if trap in RIGHT_BY_NATURE:
        assert found is Verdict.RIGHT
    assert found == ROWS[trap].split(" | ")[0]


@pytest.mark.parametrize("reader", [name for name in READERS if name != "this project"])
def test_other_readers_do_what_the_table_says(reader: str, tmp_path: Path) -> None:
    for number, trap in enumerate(TRAPS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = verdict(reader, trap, written(trap, folder))
        assert found == ROWS[trap].split(" | ")[list(READERS).index(reader)], trap
