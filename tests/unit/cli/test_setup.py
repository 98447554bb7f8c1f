"""`orthanc-enrich setup` on Debian's own settings files, in a folder of the test."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli.setup import RECORD
from orthanc_plugin.cli.setup_plan import FILE
from orthanc_plugin.config.json_edit import set_value
from orthanc_plugin.config.orthanc_json import read_orthanc_json
from orthanc_plugin.config.read import load_configuration

DEBIAN = Path("/etc/orthanc")
pytestmark = pytest.mark.skipif(
    not DEBIAN.is_dir() and "CI" not in os.environ, reason="Debian's package orthanc is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Debian's conffiles as the packages bring them."""
    return Path(shutil.copytree(DEBIAN, tmp_path / "orthanc", ignore=shutil.ignore_patterns(FILE, RECORD)))


def setup(folder: Path, *words: str, code: int = 0) -> None:
    me = "root" if os.geteuid() == 0 else os.environ["USER"]
    state = folder.parent / "state"
    assert cli.main(["setup", "--config", str(folder), "--user", me, "--state-directory", str(state), *words]) == code


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def documents(folder: Path) -> dict[str, Any]:
    return read_orthanc_json(folder, {})[0]


def test_a_dry_run_writes_nothing_and_names_every_change(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    setup(folder, "--dry-run", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert contents(folder) == before
    assert not (folder.parent / "state").exists()
    assert {change["key"] for change in facts["changes"]} == {
        "PythonScript", "Python", "AuthenticationEnabled", "DicomWeb.Host", "RegisteredUsers.admin",
        "RegisteredUsers.enrichment", "Enrichment",
    }  # fmt: skip
    assert facts["written"] is False


def test_setup_makes_settings_that_service_and_orthanc_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comments = (folder / "dicomweb.json").read_text().count("//")
    setup(folder)
    told = capsys.readouterr().out
    document = documents(folder)
    assert document["AuthenticationEnabled"] is True
    assert "Host" not in document["DicomWeb"]
    assert document["PythonScript"].endswith("orthanc_plugin/edge/plugin.py")
    assert document["Python"] == {"AllowThreads": True}
    configuration = load_configuration(folder, {})
    archive = configuration.archives["local"]
    assert archive.password.get_secret_value() == document["RegisteredUsers"]["enrichment"]
    assert set(document["RegisteredUsers"]) == {"admin", "enrichment"}
    assert all(password not in told for password in document["RegisteredUsers"].values())
    assert (folder / "dicomweb.json").read_text().count("//") == comments
    assert '// "alice" : "alicePassword"' in (folder / "credentials.json").read_text()
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / "credentials.json").stat().st_mode) == 0o640
    assert stat.S_IMODE((folder.parent / "state").stat().st_mode) == 0o700


def test_nothing_is_left_to_do_a_second_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(folder)
    before = contents(folder)
    setup(folder)
    assert contents(folder) == before
    assert "Nothing to change" in capsys.readouterr().out


def test_undo_puts_every_file_back_byte_for_byte(folder: Path) -> None:
    before = contents(folder)
    setup(folder)
    assert contents(folder) != before
    setup(folder, "--undo", "--dry-run")
    assert contents(folder) != before
    setup(folder, "--undo")
    assert contents(folder) == before
    setup(folder, "--undo", code=78)


def test_undo_keeps_what_somebody_changed_since(folder: Path) -> None:
    setup(folder)
    file = folder / "credentials.json"
    file.write_text(set_value(file.read_text(), ["RegisteredUsers", "bob"], "his"))
    setup(folder, "--undo")
    assert documents(folder)["RegisteredUsers"] == {"bob": "his"}
    assert documents(folder)["DicomWeb"]["Host"] == "localhost"


def test_undo_names_a_value_that_it_cannot_take_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(folder)
    file = folder / "python.json"
    file.write_text(set_value(file.read_text(), ["PythonScript"], "/mine.py"))
    setup(folder, "--undo", code=1)
    assert "python.json: PythonScript was changed since" in capsys.readouterr().out
    assert documents(folder)["PythonScript"] == "/mine.py"


def test_a_second_setup_and_one_undo(folder: Path) -> None:
    before = contents(folder)
    setup(folder)
    file = folder / "python.json"
    file.write_text(set_value(file.read_text(), ["PythonScript"], ""))
    setup(folder)
    assert documents(folder)["PythonScript"].endswith("plugin.py")
    setup(folder, "--undo")
    assert contents(folder).keys() == before.keys()


def test_accounts_that_are_there_stay_and_get_no_company(folder: Path) -> None:
    file = folder / "credentials.json"
    file.write_text(set_value(file.read_text(), ["RegisteredUsers"], {"alice": "a", "enrichment": "kept"}))
    setup(folder)
    assert documents(folder)["RegisteredUsers"] == {"alice": "a", "enrichment": "kept"}
    assert load_configuration(folder, {}).archives["local"].password.get_secret_value() == "kept"


def test_line_ends_of_another_system_stay(folder: Path) -> None:
    file = folder / "dicomweb.json"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    before = contents(folder)
    setup(folder)
    assert file.read_bytes().count(b"\r\n") == before["dicomweb.json"].count(b"\r\n")
    setup(folder, "--undo")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("PythonScript", "/etc/orthanc/own.py", "MISSING script: PythonScript is /etc/orthanc/own.py"),
        ("Plugins", ["/nowhere"], "MISSING libOrthancPython.so"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, told: str
) -> None:
    file = folder / ("python.json" if key == "PythonScript" else "orthanc.json")
    file.write_text(set_value(file.read_text(), [key], value))
    before = contents(folder)
    setup(folder, code=1)
    assert told in capsys.readouterr().out
    assert contents(folder) == before


def test_a_user_that_does_not_exist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["setup", "--config", str(folder), "--user", "nobody-of-this-name"]) == 1
    assert "there is no user nobody-of-this-name" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", '{"Name": 1} x', '{"RegisteredUsers": {}}'])
def test_settings_that_orthanc_could_not_read_are_left_alone(folder: Path, text: str) -> None:
    (folder / "zz.json").write_text(text)
    before = contents(folder)
    setup(folder, code=78)
    assert contents(folder) == before


def test_a_section_that_is_there_stays_as_it_is(folder: Path) -> None:
    section = {"Enrichment": {"Service": {"Python": "/x"}, "Archives": {"local": {"Url": "http://127.0.0.1:1/x"}}}}
    (folder / "mine.json").write_text(json.dumps(section))
    setup(folder)
    assert json.loads((folder / "mine.json").read_text()) == section
