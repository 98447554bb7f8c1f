"""Examples in the pages fit the program: commands parse, targets exist, Python and JSON are what they say.

Examples marked as tested run in tests/integration/test_snippets.py.
"""

from __future__ import annotations

import re
import shlex

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.config.orthanc_json import parse_json
from tests.support.cases.realct import ROOT
from tests.support.cases.snippets import snippets

BLOCKS = list(snippets())


def lines(command: str) -> list[str]:
    text = "".join(block.text for block in BLOCKS if block.language == "sh")
    return re.findall(rf"^{command}\b.*$", text, re.MULTILINE)


@pytest.mark.parametrize("line", lines("orthanc-enrich"))
def test_a_command_of_an_example_parses(line: str) -> None:
    cli._parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("line", lines("make"))
def test_a_target_of_an_example_exists(line: str) -> None:
    words = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


@pytest.mark.parametrize("text", [block.text for block in BLOCKS if block.language == "python"])
def test_python_of_an_example_compiles(text: str) -> None:
    compile(text, "example", "exec")


@pytest.mark.parametrize("text", [block.text for block in BLOCKS if block.language == "json"])
def test_json_of_an_example_is_json(text: str) -> None:
    parse_json(text)


def test_some_examples_are_run() -> None:
    assert {block.language for block in BLOCKS if block.tested} == {"sh", "python"}
