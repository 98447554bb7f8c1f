"""Two workers on one computer do not count on the same free memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from orthanc_plugin.errors import TransientError
from orthanc_plugin.jobs.database import open_engine
from orthanc_plugin.jobs.ledger import Ledger
from orthanc_plugin.jobs.memory import Memory
from orthanc_plugin.jobs.promises import Promises
from tests.support.servers.orthanc_server import wait_until

GIB = 2**30
WORKER = """
import sys, time
from functools import partial
from orthanc_plugin.jobs.database import open_engine
from orthanc_plugin.jobs.memory import Memory, wait_for_room
from orthanc_plugin.jobs.promises import Promises
GIB = 1 << 30
engine = open_engine(sys.argv[1])
promises = Promises(engine, sys.argv[2], lambda on_host, in_cgroup: Memory(10 * GIB, 8 * GIB - on_host))
print("ready", flush=True)
sys.stdin.readline()
tell = lambda text: print(text or "fits", flush=True)
wait_for_room(6 * GIB, tell, partial(promises.ask, 6 * GIB), lambda s: time.sleep(0.02))
print("begins", flush=True)
sys.stdin.readline()
promises.end()
print("ended", flush=True)
sys.stdin.readline()
"""


class Worker:
    """A process with a job of 6 GiB on a computer that has 8 GiB free."""

    def __init__(self, url: str, name: str) -> None:
        command = [sys.executable, "-c", WORKER, url, name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def workers(url: str) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        made = [Worker(url, f"worker-{number}") for number in range(2)]
        for worker in made:
            stack.callback(worker.end)
        assert [worker.says() for worker in made] == ["ready", "ready"]
        yield made


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path}/jobs.db"
    Ledger(address).close()
    return address


def promised(url: str) -> list[str]:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT executor_id FROM enrichment_promises")).scalars().all()
    engine.dispose()
    return [str(name) for name in found]


@pytest.mark.parametrize("ends", ["by itself", "by SIGKILL"])
def test_of_two_workers_that_begin_at_once_one_waits_for_the_other(url: str, ends: str) -> None:
    with workers(url) as (first, second):
        first.go_on()
        second.go_on()
        wait_until(lambda: promised(url), 30, "a promise")
        begun, waiting = (first, second) if promised(url) == ["worker-0"] else (second, first)
        assert begun.says() == "begins"
        said = waiting.says()
        assert said.startswith("memory: about 6.0 GiB needed, 2.")
        if ends == "by itself":
            begun.go_on()
            assert begun.says() == "ended"
        else:
            begun.end()
        told = [waiting.says()]
        while told[-1] != "begins":
            told.append(waiting.says())
        assert told[-2] == "fits"
        assert len(promised(url)) == 1


def test_what_a_job_uses_already_is_not_counted_twice(url: str) -> None:
    engine, seen = open_engine(url), list[tuple[int, int]]()
    much = 64 * GIB  # more than a long run of tests has already

    def memory(on_host: int, in_cgroup: int) -> Memory:
        seen.append((on_host, in_cgroup))
        return Memory(much, much)

    Promises(engine, "a", memory).ask(1000)  # less than this process has already
    Promises(engine, "b", memory).ask(0)
    assert seen == [(0, 0), (0, 0)]
    Promises(engine, "a", memory).ask(much)
    Promises(engine, "b", memory).ask(much)
    assert 0 < seen[-1][0] == seen[-1][1] < much
    Promises(engine, "a", memory).ask(2 * much)  # does not fit: its earlier promise is over
    assert promised(url) == ["b"]
    engine.dispose()


@pytest.mark.parametrize(
    ("change", "counts"),
    [("cgroup = 'another'", (True, False)), ("host = 'another'", (False, False)), ("started = '1'", (False, False))],
)
def test_a_promise_counts_where_its_worker_takes_memory(url: str, change: str, counts: tuple[bool, bool]) -> None:
    engine, seen = open_engine(url), list[tuple[int, int]]()

    def memory(on_host: int, in_cgroup: int) -> Memory:
        seen.append((on_host, in_cgroup))
        return Memory(64 * GIB, 64 * GIB)

    Promises(engine, "a", memory).ask(32 * GIB)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE enrichment_promises SET {change}"))
    Promises(engine, "b", memory).ask(GIB)
    assert tuple(number > 0 for number in seen[-1]) == counts
    engine.dispose()


def test_a_database_that_does_not_answer_is_asked_again(url: str) -> None:
    engine = open_engine(url)
    promises = Promises(engine, "a", lambda on_host, in_cgroup: Memory(GIB, GIB))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE enrichment_promises"))
    with pytest.raises(TransientError, match="the job database does not say"):
        promises.ask(1)
    engine.dispose()
