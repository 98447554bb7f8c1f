"""The examples that a page marks as tested run, in their order, in one empty folder for each page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cases.realct import ROOT
from tests.support.cases.snippets import PAGES, Snippet, snippets

TESTED = [snippet for snippet in snippets() if snippet.tested]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(s.page == page for s in TESTED)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    for snippet in TESTED:
        if snippet.page == page:
            run(snippet, tmp_path)


def run(snippet: Snippet, directory: Path) -> None:
    words = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[snippet.language]
    beside_python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ENRICHMENT")}
    subprocess.run(
        [*words, snippet.text], cwd=directory, env=environ | {"PATH": beside_python}, check=True, timeout=240
    )
