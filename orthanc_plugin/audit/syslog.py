"""Sends the audit log to a syslog server: UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425).

Each line is sent at least once: what was sent is kept on disk, and after a failure the next try begins there. UDP loses
messages without a trace; TCP and TLS notice most losses.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from orthanc_plugin.audit.message import syslog_frame
from orthanc_plugin.audit.trail import Trail

LOOK_S, LONGEST_WAIT_S, TIMEOUT_S = 5.0, 60.0, 10.0
_SENT_FILE = "audit.sent"
_log = logging.getLogger(__name__)


class SyslogSender:
    """Sends the lines of a log that were not sent yet.

    Parameters
    ----------
    trail : Trail
        The log.
    state : Path
        The state directory: it keeps how far the log was sent.
    address : str
        `udp://`, `tcp://` or `tls://` with host and port.
    ca_file : Path or None
        CA of a TLS server; None for those of the system.
    site : str
        AuditEnterpriseSiteID.
    """

    def __init__(self, trail: Trail, state: Path, address: str, ca_file: Path | None = None, site: str = "") -> None:
        self._trail, self._file, self._ca_file, self._site = trail, state / _SENT_FILE, ca_file, site
        parts = urlsplit(address)
        self._scheme, self._host, self._port = parts.scheme, parts.hostname or "", parts.port or 0
        self._error = ""

    def run(self, stopping: threading.Event) -> None:
        """Send until `stopping` is set."""
        wait = LOOK_S
        while not stopping.wait(wait):
            try:
                self.send_new()
                wait, self._error = LOOK_S, ""
            except OSError as error:
                self._complain(error)
                wait = min(LONGEST_WAIT_S, wait * 2)

    def send_new(self) -> int:
        """Send what is new, and return the number of lines; OSError if the server is away."""
        sent = self._sent()
        if self._trail.last_number() <= sent:
            return 0
        send, close = self._connected()
        count = 0
        try:
            for entry in self._trail.entries(after=sent):
                send(syslog_frame(entry, self._site))
                count += 1
                sent = entry.head.number
        finally:
            with suppress(OSError):
                close()
            self._keep(sent)
        return count

    def _connected(self) -> tuple[Callable[[bytes], object], Callable[[], None]]:
        if self._scheme == "udp":
            kind, _, _, _, target = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            sock = socket.socket(kind, socket.SOCK_DGRAM)
            return lambda frame: sock.sendto(frame, target), sock.close
        stream = socket.create_connection((self._host, self._port), TIMEOUT_S)
        if self._scheme == "tls":
            context = ssl.create_default_context(cafile=self._ca_file)
            try:
                stream = context.wrap_socket(stream, server_hostname=self._host)
            except OSError:
                stream.close()
                raise
        return lambda frame: stream.sendall(b"%d " % len(frame) + frame), lambda: _finish(stream)

    def _sent(self) -> int:
        try:
            return int(self._file.read_text())
        except (OSError, ValueError):
            return 0

    def _keep(self, number: int) -> None:
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(str(number))
        new.replace(self._file)

    def _complain(self, error: OSError) -> None:
        said = error.strerror or type(error).__name__
        if said != self._error:
            _log.warning("the audit log cannot be sent to %s: %s; will try again", self._host, said)
        self._error = said


def _finish(stream: socket.socket) -> None:
    """Close so that nothing is lost: what the server sent and nobody read would reset the connection."""
    stream.settimeout(TIMEOUT_S / 2)
    try:
        stream = stream.unwrap() if isinstance(stream, ssl.SSLSocket) else stream
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(4096):
            pass
    finally:
        stream.close()
