"""The audit log at a real rsyslog, by UDP, TCP and TLS: what arrives is whole, and valid by the standard's schema."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orthanc_plugin.audit.event import Event, Outcome, What
from orthanc_plugin.audit.message import audit_message
from orthanc_plugin.audit.syslog import SyslogSender
from orthanc_plugin.audit.trail import Trail
from tests.support.cases.audit_schema import faults
from tests.support.servers.orthanc_server import free_port, listens, wait_until
from tests.support.servers.tls import Authority

AT = datetime(2026, 11, 30, 13, 7, 5, 123000, tzinfo=UTC)
MOST = tuple(f"2.25.{number:036d}" for number in range(100))
"""As many series as the front door names in one line."""
EVENTS = (
    *(Event(AT, what, "ada", "password", "192.0.2.7", study="1.2.3", series=("1.2.4",)) for what in What),
    Event(AT, What.LOGIN, 'Ädä\n<"&>\x00', outcome=Outcome.FAILURE, detail="wrong\npassword"),
    Event(AT, What.ACT, "all", series=MOST, job="5a" * 32),
)
_CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imudp") module(load="imtcp")
input(type="imudp" address="127.0.0.1" port="{udp}")
input(type="imtcp" address="127.0.0.1" port="{tcp}")
input(type="imtcp" address="127.0.0.1" port="{tls}" streamDriver.name="gtls" streamDriver.mode="1"
      streamDriver.authMode="anon" streamDriver.caFile="{ca}" streamDriver.certFile="{certificate}"
      streamDriver.keyFile="{key}")
template(name="parts" type="list" option.jsonf="on") {{
  property(outname="priority" name="pri" format="jsonf")
  property(outname="at" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="program" name="app-name" format="jsonf")
  property(outname="kind" name="msgid" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
}}
action(type="omfile" file="{folder}/got" template="parts")
"""
"""`jsonf` writes one object a message, of the parts that rsyslog found in it."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[dict[str, int]]:
    """Start Debian's rsyslog; gives its port for each kind of transport."""
    binary = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        assert "CI" not in os.environ, "scripts/install-system rsyslog rsyslog-gnutls"
        pytest.skip("rsyslog is not installed")
    shown, ports = authority.sign(), {kind: free_port() for kind in ("udp", "tcp", "tls")}
    file = tmp_path / "rsyslog.conf"
    file.write_text(_CONFIGURATION.format(
        folder=tmp_path, **ports, ca=authority.file, certificate=shown.certificate, key=shown.key
    ))  # fmt: skip
    command = [binary, "-n", "-f", str(file), "-i", str(tmp_path / "pid")]
    with (tmp_path / "said").open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            wait_until(lambda: all(listens(ports[kind]) for kind in ("tcp", "tls")), 20, "rsyslog")
            yield ports
        finally:
            process.terminate()


def _got(folder: Path) -> list[dict[str, str]]:
    """Return what arrived from us; rsyslog also reports on itself."""
    file = folder / "got"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if line["program"] != "rsyslogd"]


@pytest.mark.parametrize("scheme", ["udp", "tcp", "tls"])
def test_every_line_arrives_whole_and_valid(
    scheme: str, server: dict[str, int], authority: Authority, tmp_path: Path
) -> None:
    trail = Trail(tmp_path)
    trail.append(*EVENTS)
    ca = authority.file if scheme == "tls" else None
    sender = SyslogSender(trail, tmp_path, f"{scheme}://127.0.0.1:{server[scheme]}", ca, "Site")
    assert sender.send_new() == len(EVENTS)
    wait_until(lambda: len(_got(tmp_path)) == len(EVENTS), 20, "the messages")
    got = _got(tmp_path)
    assert {(line["priority"], line["program"], line["kind"], line["host"]) for line in got} == {
        ("85", "orthanc-enrich", "DICOM+RFC3881", socket.gethostname())
    }
    assert {datetime.fromisoformat(line["at"]) for line in got} == {AT}
    messages = [line["message"].lstrip().removeprefix("\ufeff") for line in got]
    sent = [audit_message(entry.event, entry.head, "Site") for entry in trail.entries()]
    assert sorted(messages) == sorted(sent)
    assert faults(messages, tmp_path) == []


def test_what_was_sent_while_the_server_was_away_comes_later_and_once(
    server: dict[str, int], authority: Authority, tmp_path: Path
) -> None:
    trail = Trail(tmp_path)
    trail.append(EVENTS[0])
    address = f"tls://127.0.0.1:{server['tls']}"
    with pytest.raises(ssl.SSLError):  # a CA of another hospital
        SyslogSender(trail, tmp_path, address, Authority(tmp_path, "other").file).send_new()
    trail.append(EVENTS[1])
    assert SyslogSender(trail, tmp_path, address, authority.file).send_new() == 2
    assert SyslogSender(trail, tmp_path, address, authority.file).send_new() == 0
    wait_until(lambda: len(_got(tmp_path)) == 2, 20, "the messages")
