"""The command line: exit codes, messages, and a page that names every command."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin import cli
from tests.realct import ROOT


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[str]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for name, sub in group.choices.items():
            yield from commands(sub, f"{path} {name}".strip())
    if not groups:
        yield path


def test_every_command_has_its_section_and_every_section_its_command() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert set(re.findall(r"^## (.+)$", page, re.MULTILINE)) == set(commands(cli._parser()))


def test_wrong_use_is_exit_2() -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["run"])
    assert exit_.value.code == cli.EXIT_USAGE


def test_a_broken_configuration_is_exit_78_and_names_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orthanc.json").write_text('{"Enrichment": {"StabelAge": 3}} // typo')
    code = cli.main(["jobs", "list", "--json", "--config", str(tmp_path / "orthanc.json")])
    assert code == cli.EXIT_CONFIG
    assert "StableAge" in json.loads(capsys.readouterr().out)["error"]


def test_a_folder_without_dicom_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    code = cli.main(["run", str(tmp_path), "--out", str(tmp_path / "out"), "--json"])
    assert code == cli.EXIT_CONFIG
    assert "holds no DICOM series" in json.loads(capsys.readouterr().out)["error"]


def test_a_failed_command_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "verify", "no_such_model", "--json"]) == cli.EXIT_FAILED
    assert "no_such_model" in json.loads(capsys.readouterr().out)["error"]
