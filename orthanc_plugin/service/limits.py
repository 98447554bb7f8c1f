"""Limits of what callers may cost before anybody knows who they are: connections, time and memory.

A connection that asks nothing yet, or is slow to say what it asks, can be closed at any time. When all connections are
taken, the oldest of these makes room, so half-open connections keep nobody out. Files and the job database never have
to wait for a descriptor: connections get only what is left of the process's limit after a reserve.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orthanc_plugin.config.base import is_loopback
from orthanc_plugin.service.lockout import network_of

_log = logging.getLogger(__name__)

BACKLOG = 128
RESERVED_DESCRIPTORS = 500
"""The archive takes up to 220, a burst of new connections BACKLOG; database, logs, pipes and files the rest."""
_WANTED_DESCRIPTORS = 8192
_FEWEST = 64
_SWEEP_S = 0.5
_COMPLAIN_S = 60.0
_ANSWERS = {
    400: b"HTTP/1.1 400 Bad Request\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n",
}
_NO_BODY = b"content-length: 0\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What connections may cost.

    connections: in all. per_address: of one address (IPv6: of a /64), except of this computer and of trusted
    proxies.
    head_bytes: request line and headers. head_s: until they are complete.
    pace_bytes, pace_s: the least that must come of a body, or be taken of an answer, in that time.
    pipelined: requests that wait for an earlier one of the same connection.
    """

    connections: int = 1000
    per_address: int = 100
    head_bytes: int = 32 * 1024
    head_s: float = 10.0
    pace_bytes: int = 8 * 1024
    pace_s: float = 60.0
    pipelined: int = 16


def limits_here() -> Limits:
    """Raise the limit of descriptors as far as the system lets us, and derive the number of connections from it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _WANTED_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return Limits(connections=max(_FEWEST, min(Limits().connections, soft - RESERVED_DESCRIPTORS)))


class Doorkeeper:
    """Knows all connections of a server, and closes those that break a limit.

    Parameters
    ----------
    limits : Limits
    is_proxy : callable
        Tells whether an address is that of a trusted proxy: it stands for many callers.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        limits: Limits,
        is_proxy: Callable[[str], bool] = lambda address: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.clock = limits, clock
        self._is_proxy = is_proxy
        self._open: dict[LimitedProtocol, None] = {}
        self._of_network = Counter[str]()
        self._swept = self._complained = -_COMPLAIN_S
        self._turned_away = 0

    def admit(self, newcomer: LimitedProtocol) -> bool:
        """Count a new connection; make room for it, or return False."""
        network = network_of(newcomer.address)
        crowd = self._of_network[network] >= self.limits.per_address and not self._stands_for_many(newcomer.address)
        if crowd and not self._make_room(network):
            return self._complain()
        if len(self._open) >= self.limits.connections and not self._make_room(""):
            return self._complain()
        self._open[newcomer] = None
        self._of_network[network] += 1
        return True

    def forget(self, leaver: LimitedProtocol) -> None:
        """No longer count a connection."""
        if leaver in self._open:
            del self._open[leaver]
            network = network_of(leaver.address)
            self._of_network[network] -= 1
            if not self._of_network[network]:
                del self._of_network[network]

    def sweep(self) -> None:
        """Close what broke a limit of time; called often, does something twice a second."""
        now = self.clock()
        if now - self._swept >= _SWEEP_S:
            self._swept = now
            for connection in tuple(self._open):
                connection.look(now)

    def _make_room(self, network: str) -> bool:
        """Close the oldest connection (of this network) that nobody works for."""
        idle = (one for one in self._open if one.is_idle and (not network or network == network_of(one.address)))
        if (oldest := next(idle, None)) is None:
            return False
        self._complain()
        oldest.end()
        return True

    def _complain(self) -> bool:
        self._turned_away += 1
        if self.clock() - self._complained >= _COMPLAIN_S:
            self._complained = self.clock()
            _log.warning("too many connections: %d were closed or refused so far", self._turned_away)
        return False

    def _stands_for_many(self, address: str) -> bool:
        return is_loopback(address) or self._is_proxy(address)


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, within limits."""

    def __init__(self, keeper: Doorkeeper, **server: Any) -> None:
        super().__init__(**server)
        self._keeper, self._limits = keeper, keeper.limits
        self.address = ""
        self._refused = False
        self._in_head, self._heads = True, 0
        self._head_since: float | None = keeper.clock()
        self._head_bytes = 0
        self._body_bytes = self._raw_bytes = 0
        self._pace_since, self._pace_bytes = 0.0, 0
        self._stalled: tuple[float, int] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is worked on."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        self.address = str(self.client[0]) if self.client else ""
        if not self._keeper.admit(self):
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting it."""
        self._keeper.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came, within the limits of bytes."""
        if self._refused:
            return
        was_in_head, heads = self._in_head, self._heads
        if self._head_since is None and self.is_idle:
            self._head_since = self._keeper.clock()
        super().data_received(data)
        if heads != self._heads:
            return  # a head was completed in it, and measured there
        if self._in_head and was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(431)
        elif not self._in_head and not was_in_head:
            self._raw_bytes += len(data)
            if self._raw_bytes - self._body_bytes > self._limits.head_bytes + 8 * self._body_bytes:
                self._refuse(400)  # chunks that hold next to nothing, or endless trailers

    def on_headers_complete(self) -> None:
        """Begin to work on a request whose head is within the limits."""
        if self._refused:
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.head_bytes or len(self.pipeline) >= self._limits.pipelined:
            self._refuse(431 if size > self._limits.head_bytes else 503)
            return
        self._in_head, self._head_since, self._head_bytes = False, None, 0
        self._heads += 1
        self._raw_bytes = self._body_bytes = self._pace_bytes = 0
        self._pace_since = self._keeper.clock()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._refused:
            self._body_bytes += len(body)
            self._pace_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        if not self._refused:
            self._in_head = True
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Note that the caller takes its answer more slowly than it is made."""
        self._stalled = (self._keeper.clock(), self.transport.get_write_buffer_size())
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the caller has taken most of it."""
        self._stalled = None
        super().resume_writing()

    def look(self, now: float) -> None:
        """End the connection if it is too slow."""
        slow_head = self._head_since is not None and now - self._head_since > self._limits.head_s
        if slow_head or self._is_slow_sender(now) or self._is_slow_reader(now):
            self.end()

    def end(self) -> None:
        """End the connection at once."""
        self._refused = True
        self._keeper.forget(self)
        if not self.transport.is_closing():
            self.transport.abort()

    def _is_slow_sender(self, now: float) -> bool:
        if self._in_head or self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self._pace_since, self._pace_bytes = now, 0
            return False
        if now - self._pace_since <= self._limits.pace_s:
            return False
        slow = self._pace_bytes < self._limits.pace_bytes
        self._pace_since, self._pace_bytes = now, 0
        return slow

    def _is_slow_reader(self, now: float) -> bool:
        if self._stalled is None or now - self._stalled[0] <= self._limits.pace_s:
            return False
        left = self.transport.get_write_buffer_size()
        slow = self._stalled[1] - left < self._limits.pace_bytes
        self._stalled = (now, left)
        return slow

    def _refuse(self, status: int) -> None:
        self._refused = True
        self._keeper.forget(self)
        if not self.transport.is_closing():
            self.transport.write(_ANSWERS[status] + _NO_BODY)
            self.transport.close()
