"""Instances between two threads: a few at a time, ended, left, or silent."""

from __future__ import annotations

import threading
import time

import pytest

from orthanc_plugin.archive.inbox import Inbox, Silence
from tests.support.servers.orthanc_server import wait_until


def sender(inbox: Inbox, count: int, sent: list[bool]) -> threading.Thread:
    def send() -> None:
        sent.extend(inbox.put(bytes([number])) for number in range(count))
        inbox.end()

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_everything_comes_in_order_and_then_the_end() -> None:
    inbox = Inbox(silence_s=10, longest_s=10)
    thread = sender(inbox, 20, [])
    assert list(inbox.contents()) == [bytes([number]) for number in range(20)]
    thread.join()


def test_the_sender_waits_for_the_reader() -> None:
    inbox, sent = Inbox(silence_s=10, longest_s=10), list[bool]()
    contents = inbox.contents()
    thread = threading.Thread(target=lambda: [sent.append(inbox.put(bytes([n]))) for n in range(20)])
    thread.start()
    wait_until(lambda: len(sent) == 4, what="a full inbox")
    time.sleep(0.3)
    assert len(sent) == 4
    next(contents)
    wait_until(lambda: len(sent) == 5, what="room for one more")
    inbox.leave()
    thread.join(10)
    assert sent == [True] * 5 + [False] * 15


@pytest.mark.parametrize(("silence_s", "longest_s"), [(0.3, 10), (10, 0.3)])
def test_silence_and_endless_sending_end(silence_s: float, longest_s: float) -> None:
    inbox = Inbox(silence_s, longest_s)
    inbox.put(b"one")
    contents = inbox.contents()
    assert next(contents) == b"one"
    with pytest.raises(Silence):
        next(contents)


def test_a_sign_of_life_is_no_silence() -> None:
    inbox = Inbox(silence_s=0.6, longest_s=30)

    def live() -> None:
        for _ in range(10):
            time.sleep(0.1)
            inbox.heard()
        inbox.put(b"late")
        inbox.end()

    thread = threading.Thread(target=live)
    thread.start()
    assert list(inbox.contents()) == [b"late"]
    thread.join()
