"""The commands on series: the same searches and acts as on the page, by the same words."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.inspector import Inspector
from orthanc_plugin.service import people
from tests.support.fakes.memory_archive import MemoryArchive, ct_series
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

Told = Callable[..., tuple[int, object]]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[FrontDoor]:
    with front_door(tmp_path) as door:
        finish(door.queue, enqueue(door.queue, "1.2.100"))
        finish(door.queue, enqueue(door.queue, "1.2.101", rule="head"), JobState.FAILED, detail="StoreError: refused")
        enqueue(door.queue, "1.2.102")
        door.queue.enqueue(skipped("1.2.200"))
        yield door


@pytest.fixture
def told(door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command; returns its exit code, and what it says as JSON."""
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("ENRICHMENT__ARCHIVES__LOCAL__URL", "http://127.0.0.1:1/dicom-web")

    def run(*arguments: str) -> tuple[int, object]:
        capsys.readouterr()
        code = cli.main([*arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def found(told: Told, *filters: str, group: str = "series") -> list[str]:
    _, rows = told(group, "list", *filters)
    assert isinstance(rows, list)
    return sorted(row["series_instance_uid"] for row in rows)


@pytest.mark.parametrize(
    ("filters", "series"),
    [
        ([], ["1.2.100", "1.2.101", "1.2.102", "1.2.200"]),
        (["--state", "failed,queued"], ["1.2.101", "1.2.102"]),
        (["--series", "101"], ["1.2.101"]),
        (["--study", "1.2.3"], ["1.2.100", "1.2.101", "1.2.102", "1.2.200"]),
        (["--study", "1.2.4"], []),
        (["--reason", "too-few-slices"], ["1.2.200"]),
        (["--rule", "head"], ["1.2.101"]),
        (["--model", "chest_structures", "--state", "done"], ["1.2.100"]),
        (["--model", "none"], []),
        (["--text", "refused"], ["1.2.101"]),
        (["--since", "2027-01-01"], []),
        (["--until", "2026-01-02", "--standing"], ["1.2.100", "1.2.101", "1.2.102", "1.2.200"]),
        (["--archive", "far"], []),
        (["--limit", "1", "--offset", "1"], ["1.2.102"]),
    ],
)
def test_filters_find_what_the_page_finds(told: Told, filters: list[str], series: list[str]) -> None:
    assert found(told, *filters) == series
    if filters[:1] != ["--limit"]:
        jobs = [uid for uid in series if uid != "1.2.200"]
        assert found(told, *filters, group="jobs") == jobs


def test_jobs_of_skipped_series_are_listed_where_they_are_asked_for(told: Told) -> None:
    assert found(told, "--state", "skipped", group="jobs") == ["1.2.200"]


@pytest.mark.parametrize(
    ("filters", "said"),
    [(["--state", "lost"], "one or more of queued"), (["--since", "soon"], "2026-01-31"), (["--study", "x"], "UIDs")],
)
def test_a_filter_that_cannot_be_is_wrong_use(
    told: Told, filters: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        told("series", "list", *filters)
    assert raised.value.code == EXIT_USAGE
    assert said in capsys.readouterr().err


def test_acts_take_names_or_a_search_and_say_what_was_not_done(told: Told, door: FrontDoor) -> None:
    code, answer = told("series", "act", "retry", "local/1.2.101", "local/1.2.200")
    assert code == EXIT_FAILED
    assert isinstance(answer, dict)
    assert (answer["done"], answer["not_done"]) == (1, 1)
    assert "so it has no job" in answer["problems"][0]["message"]
    assert told("series", "act", "urgent", "--state", "queued") == (
        EXIT_DONE, {"done": 2, "not_done": 0, "problems": []},
    )  # fmt: skip
    assert told("series", "act", "cancel", "--rule", "head")[0] == EXIT_DONE
    assert door.queue.ledger.of_series("local", "1.2.101")[0].state is JobState.CANCELLED
    assert told("series", "act", "cancel")[0] == EXIT_FAILED
    assert told("series", "act", "cancel", "local/1.2.102", "--rule", "head")[0] == EXIT_FAILED


def test_people_are_looked_up_and_the_log_says_by_whom(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = MemoryArchive()
    archive.put(*ct_series(2, series="1.2.100", study="1.2.3"))
    monkeypatch.setattr(people.People, "_open", lambda self, name: archive)
    assert told("series", "find", "--patient-id", "P1") == (EXIT_DONE, {"studies": ["1.2.3"]})
    assert found(told, "--patient-id", "P1", "--state", "done") == ["1.2.100"]
    assert found(told, "--patient-id", "P1", group="jobs") == ["1.2.100", "1.2.101", "1.2.102"]
    code, patient = told("series", "patient", "local/1.2.100")
    assert code == EXIT_DONE
    assert isinstance(patient, dict)
    assert patient["patient_name"] == "A^B"
    assert told("series", "list", "--patient-id", "nobody")[0] == EXIT_FAILED
    code, lines = told("audit", "show")
    assert isinstance(lines, list)
    assert [(line["what"], line["way"], line["detail"], line["series"]) for line in lines] == [
        *[("search", "command", "searched by patient id", "")] * 3,
        ("patient", "command", "looked a patient up", "1.2.100"),
        ("search", "command", "searched by patient id", ""),
    ]
    assert told("audit", "verify")[0] == EXIT_DONE
    assert "P1" not in json.dumps(lines)


def test_a_patient_id_need_not_stand_in_the_list_of_processes(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = MemoryArchive()
    archive.put(*ct_series(2, series="1.2.100", study="1.2.3"))
    monkeypatch.setattr(people.People, "_open", lambda self, name: archive)
    for words in (("series", "find"), ("series", "list")):
        monkeypatch.setattr("sys.stdin", io.StringIO("P1\nP2\n"))
        code, answer = told(*words, "--patient-id", "-")
        assert (code, bool(answer)) == (EXIT_DONE, True)
        monkeypatch.setattr("sys.stdin", io.StringIO("nobody\n"))
        code, answer = told(*words, "--patient-id", "-")
        assert code == EXIT_FAILED or answer == {"studies": []}


def test_a_copy_of_the_rules_is_compared_and_a_series_is_explained(
    told: Told, door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = MemoryArchive()
    archive.put(*(ds for n in (100, 101, 102, 200) for ds in ct_series(5 if n == 200 else 20, series=f"1.2.{n}",
                                                                      study="1.2.3")))  # fmt: skip
    made = Inspector.__init__
    monkeypatch.setattr(
        Inspector, "__init__", lambda self, configuration: made(self, configuration, lambda *_: archive)
    )  # type: ignore[arg-type,misc]
    monkeypatch.setattr(Inspector, "_known", lambda *_: None)
    copy = tmp_path / "rules.json"
    copy.write_text(json.dumps({"Enrichment": {"Rules": [{"Name": "all", "Match": {"Slices": {"Min": 3}}}]}}))
    code, compared = told("rules", "compare", str(copy))
    assert code == EXIT_DONE
    assert isinstance(compared, dict)
    assert (compared["total"], compared["looked_at"], len(compared["differences"])) == (4, 4, 4)
    copy.write_text('[{"Name": "all", "Colour": "red"}]')
    assert told("rules", "compare", str(copy))[0] != EXIT_DONE
    copy.write_text("[")
    assert "not valid JSON" in str(told("rules", "compare", str(copy))[1])
    code, explained = told("rules", "explain", "local", "1.2.3", "1.2.200")
    assert code == EXIT_FAILED
    assert isinstance(explained, dict)
    assert explained["verdicts"][0]["failures"][0]["criterion"] == "Slices"
    assert told("rules", "explain", "local", "1.2.3", "1.2.100")[0] == EXIT_DONE
