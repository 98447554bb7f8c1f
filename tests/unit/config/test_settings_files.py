"""What one reader of a settings file accepts, all accept: plugin, service, workers, commands."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli.desk import Desk
from orthanc_plugin.cli.processes import settings_of
from orthanc_plugin.config.orthanc_json import read_orthanc_json
from orthanc_plugin.config.read import load_configuration
from orthanc_plugin.config.sections import Configuration, section_json
from orthanc_plugin.errors import ConfigError
from tests.support.cases.settings_files import CASES, OWN, Case, elsewhere, started
from tests.support.fakes.orthanc import FakeOrthanc
from tests.support.servers.orthanc_server import PLUGIN_SCRIPT

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin's script, loaded as Orthanc loads it."""
    monkeypatch.setitem(sys.modules, "orthanc", FakeOrthanc("{}"))
    spec = importlib.util.spec_from_file_location("edge_under_test", PLUGIN_SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "edge_under_test", module)
    spec.loader.exec_module(module)
    return module


def environment(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("ENRICHMENT")]:
        monkeypatch.delenv(name)
    for name, value in case.environ.items():
        monkeypatch.setenv(name, value)


def written(document: object, directory: Path) -> Path:
    file = directory / "orthanc.json"
    file.write_text(json.dumps(document))
    return file


def from_file(case: Case, directory: Path) -> Configuration | None:
    try:
        return load_configuration(written(case.document, directory), case.environ)
    except ConfigError:
        return None


def from_stdin(line: str, monkeypatch: pytest.MonkeyPatch, secret: str = "") -> tuple[str, Configuration] | None:
    """What a service or worker makes of two lines of stdin."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{secret}\n{line}\n"))
    try:
        return settings_of(Desk(Namespace(stdin=True)))
    except ConfigError:
        return None


def addresses(configuration: Configuration) -> dict[str, str]:
    local = configuration.archives["local"]
    return {"Url": local.url, "OrthancUrl": local.orthanc_url}


@every_case
def test_a_file_is_judged_as_the_table_says(case: Case, tmp_path: Path) -> None:
    configuration = from_file(case, tmp_path)
    assert (None if configuration is None else addresses(configuration)) == case.local


@every_case
def test_a_folder_of_files_is_judged_like_one_file(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "orthanc"
    folder.mkdir()
    for key, value in case.document.items():
        (folder / f"{key}.json").write_text(json.dumps({key: value}))
    try:
        configuration = load_configuration(folder, case.environ)
    except ConfigError:
        configuration = None
    assert configuration == from_file(case, tmp_path)


@every_case
def test_the_plugin_and_the_service_it_starts_accept_what_a_command_accepts(
    case: Case, plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(case, monkeypatch)
    expected = from_file(case, tmp_path)
    try:
        settings = plugin.read_settings(json.dumps(case.document), case.environ)
    except plugin.SettingsError:
        assert expected is None
        return
    given = from_stdin(settings.document, monkeypatch, settings.secret)
    assert given == (None if expected is None else (settings.secret, expected))
    if expected is None:
        assert settings.start, "where the plugin starts no service, nobody else refuses the file"
        return
    service = expected.service
    assert (settings.start, settings.python, settings.host) == (service.start, service.python, service.host)
    assert settings.url == service.url
    assert settings.start or settings.secret == service.secret.get_secret_value()
    assert settings.archive in expected.archives
    assert settings.stderr_file == str(expected.state_directory / "service.stderr.log")


@every_case
def test_the_workers_that_the_service_starts_get_the_same_settings(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(case, monkeypatch)
    if configuration := from_file(case, tmp_path):
        assert from_stdin(section_json(configuration), monkeypatch) == ("", configuration)


@every_case
def test_a_service_or_worker_with_a_file_of_its_own_accepts_the_same(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(case, monkeypatch)
    try:
        _, configuration = settings_of(Desk(Namespace(stdin=False, config=written(case.document, tmp_path))))
    except ConfigError:
        assert not case.accepted
    else:
        assert configuration == from_file(case, tmp_path)


@every_case
def test_a_command_ends_with_78_exactly_where_the_file_is_refused(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(case, monkeypatch)
    file = written(case.document, tmp_path)
    wanted = cli.EXIT_DONE if case.accepted else cli.EXIT_CONFIG
    assert cli.main(["models", "list", "--json", "--config", str(file)]) == wanted


@pytest.mark.parametrize("document", [{"Enrichment": {}}, started({"Service": {"Python": "/nowhere/python"}})])
def test_only_the_plugin_needs_a_python_that_it_can_start(document: Any, plugin: Any, tmp_path: Path) -> None:
    """Commands and workers of other computers read the same file, where that Python need not be."""
    with pytest.raises(plugin.SettingsError, match="cannot be executed"):
        plugin.read_settings(json.dumps(document), {})
    assert from_file(Case("", document), tmp_path) is not None


def test_a_service_elsewhere_judges_what_the_plugin_does_not_read(plugin: Any, tmp_path: Path) -> None:
    document = elsewhere()
    document["Enrichment"]["Workers"] = -1
    assert plugin.read_settings(json.dumps(document), {}).url == "http://ai:8043"
    assert from_file(Case("", document), tmp_path) is None


def test_comments_commas_and_variables_are_read_before_anybody_judges(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orthanc gives the plugin its configuration with variables replaced; the file gives a command the same."""
    file = tmp_path / "orthanc.json"
    file.write_text(
        """{ // a comment with ${NOTHING} and a }
        "HttpPort": ${PORT:-8042}, /* , } */
        "Enrichment": {
          "Service": {"Start": "${START}", "Url": "http://${HOST}", },
          "Archives": {"local": {"User": "ai", "Password": "${PASSWORD}"}},
        },
        }"""
    )
    environ = {"START": "false", "HOST": "ai", "PASSWORD": 'a // b, } "'.replace('"', "")}
    document, notes = read_orthanc_json(file, environ)
    configuration = load_configuration(file, environ)
    assert notes == {}
    assert configuration.archives["local"].password.get_secret_value() == "a // b, } "
    assert addresses(configuration) == OWN
    settings = plugin.read_settings(json.dumps(document), environ)
    assert (settings.start, settings.url) == (False, "http://ai")
    given = from_stdin(settings.document, monkeypatch)
    assert given == ("", configuration)


def test_a_plugin_loaded_before_an_upgrade_may_send_the_section_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given = from_stdin(json.dumps({"Archives": {"local": OWN}}), monkeypatch, "secret")
    assert given is not None
    assert (given[0], addresses(given[1])) == ("secret", OWN)


def test_an_incomplete_line_on_stdin_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n{\n"))
    with pytest.raises(ConfigError, match="not valid JSON"):
        settings_of(Desk(Namespace(stdin=True)))
