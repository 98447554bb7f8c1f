"""Fixtures of the whole suite: the real Orthanc, shared or one's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.servers.orthanc_server import OrthancServer, missing_orthanc


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a command that a test runs in this process does to logging: the next test counts log lines."""
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level = root.level
    yield
    for handler in root.handlers[:]:
        if not type(handler).__module__.startswith("_pytest."):
            root.removeHandler(handler)
    logging.setLogRecordFactory(factory)
    root.setLevel(level)


@pytest.fixture(scope="session")
def orthanc_installed() -> None:
    """Skip where Orthanc is missing on a developer's computer, fail in CI."""
    if missing := missing_orthanc():
        message = f"no {missing}: install Debian's orthanc, orthanc-python and orthanc-dicomweb"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def orthanc(orthanc_installed: None) -> Iterator[OrthancServer]:
    """One Orthanc with DICOMweb for the whole run, without our plugin; do not stop it."""
    with OrthancServer() as server:
        yield server


@pytest.fixture
def new_orthanc(orthanc_installed: None) -> Iterator[Callable[..., OrthancServer]]:
    """Makes Orthancs of a test's own (arguments of OrthancServer); the test starts them, the end removes them."""
    with ExitStack() as servers:

        def make(**arguments: object) -> OrthancServer:
            server = OrthancServer(**arguments)  # type: ignore[arg-type]
            servers.callback(server.close)
            return server

        yield make
