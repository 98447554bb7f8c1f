"""A PostgreSQL of a test's own, from Debian's package `postgresql`, on the loopback interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers.orthanc_server import free_port

USER, PASSWORD = "enrich", "p@ss:w/rd"


@dataclass(frozen=True)
class PostgreSql:
    """A running server with one empty database."""

    directory: Path
    binaries: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:p%40ss%3Aw%2Frd@127.0.0.1:{self.port}/postgres"

    def restart(self) -> None:
        self.control("restart")

    def control(self, *action: str) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory}"
        log = str(self.directory / "log")
        _run(self.binaries / "pg_ctl", "-D", self.directory / "data", "-o", options, "-l", log, "-m", "fast", *action)


@contextmanager
def postgresql() -> Iterator[PostgreSql]:
    """Start a server, skip where there is none (fail in CI); stopped and removed at the end."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if binaries is None or not (binaries / "initdb").exists():
        message = "no PostgreSQL server here: install Debian's postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    directory = Path(tempfile.mkdtemp(prefix="enrich-pg-"))
    if os.geteuid() == 0:
        shutil.chown(directory, "postgres", "postgres")
    server = PostgreSql(directory, binaries, free_port())
    try:
        (directory / "password").write_text(PASSWORD)
        (directory / "password").chmod(0o644)
        account = ("-U", USER, f"--pwfile={directory / 'password'}", "-A", "scram-sha-256")
        _run(binaries / "initdb", "-D", directory / "data", *account, "--no-sync")
        server.control("start")
        yield server
    finally:
        if (directory / "data" / "postmaster.pid").exists():
            server.control("stop")
        shutil.rmtree(directory)


def _run(*command: object) -> None:
    """As the user postgres where we are root: the server refuses root."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *map(str, command)], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert done.returncode == 0, command
