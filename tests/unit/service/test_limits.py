"""Limits of connections, one by one: who is let in, who makes room, and who is too slow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from orthanc_plugin.service import limits
from orthanc_plugin.service.limits import Doorkeeper, LimitedProtocol, Limits

SMALL = Limits(connections=3, per_address=2, head_bytes=200, head_s=10, pace_bytes=100, pace_s=30, pipelined=2)
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Transport(asyncio.Transport):
    """Stands in for a connection."""

    peer: str
    written: bytes = b""
    closed: str = ""
    waiting: int = 0
    info: dict[str, object] = field(default_factory=dict)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": (self.peer, 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = "aborted"

    def is_closing(self) -> bool:
        return bool(self.closed)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


class Door:
    """A doorkeeper, and connections of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.keeper = Doorkeeper(SMALL, lambda address: address == "10.0.0.1", self.clock)
        self.config = uvicorn.Config(PlainTextResponse("yes"), log_config=None)
        self.loop = asyncio.new_event_loop()

    def connect(self, peer: str = "192.0.2.1", sent: bytes = b"") -> tuple[LimitedProtocol, Transport]:
        transport = Transport(peer)
        protocol = LimitedProtocol(
            self.keeper, config=self.config, server_state=ServerState(), app_state={}, _loop=self.loop
        )
        protocol.connection_made(transport)
        if sent:
            protocol.data_received(sent)
        return protocol, transport

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.keeper.sweep()


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    for task in asyncio.all_tasks(door.loop):
        task.cancel()
    door.loop.run_until_complete(asyncio.sleep(0))
    door.loop.close()


def test_the_oldest_idle_connection_makes_room(door: Door) -> None:
    first, *rest = [door.connect(f"192.0.2.{number}")[1] for number in range(4)]
    assert first.closed == "aborted"
    assert [transport.closed for transport in rest] == ["", "", ""]


def test_one_address_has_its_share_and_this_computer_and_proxies_have_more(door: Door) -> None:
    mine = [door.connect()[1] for _ in range(3)]
    assert [transport.closed for transport in mine] == ["aborted", "", ""]
    for peer in ("127.0.0.1", "10.0.0.1"):
        others = Door()
        assert [others.connect(peer)[1].closed for _ in range(3)] == ["", "", ""]
        others.loop.close()


def test_who_is_worked_for_is_not_closed_for_a_newcomer(door: Door) -> None:
    busy = [door.connect(f"192.0.2.{number}", POST)[1] for number in range(3)]
    _, newcomer = door.connect("192.0.2.9")
    assert [transport.closed for transport in busy] == ["", "", ""]
    assert newcomer.written.startswith(b"HTTP/1.1 503 ")
    assert newcomer.closed == "closed"


def test_a_connection_that_ends_makes_room(door: Door) -> None:
    protocols = [door.connect(f"192.0.2.{number}", POST)[0] for number in range(3)]
    protocols[0].connection_lost(None)
    assert door.connect("192.0.2.9")[1].closed == ""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: "])
def test_a_slow_head_ends(door: Door, sent: bytes) -> None:
    _, transport = door.connect(sent=sent)
    door.later(9)
    assert transport.closed == ""
    door.later(2)
    assert transport.closed == "aborted"


def test_a_slow_body_ends_and_a_steady_one_does_not(door: Door) -> None:
    slow, steady = door.connect("192.0.2.1", POST), door.connect("192.0.2.2", POST)
    for _ in range(4):
        slow[0].data_received(b"x")
        steady[0].data_received(b"x" * 101)
        door.later(31)
    assert (slow[1].closed, steady[1].closed) == ("aborted", "")


def test_who_takes_no_answer_ends_and_who_takes_it_slowly_does_not(door: Door) -> None:
    (stuck, first), (taking, second) = (door.connect(f"192.0.2.{n}", POST + b"x" * 1000) for n in (1, 2))
    for protocol, transport in ((stuck, first), (taking, second)):
        transport.waiting = 100_000
        protocol.pause_writing()
    for _ in range(3):
        second.waiting -= 20_000
        door.later(31)
    assert (first.closed, second.closed) == ("aborted", "")
    taking.resume_writing()
    door.later(100)
    assert second.closed == ""


def test_head_and_body_in_one_piece_are_no_long_head(door: Door) -> None:
    protocol, transport = door.connect(sent=POST + b"x" * 1000)
    for _ in range(2):
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 4000)
        protocol.data_received(b"x" * 1000)
    assert (transport.written, transport.closed) == (b"", "")


def test_a_long_head_is_refused(door: Door) -> None:
    for head in (b"GET / HTTP/1.1\r\nX: " + b"a" * 300, b"GET / HTTP/1.1\r\nX: " + b"a" * 300 + b"\r\n\r\n"):
        fresh = Door()
        protocol, transport = fresh.connect(sent=head)
        assert transport.written.startswith(b"HTTP/1.1 431 ")
        protocol.data_received(b"more")
        assert transport.closed == "closed"
        fresh.loop.close()


def test_chunks_of_nothing_are_refused(door: Door) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    protocol, transport = door.connect(sent=head)
    for _ in range(10):
        protocol.data_received(b"1;" + b"e" * 100 + b"\r\nx\r\n")
    assert transport.written.startswith(b"HTTP/1.1 400 ")


def test_descriptors_are_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    for had, connections in (((1024, 1024), 524), ((256, 256), 64), ((1024, 1_000_000), 1000), ((1024, -1), 1000)):
        monkeypatch.setattr(limits.resource, "getrlimit", lambda _, had=had: had)
        monkeypatch.setattr(limits.resource, "setrlimit", lambda _, wanted: asked.append(wanted))
        assert limits.limits_here().connections == connections
    assert asked == [(8192, 1_000_000), (8192, -1)]
