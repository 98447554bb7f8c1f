"""docs/geometry.md names every reason that the series room gives, and tests that exist."""

from __future__ import annotations

import re

from orthanc_plugin.errors import Refusal
from tests.support.cases.realct import ROOT

PAGE = (ROOT / "docs" / "geometry.md").read_text()


def test_every_reason_of_the_series_room_is_in_the_table() -> None:
    sources = (path.read_text() for path in (ROOT / "orthanc_plugin" / "series").glob("*.py"))
    raised = {Refusal[name].value for source in sources for name in re.findall(r"Refusal\.([A-Z_]+)", source)}
    assert raised == set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE))


def test_every_test_that_the_page_names_exists() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "unit").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 15
    assert named <= set(re.findall(r"def (test_\w+)", tests))
