"""Audit messages: XML of PS3.15 A.5 in frames of syslog, over UDP, TCP and TLS, each at least once."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from base64 import b64decode
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from orthanc_plugin.audit.event import Event, Outcome, What
from orthanc_plugin.audit.message import audit_message, syslog_frame
from orthanc_plugin.audit.syslog import SyslogSender
from orthanc_plugin.audit.trail import Entry, Head, Trail
from tests.support.cases.audit_schema import faults
from tests.support.servers.tls import Authority

AT = datetime(2026, 11, 30, 13, 7, 5, 123000, tzinfo=UTC)
HEAD = Head(7, "a" * 64)
VIEW = Event(AT, What.VIEW, 'Ada <"&>\x00', "password", "192.0.2.7", study="1.2.3", series=("1.2.4", "1.2.5"), job="77")


@pytest.mark.parametrize("what", What)
def test_each_kind_of_act_is_a_message_of_the_standard(what: What) -> None:
    message = Xml.fromstring(audit_message(Event(AT, what, "ada"), HEAD, "Site"))
    assert [child.tag for child in message if child.tag != "ParticipantObjectIdentification"] == [
        "EventIdentification", "ActiveParticipant", "ActiveParticipant", "AuditSourceIdentification",
    ]  # fmt: skip
    identification = message[0]
    assert identification.attrib["EventActionCode"] in "CRUDE"
    assert identification.attrib["EventDateTime"] == "2026-11-30T13:07:05.123+00:00"
    event_id = identification[0]
    assert event_id.tag == "EventID"
    assert re.fullmatch(r"1101\d\d", event_id.attrib["csd-code"])
    assert event_id.attrib["codeSystemName"] == "DCM"
    for code in message.iter():
        if "csd-code" in code.attrib:
            assert code.attrib["originalText"]
            assert code.attrib["codeSystemName"] in ("DCM", "99AIE")


FULL = Event(
    AT, What.EXPORT, "ada\nbob \x1b", "token", "::1", Outcome.FAILURE, "a\nfailure <of> \x00", "local",
    "1.2.3", ("1.2.4",), "5a" * 32, 7,
)  # fmt: skip


def test_the_schema_of_the_standard_accepts_each_kind(tmp_path: Path) -> None:
    events = (Event(AT, What.VIEW, ""), VIEW, FULL, replace(FULL, study=""))
    messages = [audit_message(replace(event, what=what), HEAD, "Site") for event in events for what in What]
    assert faults(messages, tmp_path) == []


def test_the_schema_refuses_what_is_not_a_message(tmp_path: Path) -> None:
    whole = audit_message(VIEW, HEAD)
    for part in ('EventOutcomeIndicator="0"', '<ActiveParticipant UserID="orthanc-enrich"', "originalText"):
        assert faults([whole.replace(part, part.replace("=", "x=") if "=" in part else "text")], tmp_path), part


def test_a_view_names_who_where_and_what() -> None:
    message = Xml.fromstring(audit_message(VIEW, HEAD))
    caller, ours = message.findall("ActiveParticipant")
    assert caller.attrib["UserID"] == 'Ada <"&>?'
    assert (caller.attrib["NetworkAccessPointID"], caller.attrib["NetworkAccessPointTypeCode"]) == ("192.0.2.7", "2")
    assert (caller.attrib["UserIsRequestor"], ours.attrib["UserIsRequestor"]) == ("true", "false")
    study, job, line = message.findall("ParticipantObjectIdentification")
    assert study.attrib["ParticipantObjectID"] == "1.2.3"
    assert study[0].attrib["csd-code"] == "110180"
    details = [b64decode(detail.attrib["value"]).decode() for detail in study.findall("ParticipantObjectDetail")]
    assert details == ["1.2.4", "1.2.5"]
    assert (job.attrib["ParticipantObjectID"], line.attrib["ParticipantObjectID"]) == ("77", str(HEAD))


def test_a_failure_is_one() -> None:
    event = Event(AT, What.LOGIN, "ada", outcome=Outcome.FAILURE, detail="wrong password")
    identification = Xml.fromstring(audit_message(event, HEAD))[0]
    assert identification.attrib["EventOutcomeIndicator"] == "4"
    assert identification.findtext("EventOutcomeDescription") == "wrong password"


def test_the_frame_is_that_of_rfc_5424() -> None:
    frame = syslog_frame(Entry(HEAD, VIEW))
    head = rb"<85>1 2026-11-30T13:07:05\.123\+00:00 \S+ orthanc-enrich \d+ DICOM\+RFC3881 - \xef\xbb\xbf<AuditMessage>"
    assert re.match(head, frame)
    assert b"\n" not in frame


def written(state: Path, count: int = 3) -> Trail:
    trail = Trail(state)
    trail.append(*(Event(AT, What.VIEW, f"user{number}") for number in range(count)))
    return trail


def test_udp(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        sender = SyslogSender(written(tmp_path), tmp_path, f"udp://127.0.0.1:{server.getsockname()[1]}")
        assert sender.send_new() == 3
        got = [server.recv(65536) for _ in range(3)]
        assert [f"user{number}".encode() in frame for number, frame in enumerate(got)] == [True] * 3
        assert sender.send_new() == 0


def received(server: socket.socket, into: list[bytes], context: ssl.SSLContext | None = None) -> threading.Thread:
    def accept() -> None:
        connection, _ = server.accept()
        try:
            stream = context.wrap_socket(connection, server_side=True) if context else connection
        except OSError:
            connection.close()
            return
        with closing(stream):
            content = b""
            while piece := stream.recv(65536):
                content += piece
            into.append(content)

    thread = threading.Thread(target=accept)
    thread.start()
    return thread


def frames(content: bytes) -> list[bytes]:
    """Take octet-counted frames apart (RFC 6587 3.4.1)."""
    found = []
    while content:
        length, _, rest = content.partition(b" ")
        found.append(rest[: int(length)])
        content = rest[int(length) :]
    return found


def test_tcp_goes_on_where_it_stopped(tmp_path: Path) -> None:
    trail, got = written(tmp_path), list[bytes]()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread = received(server, got)
        assert SyslogSender(trail, tmp_path, address).send_new() == 3
        thread.join()
        trail.append(Event(AT, What.EXPORT, "later"))
        thread = received(server, got)
        assert SyslogSender(trail, tmp_path, address).send_new() == 1
        thread.join()
    assert [len(frames(content)) for content in got] == [3, 1]
    assert b"later" in got[1]
    with pytest.raises(OSError, match="refused"):
        trail.append(Event(AT, What.EXPORT, "lost?")), SyslogSender(trail, tmp_path, address).send_new()


def test_tls_is_verified(tmp_path: Path) -> None:
    trail, got = written(tmp_path), list[bytes]()
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    shown = authority.sign()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        thread = received(server, got, context)
        with pytest.raises(ssl.SSLError):
            SyslogSender(trail, tmp_path, address, other.file).send_new()
        thread.join()
        thread = received(server, got, context)
        assert SyslogSender(trail, tmp_path, address, authority.file).send_new() == 3
        thread.join()
    assert len(frames(got[0])) == 3


def test_a_server_that_is_away_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trail, got, stopping = written(tmp_path), list[bytes](), threading.Event()
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sender = SyslogSender(trail, tmp_path, f"tcp://127.0.0.1:{port}")
    waits = iter([False, False, False, True])
    server: list[socket.socket] = []

    def wait(seconds: float) -> bool:
        if not server and "cannot be sent" in caplog.text:
            server.append(socket.create_server(("127.0.0.1", port)))
            threads.append(received(server[0], got))
        return next(waits)

    threads: list[threading.Thread] = []
    stopping.wait = wait  # type: ignore[method-assign, assignment]
    sender.run(stopping)
    for thread in threads:
        thread.join()
    server[0].close()
    assert caplog.text.count("cannot be sent") == 1
    assert len(frames(got[0])) == 3
