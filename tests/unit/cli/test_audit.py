"""`orthanc-enrich audit`: exit codes say whether somebody changed the log; show, filters and exports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from orthanc_plugin.audit.event import Event, What
from orthanc_plugin.audit.trail import Trail
from orthanc_plugin.cli.main import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, main
from tests.support.servers.front_door import USER, WRONG, enqueue, front_door

API = "/enrichment/api/v1"


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    archives = {"local": {"Url": "http://127.0.0.1:9/dicom-web"}}
    section = {"StateDirectory": str(tmp_path / "state"), "Archives": archives, "Audit": {"Site": "Site"}}
    (tmp_path / "orthanc.json").write_text(json.dumps({"Enrichment": section}))
    with front_door(tmp_path / "state") as door:
        job = enqueue(door.queue, "1.2.10")
        door.ask(f"/enrichment/jobs/{job}")
        door.ask(f"{API}/pause", "POST")
        door.ask(f"{API}/resume", "POST")
        door.ask(f"{API}/jobs", auth=WRONG)
    return ["--config", str(tmp_path / "orthanc.json")]


def test_verify_says_good_and_bad_by_its_exit_code(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "verify", "--json", *settings]) == EXIT_DONE
    said = json.loads(capsys.readouterr().out)
    assert (said["entries"], said["problems"]) == (4, [])
    assert main(["audit", "verify", "--head", said["head"], *settings]) == EXIT_DONE
    assert "4 lines, head 4:" in capsys.readouterr().out
    (file,) = Trail(tmp_path / "state").files()
    file.write_text(file.read_text().replace('"what":"view"', '"what":"search"'))
    assert main(["audit", "verify", *settings]) == EXIT_FAILED
    assert "problem: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "verify", "--head", "4:abc", *settings])


def test_a_wrong_configuration_is_no_tampering(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"Enrichment": {"Audit": {"Key": "short"}}}')
    assert main(["audit", "verify", "--config", str(tmp_path / "wrong.json")]) == EXIT_CONFIG


def test_a_log_that_is_not_there_is_not_a_good_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "orthanc.json").write_text(json.dumps({"Enrichment": {"StateDirectory": str(tmp_path)}}))
    assert main(["audit", "verify", "--config", str(tmp_path / "orthanc.json")]) == EXIT_CONFIG
    assert "holds no audit log" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("wrong", [["--since", "yesterday"], ["--since", "31.01.2026"], ["--what", "views"]])
def test_a_filter_that_could_never_match_is_wrong_use(wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "show", *wrong])


def test_show_and_its_filters(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for filters, count in (
        ([], 4),
        (["--what", "settings"], 2),
        (["--series", "1.2.10"], 1),
        (["--who", "no"], 0),
        (["--since", "2999-01-01"], 0),
        (["--limit", "1"], 1),
        (["--limit", "0"], 0),
    ):
        assert main(["audit", "show", "--json", *filters, *settings]) == EXIT_DONE
        assert len(json.loads(capsys.readouterr().out)) == count
    assert main(["audit", "show", "--what", "settings", *settings]) == EXIT_DONE
    assert f" {USER} settings success pause" in capsys.readouterr().out


def test_export_as_json_csv_and_messages(settings: list[str], tmp_path: Path) -> None:
    for kind in ("json", "csv", "xml"):
        assert main(["audit", "export", str(tmp_path / kind), "--format", kind, *settings]) == EXIT_DONE
        assert (tmp_path / kind).stat().st_mode & 0o777 == 0o600
    assert len([json.loads(line) for line in (tmp_path / "json").read_text().splitlines()]) == 4
    with (tmp_path / "csv").open(newline="") as file:
        *acts, exported = csv.DictReader(file)
    assert [row["who"] for row in acts] == [USER] * 4
    assert (exported["what"], exported["detail"]) == ("audit", "audit export")
    messages = [Xml.fromstring(line) for line in (tmp_path / "xml").read_text().splitlines()]
    assert {message.find("AuditSourceIdentification").attrib["AuditEnterpriseSiteID"] for message in messages} == {
        "Site"
    }  # type: ignore[union-attr]
    assert main(["audit", "export", str(tmp_path / "json"), *settings]) == EXIT_FAILED


def test_no_name_is_a_formula_in_a_spreadsheet(settings: list[str], tmp_path: Path) -> None:
    trail = Trail(tmp_path / "state")
    first = next(trail.entries()).event
    for name in ("=1+1", "@SUM(A1)", "+1", "-1", "\t=1"):
        trail.append(Event(first.at, What.VIEW, name))
    assert main(["audit", "export", str(tmp_path / "csv"), "--format", "csv", *settings]) == EXIT_DONE
    with (tmp_path / "csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "@", "+", "-", "\t"))] == []
