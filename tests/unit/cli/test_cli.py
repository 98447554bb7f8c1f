"""The command line: exit codes, messages, and a page that names every command."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.jobs.queue import JobQueue
from tests.support.cases.realct import ROOT
from tests.support.fakes.memory_archive import ct_series
from tests.support.servers.front_door import enqueue, skipped


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


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


def test_an_option_with_several_values_may_come_several_times() -> None:
    """By default argparse keeps the values of the last time only, and the others are lost without a word."""
    several = [
        action
        for parser in parsers(cli._parser())
        for action in parser._actions
        if action.option_strings and action.nargs in ("+", "*")
    ]
    assert len(several) >= 6
    lost = [action.option_strings for action in several if not isinstance(action, argparse._ExtendAction)]
    assert lost == []


@pytest.mark.parametrize("words", [["run"], ["jobs", "list", "--state", "finished"], ["no-such-command"], []])
def test_wrong_use_is_exit_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == cli.EXIT_USAGE


@pytest.mark.parametrize("words", [["models", "list", "--json"], ["models", "list"]], ids=["json", "text"])
def test_a_reader_that_leaves_early_ends_a_command_without_a_word(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "orthanc_plugin.cli", *words]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (cli.EXIT_FAILED, b"")


def test_a_broken_configuration_is_exit_78_and_names_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orthanc.json").write_text('{"Enrichment": {"StabelAge": 3}} // typo')
    code = cli.main(["jobs", "list", "--json", "--config", str(tmp_path / "orthanc.json")])
    assert code == cli.EXIT_CONFIG
    assert "StableAge" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("database", ["postgresql://enrich:geheim@127.0.0.1:1/jobs", "sqlite:///{}/jobs.db"])
def test_a_database_that_cannot_be_opened_is_exit_1(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("ENRICHMENT__DATABASE", database.format(tmp_path))
    (tmp_path / "jobs.db").write_text("no database, " * 100)
    assert cli.main(["jobs", "list", "--json"]) == cli.EXIT_FAILED
    error = json.loads(capsys.readouterr().out)["error"]
    assert "job database cannot be opened" in error
    assert "geheim" not in error


def test_an_error_is_one_line_however_long_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list", "--models", str(tmp_path / ("long" * 60))]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_without_dicom_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    code = cli.main(["run", str(tmp_path), "--out", str(tmp_path / "out"), "--json"])
    assert code == cli.EXIT_CONFIG
    assert "holds no DICOM series" in json.loads(capsys.readouterr().out)["error"]


def test_a_failed_command_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "verify", "no_such_model", "--json"]) == cli.EXIT_FAILED
    assert "no_such_model" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("command", sorted(commands(cli._parser())))
def test_every_command_has_a_help_and_takes_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([*command.split(), "--help"])
    assert exit_.value.code == cli.EXIT_DONE
    assert {"--json", "--config"} <= set(re.findall(r"--[a-z]+", capsys.readouterr().out))


def test_jobs_are_listed_with_the_whole_id_that_show_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path / "state"))
    with closing(JobQueue(f"sqlite:///{tmp_path}/state/jobs.db")) as queue:
        job_id = enqueue(queue, "1.2.3")
    assert cli.main(["jobs", "list"]) == cli.EXIT_DONE
    assert capsys.readouterr().out.split()[0] == job_id
    assert cli.main(["jobs", "show", job_id, "--json"]) == cli.EXIT_DONE
    assert json.loads(capsys.readouterr().out)["state"] == "queued"
    assert cli.main(["jobs", "retry", job_id]) == cli.EXIT_FAILED
    assert "only a job that ended" in capsys.readouterr().err.replace("\n", " ")


def test_rules_of_a_folder_are_told_with_any_description(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ds,) = ct_series(1)
    ds.SeriesDescription = "LUNG [/b] 1.0"
    ds.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    assert cli.main(["rules", "test", str(tmp_path)]) == cli.EXIT_DONE
    out = capsys.readouterr().out
    assert "LUNG [/b] 1.0: no rule takes it" in out
    assert "Slices" in out
    assert cli.main(["rules", "test", str(tmp_path), "--json"]) == cli.EXIT_DONE
    (verdict,) = json.loads(capsys.readouterr().out)
    assert (verdict["takes"], verdict["description"]) == ("", ds.SeriesDescription)


def test_reading_commands_create_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path / "state"))
    for words in (["list"], ["show", "1"], ["retry", "1"], ["radiomics", "1"]):
        assert cli.main(["jobs", *words, "--json"]) == cli.EXIT_CONFIG
        assert "no service has run with these settings" in json.loads(capsys.readouterr().out)["error"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "jobs.db").touch()
    assert cli.main(["jobs", "list", "--json"]) == cli.EXIT_CONFIG
    assert [file.stat().st_size for file in (tmp_path / "state").iterdir()] == [0]


@pytest.mark.parametrize("theirs", ["state", "state/jobs.db"])
def test_a_state_directory_of_another_user_is_a_clear_error(
    theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path / "state"))
    with closing(JobQueue(f"sqlite:///{tmp_path}/state/jobs.db")):
        before = sorted((tmp_path / "state").iterdir())
    stat = Path.stat

    def owned(path: Path, **more: bool) -> os.stat_result:
        found = list(stat(path, **more))
        found[4] += path == tmp_path / theirs
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", owned)
    for words in (["jobs", "list"], ["service"], ["worker"]):
        assert cli.main([*words, "--json"]) == cli.EXIT_CONFIG
        assert "belongs to the user" in json.loads(capsys.readouterr().out)["error"]
    assert sorted((tmp_path / "state").iterdir()) == before


def test_series_that_no_rule_takes_are_listed_as_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path / "state"))
    with closing(JobQueue(f"sqlite:///{tmp_path}/state/jobs.db")) as queue:
        queue.enqueue(skipped("1.2.4"))
        enqueue(queue, "1.2.3")
    assert cli.main(["jobs", "list", "--state", "skipped"]) == cli.EXIT_DONE
    told = capsys.readouterr().out
    assert "no job: skipped" in told
    assert "1.2.4" in told
    assert "2 slices, 20 are needed" in told
    assert "1.2.3," not in told
