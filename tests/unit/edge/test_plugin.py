"""edge/plugin.py with a fake of Orthanc's module: settings, hints, routes, the watch over the service."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases.plugin_case import (
    SERIES,
    STUDY,
    Load,
    Receiver,
    elsewhere,
    put_series,
    report,
)
from tests.support.fakes.orthanc import ChangeType, FakeOrthanc
from tests.support.servers.orthanc_server import PLUGIN_SCRIPT, ROOT, wait_until


def test_hint_says_what_only_orthanc_knows_and_no_patient_data(load: Load) -> None:
    plugin, orthanc = load(Enrichment=elsewhere("http://127.0.0.1:9"))
    put_series(orthanc)
    hint = plugin.read_hint("s1", "local")
    assert hint == plugin.Hint(
        archive="local",
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        orthanc_series_id="s1",
        stable=True,
        remote_aet="SCANNER",
        remote_ip="10.0.0.7",
        origin="DicomProtocol",
        anonymized_from="original-series",
        modified_from="",
    )
    assert "Secret" not in repr(hint)


@pytest.mark.parametrize("modality", ["SEG", "SR", "MR", ""])
def test_only_ct_is_hinted(load: Load, modality: str) -> None:
    plugin, orthanc = load(Enrichment=elsewhere("http://127.0.0.1:9"))
    orthanc.answers["/series/s1"] = SERIES | {"MainDicomTags": {"Modality": modality}}
    assert plugin.read_hint("s1", "local") is None


def test_stable_series_reaches_a_service_elsewhere(load: Load, receiver: Receiver) -> None:
    _, orthanc = load(Enrichment=elsewhere(receiver.url))
    put_series(orthanc)
    assert orthanc.on_change is not None
    orthanc.on_change(ChangeType.ORTHANC_STARTED, 4, "")
    orthanc.on_change(ChangeType.STABLE_SERIES, 2, "deleted meanwhile")
    orthanc.on_change(ChangeType.STABLE_SERIES, 2, "s1")
    wait_until(lambda: report(orthanc)["hints"]["sent"] == 1)
    assert receiver.bodies[0]["series_instance_uid"] == "1.2.3.4"
    assert receiver.secrets == ["shared"]
    assert report(orthanc)["state"] == "runs elsewhere"


def test_hints_go_where_the_plugin_reaches_the_service_and_links_where_browsers_do(
    load: Load, receiver: Receiver
) -> None:
    section = elsewhere("https://pacs.example")
    section["Service"]["InternalUrl"] = receiver.url + "/"
    plugin, orthanc = load(Enrichment=section)
    put_series(orthanc)
    plugin.EDGE.hints.offer("s1")
    plugin.EDGE.hints.start()
    wait_until(lambda: report(orthanc)["hints"]["sent"] == 1)
    assert plugin.EDGE.link == "https://pacs.example/enrichment/"


def test_hint_waits_while_the_service_is_down(load: Load, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, orthanc = load(Enrichment=elsewhere(receiver.url))
    monkeypatch.setattr(plugin, "HINT_RETRY_S", 0.05)
    put_series(orthanc)
    receiver.status = 503
    plugin.EDGE.hints.offer("s1")
    plugin.EDGE.hints.start()
    wait_until(lambda: len(receiver.bodies) > 2)
    assert "HTTP 503" in report(orthanc)["error"]
    assert len([line for line in orthanc.log if "503" in line]) == 1
    receiver.status = 202
    wait_until(lambda: report(orthanc)["hints"]["sent"] == 1)
    assert report(orthanc)["error"] == ""


def test_refused_hint_is_counted_and_not_repeated(load: Load, receiver: Receiver) -> None:
    plugin, orthanc = load(Enrichment=elsewhere(receiver.url))
    put_series(orthanc)
    receiver.status = 403
    plugin.EDGE.hints.offer("s1")
    plugin.EDGE.hints.start()
    wait_until(lambda: report(orthanc)["hints"]["refused"] == 1)
    assert report(orthanc)["hints"]["waiting"] == 0
    assert "403" in report(orthanc)["error"]


def test_no_hints_without_a_secret(load: Load, receiver: Receiver) -> None:
    _, orthanc = load(Enrichment={"Service": {"Start": False, "Url": receiver.url}})
    assert orthanc.on_change is not None
    orthanc.on_change(ChangeType.ORTHANC_STARTED, 4, "")
    orthanc.on_change(ChangeType.STABLE_SERIES, 2, "s1")
    assert "Enrichment.Service.Secret is empty" in report(orthanc)["error"]
    assert (len(orthanc.log), report(orthanc)["hints"]["waiting"]) == (1, 0)


def test_full_queue_never_blocks(load: Load) -> None:
    plugin, orthanc = load(Enrichment=elsewhere("http://127.0.0.1:9"))
    for number in range(plugin.HINTS_WAITING_MAX + 3):
        orthanc.on_change(ChangeType.STABLE_SERIES, 2, f"s{number}")  # type: ignore[misc]
    hints = report(orthanc)["hints"]
    assert (hints["waiting"], hints["dropped"]) == (plugin.HINTS_WAITING_MAX, 3)


def test_unexpected_error_neither_ends_the_thread_nor_is_quoted(load: Load, receiver: Receiver) -> None:
    plugin, orthanc = load(Enrichment=elsewhere(receiver.url))
    put_series(orthanc)
    orthanc.answers["/series/odd"] = {"MainDicomTags": {"Modality": "CT"}, "Instances": {"Secret^Name": 1}}
    orthanc.answers["/series/odd/study"] = STUDY
    plugin.EDGE.hints.offer("odd")
    plugin.EDGE.hints.offer("s1")
    plugin.EDGE.hints.start()
    wait_until(lambda: report(orthanc)["hints"]["sent"] == 1)
    assert any("KeyError" in line for line in orthanc.log)
    assert "Secret" not in "".join(orthanc.log)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({}, 'no object "Enrichment"'),
        ({"Enrichment": []}, 'no object "Enrichment"'),
        ({"Enrichment": {"Service": 5}}, "Enrichment.Service must be an object"),
        ({"Enrichment": {"Service": {"Start": "perhaps"}}}, "Enrichment.Service.Start must be true or false"),
        ({"Enrichment": {"Service": {"Python": "/nowhere/python"}}}, "'/nowhere/python' cannot be executed"),
        ({"Enrichment": {"Service": {"Python": "python3"}}}, "must be the absolute path"),
        ({"Enrichment": {"Service": {"Start": False}}}, "set Enrichment.Service.Url"),
        ({"Enrichment": {"Service": {"Start": False, "Url": "ftp://x", "Secret": "s"}}}, "must be http(s)://host"),
        ({"Enrichment": {"Service": {"Url": "http://x", "InternalUrl": "x:8043"}}}, "Service.InternalUrl must be http"),
        ({"Enrichment": {"Archives": 3}}, "Enrichment.Archives must be an object"),
        ({"Enrichment": {"StateDirectory": "state"}}, "Enrichment.StateDirectory must be an absolute path"),
        (
            {"Enrichment": {}, "RemoteAccessAllowed": True, "AuthenticationEnabled": False},
            "anybody could read the images",
        ),
    ],
)
def test_broken_setting_is_logged_once_and_shown(load: Load, configuration: dict[str, object], message: str) -> None:
    plugin, orthanc = load(**configuration)
    for change in (ChangeType.ORTHANC_STARTED, ChangeType.STABLE_SERIES, ChangeType.ORTHANC_STOPPED):
        orthanc.on_change(change, 2, "s1")  # type: ignore[misc]
    assert len(orthanc.log) == 1
    assert message in orthanc.log[0]
    assert message in report(orthanc)["error"]
    assert plugin.html.escape(message) in orthanc.get("/enrichment").body


def test_broken_json_does_not_stop_orthanc(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeOrthanc, "GetConfiguration", lambda self: "{")
    _, orthanc = load()
    assert "JSONDecodeError" in report(orthanc)["error"]


def test_service_gets_its_section_and_what_decides_about_it_and_no_account(load: Load) -> None:
    plugin, _ = load()
    passed_on = {
        "HttpPort": 8099,
        "SslEnabled": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "DicomWeb": {"Root": "dw"},
        "Enrichment": elsewhere("https://ai.example/base/"),
    }
    whole = passed_on | {
        "RegisteredUsers": {"admin": "top-secret"},
        "DicomWeb": {"Root": "dw", "Servers": {"far": ["http://far", "user", "top-secret"]}},
    }
    settings = plugin.read_settings(json.dumps(whole), {})
    assert json.loads(settings.document) == passed_on
    assert settings.url == "https://ai.example/base"
    assert "shared" not in repr(settings)


def test_secret_may_come_from_the_environment(load: Load) -> None:
    plugin, _ = load()
    text = json.dumps({"Enrichment": {"Service": {"Start": False, "Url": "http://x"}}})
    assert plugin.read_settings(text, {"ENRICHMENT_SECRET": "from outside"}).secret == "from outside"


def test_first_archive_is_hinted_where_none_is_called_local(load: Load) -> None:
    plugin, _ = load()
    section = elsewhere("http://x") | {"Archives": {"clinic": {"Url": "http://y"}, "other": {}}}
    assert plugin.read_settings(json.dumps({"Enrichment": section}), {}).archive == "clinic"


@pytest.mark.parametrize("path", ["/enrichment", "/enrichment/status", "/enrichment/dashboard"])
@pytest.mark.parametrize(
    "request_",
    [
        {"method": "POST"},
        {"method": "DELETE"},
        {"method": "GET", "headers": {"X-HTTP-Method-Override": "GET"}},
        {"method": "GET", "headers": {"x-http-method-override": "DELETE"}},
        {"method": "GET", "get": {"_method": "GET"}},
    ],
)
def test_routes_refuse_all_but_a_plain_get(load: Load, path: str, request_: dict[str, object]) -> None:
    _, orthanc = load()
    answer = orthanc.get(path, **request_)
    assert (answer.status, answer.body) == (405, "")


def test_failing_route_answers_500_and_logs_no_content(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, orthanc = load(Enrichment=elsewhere("http://127.0.0.1:9"))

    def fail(self: object) -> None:
        raise ValueError("Secret^Name")

    monkeypatch.setattr(plugin.Edge, "report", fail)
    assert orthanc.get("/enrichment/status", headers={"authorization": "Basic abc"}).status == 500
    assert "ValueError" in orthanc.log[-1]
    assert "Secret" not in orthanc.log[-1]


def test_page_escapes_and_stays_small(load: Load) -> None:
    _, orthanc = load(Enrichment={"Service": {"Python": "<script>alert(1)</script>"}})
    page = orthanc.get("/enrichment")
    assert "<script>" not in page.body
    assert len(page.body) < 4096
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_service_is_started_handed_the_section_and_stopped(
    load: Load, own_python: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    plugin, orthanc = load(Enrichment=own_python(), HttpPort=8055)
    put_series(orthanc)
    plugin.EDGE.on_change(ChangeType.STABLE_SERIES, 2, "s1")
    plugin.EDGE.on_change(ChangeType.ORTHANC_STARTED, 4, "")
    wait_until(lambda: report(orthanc)["hints"]["sent"] == 1)
    assert report(orthanc)["state"] == "running"
    link = report(orthanc)["dashboard"]
    assert link == report(orthanc)["url"] + "/enrichment/"
    assert f"0;url={link}" in orthanc.get("/enrichment/dashboard").body
    plugin.EDGE.on_change(ChangeType.ORTHANC_STOPPED, 4, "")
    start, hint, end = events(tmp_path)
    assert start["arguments"] == ["-P", "-m", "orthanc_plugin.cli", "service", "--stdin"]
    assert start["document"] == {"HttpPort": 8055, "Enrichment": own_python()}
    assert (hint["path"], hint["right_secret"]) == ("/enrichment/api/v1/hints", True)
    assert end["event"] == "end"
    assert report(orthanc)["state"] == "stopped"
    assert not any(line.startswith("E") for line in orthanc.log)


def test_configuration_error_is_shown_and_not_tried_again(
    load: Load, own_python: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    plugin, orthanc = load(Enrichment=own_python(Exit=78, Error="Enrichment.Workers must be 0 to 64"))
    plugin.EDGE.service.start()
    plugin.EDGE.service._thread.join(30)
    assert report(orthanc)["state"] == "configuration error"
    assert report(orthanc)["error"] == "Enrichment.Workers must be 0 to 64"
    assert orthanc.log == ["E Enrichment: Enrichment.Workers must be 0 to 64"]
    assert len(events(tmp_path)) == 1


def test_service_that_ends_is_started_again_ever_more_slowly(
    load: Load, own_python: Callable[..., dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, orthanc = load(Enrichment=own_python(Exit=3))
    assert waits_of(plugin.EDGE.service, 8, monkeypatch) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(events(tmp_path)) == 8
    assert "exit code 3" in report(orthanc)["error"]


def test_healthy_service_resets_the_waiting_time(
    load: Load, own_python: Callable[..., dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, _ = load(Enrichment=own_python(Exit=3))
    monkeypatch.setattr(plugin, "HEALTHY_S", 0.0)
    assert waits_of(plugin.EDGE.service, 3, monkeypatch) == [1, 1, 1]


def test_python_that_cannot_run_is_reported(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "python"
    file.write_text("neither a binary nor a script")
    file.chmod(0o700)
    plugin, orthanc = load(Enrichment={"Service": {"Python": str(file)}, "StateDirectory": str(tmp_path)})
    plugin.EDGE.service.start()
    wait_until(lambda: "OSError" in report(orthanc)["error"])
    plugin.EDGE.stop()
    assert report(orthanc)["state"] == "stopped"


def test_service_that_reports_no_port_is_ended(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "python"
    file.write_text("#!/bin/sh\nexec sleep 300\n")
    file.chmod(0o700)
    plugin, orthanc = load(Enrichment={"Service": {"Python": str(file)}, "StateDirectory": str(tmp_path)})
    monkeypatch.setattr(plugin, "PORT_TIMEOUT_S", 0.2)
    plugin.EDGE.service.start()
    wait_until(lambda: "did not report its port" in report(orthanc)["error"])
    assert plugin.EDGE.service._process.returncode == -9


def test_stubborn_service_is_killed(
    load: Load, own_python: Callable[..., dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, orthanc = load(Enrichment=own_python(Stubborn=True))
    monkeypatch.setattr(plugin, "STOP_STEPS", ((None, 0.3), *plugin.STOP_STEPS[1:]))
    plugin.EDGE.service.start()
    wait_until(lambda: report(orthanc)["state"] == "running")
    plugin.EDGE.stop()
    assert plugin.EDGE.service._process.returncode in (-15, -9)


def test_stopping_leaves_orthanc_two_of_its_ten_seconds(load: Load) -> None:
    plugin, _ = load()
    assert sum(patience_s for _, patience_s in plugin.STOP_STEPS) < 8.0
    assert plugin.STOP_STEPS[0][1] > plugin.HINT_TIMEOUT_S


def test_only_the_plugin_imports_orthanc_and_it_imports_the_standard_library_alone() -> None:
    for file in sorted((ROOT / "orthanc_plugin").rglob("*.py")):
        names = imported(file)
        if file == PLUGIN_SCRIPT:
            assert names - {"orthanc"} <= sys.stdlib_module_names
        else:
            assert "orthanc" not in names, file


def test_callbacks_are_held_until_the_interpreter_ends(load: Load) -> None:
    """Orthanc 1.12.7 crashes at exit where its plugin holds the last reference (make test-trixie shows it)."""
    plugin, orthanc = load()
    assert plugin.EDGE.routes == orthanc.routes


def test_plugin_lies_alone_in_its_folder() -> None:
    assert [file.name for file in PLUGIN_SCRIPT.parent.iterdir() if file.name != "__pycache__"] == ["plugin.py"]


def test_plugin_is_python_3_11_and_never_uses_sys_executable() -> None:
    text = PLUGIN_SCRIPT.read_text()
    ast.parse(text, feature_version=(3, 11))
    assert "sys" not in imported(PLUGIN_SCRIPT)
    assert "OnStoredInstance" not in text


def imported(file: Path) -> set[str]:
    """First parts of the names of all modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain} | {
        node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    }


def waits_of(service: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the watch would have waited between the first `count` ends of the service."""
    waits: list[float] = []

    def wait(delay_s: float) -> None:
        waits.append(delay_s)
        if len(waits) == count:
            service._stopping.set()

    monkeypatch.setattr(service._stopping, "wait", wait)
    service.start()
    service._thread.join(60)
    return waits


def events(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "events").read_text().splitlines()]
