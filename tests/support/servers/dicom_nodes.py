"""DICOM nodes of dcmtk for tests: an archive (dcmqrscp) and a mere receiver (storescp), on free loopback ports."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

from tests.support.servers.orthanc_server import free_port, wait_until

AET = "DCMTK"


@dataclass(frozen=True)
class DicomNode:
    """Where a node listens, and where it keeps what it receives."""

    port: int
    storage: Path


@contextmanager
def query_retrieve_node(directory: Path, caller: str, caller_port: int) -> Iterator[DicomNode]:
    """Run dcmtk's dcmqrscp with one empty storage area, which knows one caller and its port for C-MOVE."""
    storage, port = directory / "storage", free_port()
    storage.mkdir(parents=True)
    settings = directory / "dcmqrscp.cfg"
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nus = ({caller}, 127.0.0.1, {caller_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{AET} {storage} RW (9, 1024mb) ANY\nAETable END\n"
    )
    with _running(["dcmqrscp", "-c", str(settings), "--prefer-uncompr"], port):
        yield DicomNode(port, storage)


@contextmanager
def receiver(directory: Path, options: Sequence[str] = ()) -> Iterator[DicomNode]:
    """Run dcmtk's storescp, which answers neither queries nor storage commitment."""
    storage, port = directory / "received", free_port()
    storage.mkdir(parents=True)
    with _running(["storescp", "-aet", AET, "-od", str(storage), *options, str(port)], port):
        yield DicomNode(port, storage)


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _listens(port, process), what=command[0])
        yield
    finally:
        process.kill()
        process.wait()


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the node ended"
    with suppress(OSError), create_connection(("127.0.0.1", port), 1):
        return True
    return False
