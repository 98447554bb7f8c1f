"""The audit log tells of commands: who ran them, on which series, and how they ended."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orthanc_plugin.audit import event
from orthanc_plugin.audit.event import Event, Outcome, What
from orthanc_plugin.audit.trail import Trail
from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli import recording
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.sharing.export import Export, Layout
from orthanc_plugin.sharing.profile import Dates, Deidentifier
from orthanc_plugin.sharing.pseudonyms import Pseudonyms
from tests.support.cases.realct import ROOT
from tests.support.fakes.memory_archive import MemoryArchive, ct_series
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door

ME = pwd.getpwuid(os.getuid()).pw_name
RECORDED = {
    "audit export", "audit show", "backfill", "backup", "cohort build", "cohort send", "export", "fetch idc",
    "jobs cancel", "jobs decide-again", "jobs pause", "jobs picture", "jobs prioritise", "jobs radiomics",
    "jobs resume", "jobs retry", "jobs retry-all", "jobs show", "jobs withdraw", "measure", "models convert",
    "models install", "models remove", "ohif install", "restore", "rules compare", "rules explain", "series act",
    "series find", "series patient", "setup", "timeline", "tokens create", "tokens revoke", "validate",
    "webhooks test",
}  # fmt: skip
NOT_RECORDED = {
    # lists without a patient
    "jobs list", "jobs deliveries", "series list", "tokens list", "webhooks list", "models list", "models show",
    # what changes nothing outside a folder that the person names, and reads no archive
    "audit verify", "cohort query", "cohort report", "cohort drift", "demo", "inspect", "models build", "models try",
    "models verify", "phantom", "rules test", "run",
    # they record what they do themselves
    "service", "worker",
}  # fmt: skip


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrontDoor]:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("ENRICHMENT__ARCHIVES__LOCAL__URL", "http://127.0.0.1:1/dicom-web")
    with front_door(tmp_path / "state") as door:
        yield door


def told(tmp_path: Path, *words: str) -> tuple[int, list[Event]]:
    """Run a command; returns its exit code, and what the audit log tells of it."""
    trail = Trail(tmp_path / "state")
    before = trail.last_number()
    code = cli.main([*words])
    assert trail.verify().problems == ()
    return code, [entry.event for entry in trail.entries(before)]


def commands() -> Iterator[str]:
    def leaves(parser: argparse.ArgumentParser) -> Iterator[str]:
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups:
            yield parser.prog.partition(" ")[2]
        for group in groups:
            for sub in group.choices.values():
                yield from leaves(sub)

    return leaves(cli._parser())


def test_each_command_is_recorded_or_has_a_reason_not_to_be() -> None:
    assert set() == RECORDED & NOT_RECORDED
    assert set(commands()) == RECORDED | NOT_RECORDED


def test_the_page_names_the_commands_that_are_recorded() -> None:
    page = (ROOT / "docs" / "security" / "audit.md").read_text()
    (rows,) = re.findall(r"\| Commands \|.*\n\|[-|]+\n((?:\|.*\n)+)", page)
    cells = [row.split("|")[2] for row in rows.splitlines()]
    assert {name for cell in cells for name in re.findall(r"`([a-z][a-z -]+)`", cell)} == RECORDED


def test_acts_on_a_job_name_who_and_which_series(door: FrontDoor, tmp_path: Path) -> None:
    job = enqueue(door.queue, "1.2.10")
    for words, what in (
        (("jobs", "show", job), What.VIEW),
        (("jobs", "prioritise", job), What.ACT),
        (("jobs", "cancel", job), What.ACT),
        (("jobs", "retry", job), What.ACT),
        (("jobs", "cancel", job), What.ACT),
        (("jobs", "withdraw", job), What.DELETE),
    ):
        code, (done,) = told(tmp_path, *words)
        assert (done.what, done.detail, done.who.split(" as ")[-1], done.way) == (
            what, " ".join(words[:2]), ME, "command",
        )  # fmt: skip
        assert (done.archive, done.study, done.series, done.job) == ("local", "1.2.3", ("1.2.10",), job)
        assert (done.outcome is Outcome.SUCCESS) == (code == EXIT_DONE)


def test_an_act_that_fails_is_recorded_without_what_somebody_wrote(door: FrontDoor, tmp_path: Path) -> None:
    code, (failed,) = told(tmp_path, "jobs", "retry", "Mustermann^Erika")
    assert code == EXIT_FAILED
    assert (failed.what, failed.outcome, failed.detail, failed.job) == (What.ACT, Outcome.FAILURE, "jobs retry", "")
    assert "Muster" not in json.dumps(failed.record())


def test_acts_on_many_name_the_series(door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "MOST_SERIES", 2)
    for number in range(3):
        finish(door.queue, enqueue(door.queue, f"1.2.{1000 + number}"), JobState.FAILED, detail="x")
    _, (acted,) = told(tmp_path, "jobs", "retry-all")
    assert (len(acted.series), acted.more, acted.outcome) == (2, 1, Outcome.SUCCESS)
    _, (acted,) = told(tmp_path, "series", "act", "cancel", "--series", "1000", "--state", "queued")
    assert (acted.series, acted.detail) == (("1.2.1000",), "cancel of series")
    body = {"act": "urgent", "search": {"series": "1001"}}
    before = Trail(tmp_path / "state").last_number()
    door.ask("/enrichment/api/v1/series/act", "POST", json=body)
    (entry,) = Trail(tmp_path / "state").entries(before)
    assert entry.event.series == ("1.2.1001",)


def test_settings_tokens_orders_and_backups_are_recorded(door: FrontDoor, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("1.2.3\n")
    for words, what in (
        ("jobs pause", What.SETTINGS),
        ("jobs resume", What.SETTINGS),
        ("tokens create x --right watch", What.SETTINGS),
        ("tokens revoke nothing", What.SETTINGS),
        ("webhooks test nothing", What.SETTINGS),
        (f"backfill --list {tmp_path / 'list'} --no-wait", What.ACT),
        ("jobs decide-again --no-wait", What.ACT),
        ("rules compare nothing.json", What.ACT),
        ("rules explain local 1.2.3 1.2.10", What.VIEW),
        (f"backup --out {tmp_path / 'backup'}", What.EXPORT),
        ("audit show", What.AUDIT),
        (f"audit export {tmp_path / 'lines'}", What.AUDIT),
        (f"jobs radiomics {enqueue(door.queue, '1.2.9')}", What.EXPORT),
    ):
        code, events = told(tmp_path, *words.split())
        assert [done.what for done in events] == [what], words
        assert events[0].detail.startswith(" ".join(words.split()[:2]).partition(" --")[0])
        assert (events[0].outcome is Outcome.SUCCESS) == (code == EXIT_DONE)
    assert told(tmp_path, "backfill")[1] == []


def test_a_restore_is_the_next_line_of_the_log_that_was_restored(door: FrontDoor, tmp_path: Path) -> None:
    told(tmp_path, "jobs", "pause")
    told(tmp_path, "backup", "--out", str(tmp_path / "backup"))
    Trail(tmp_path / "state").append(Event(datetime.now(UTC), What.ACT, "lost"))
    assert cli.main(["restore", str(tmp_path / "backup"), "--replace"]) == EXIT_DONE
    *_, last = Trail(tmp_path / "state").entries()
    assert (last.event.what, last.event.detail) == (What.SETTINGS, "restore")
    assert "lost" not in [entry.event.who for entry in Trail(tmp_path / "state").entries()]
    assert Trail(tmp_path / "state").verify().problems == ()


def test_an_export_names_the_series_as_the_archive_has_them(tmp_path: Path) -> None:
    archive = MemoryArchive()
    archive.put(*ct_series(2, series="1.2.100", study="1.2.3"))
    made = Export(tmp_path / "out", Deidentifier(Pseudonyms(b"k" * 16), Dates.REMOVE), Layout.DICOM)
    made.add_study(archive, "1.2.3")
    assert made.sources == {"1.2.3": ["1.2.100"]}


def test_what_is_vague_is_replaced_by_what_is_known() -> None:
    desk = Desk(argparse.Namespace())
    desk.acts(What.EXPORT, archive="local")
    desk.acts(What.EXPORT, "1.2.4", study="1.2.3", archive="local")
    desk.acts(What.EXPORT, "1.2.6", study="1.2.5", archive="local")
    assert [subject.study for _, subject in desk.deeds] == ["1.2.3", "1.2.5"]


def test_a_log_that_cannot_be_written_is_told(
    door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*events: Event) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trail, "append", lambda self, *events: full(*events))
    assert cli.main(["jobs", "pause"]) == EXIT_DONE
    assert "not recorded in the audit log: the audit log cannot be written: No space left" in capsys.readouterr().err


def test_without_a_service_there_is_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path / "state"))
    assert cli.main(["jobs", "pause"]) != EXIT_DONE
    assert not (tmp_path / "state").exists()


def test_the_person_is_the_one_who_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    for logged_in, name in (("", ME), (ME, ME), ("ada", f"ada as {ME}")):
        monkeypatch.setattr(recording, "_logged_in", lambda name=logged_in: name)
        assert recording.who() == name


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_root_writes_as_the_owner_of_the_state_directory() -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        state.mkdir()
        os.chown(name, 65534, 65534)
        os.chown(state, 65534, 65534)
        configuration = parse_section({"StateDirectory": str(state), "Archives": {"l": {"Url": "http://h/d"}}}, {})
        recording.write(configuration, [Event(datetime.now(UTC), What.SETTINGS, "root")])
        assert {path.stat().st_uid for path in state.iterdir()} == {65534}
        assert os.geteuid() == 0


def test_the_words_of_a_command_are_its_name() -> None:
    parser = argparse.ArgumentParser(prog="orthanc-enrich")
    group = Commands(parser.add_subparsers()).group("jobs", "text")
    group.add("pause", lambda desk: None, "text")
    assert parser.parse_args(["jobs", "pause"]).words == "jobs pause"
