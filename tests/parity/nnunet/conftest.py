"""The peers, the CTs and the table of the parity tests; `--full` runs every case, `--page` writes docs/parity.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.parity.nnunet.cts import Ct, prepare
from tests.parity.nnunet.peers import Peer
from tests.parity.nnunet.table import Row, write_page

ROWS: pytest.StashKey[list[Row]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="all whole-volume cases")
    parser.addoption("--page", action="store_true", help="write docs/parity.md of the cases that ran")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page unless the run failed."""
    rows = session.config.stash[ROWS]
    if session.config.getoption("--page") and rows and exitstatus == pytest.ExitCode.OK:
        write_page(rows, whole=bool(session.config.getoption("--full")))


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Adds a row to the table."""
    return request.config.stash[ROWS].append


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, full: bool) -> Iterator[Peer]:
    """The frameworks; with both cores where nothing else runs."""
    process = Peer(tmp_path_factory.mktemp("peer"), threads=2 if full else 1)
    yield process
    process.close()


@pytest.fixture(scope="session")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ct]:
    """The series of a name, read once."""
    root = tmp_path_factory.mktemp("cts")
    return cache(lambda name: prepare(name, root))
