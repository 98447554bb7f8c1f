"""A real Orthanc for tests: Debian's binary and plugins in a temporary directory, on free loopback ports.

Orthanc 1.10.1 and 1.12.7 listen on every interface and have no setting for it, so the suite is meant to run inside
`scripts/in-loopback`. A server dies with the thread that started it (PR_SET_PDEATHSIG): start one from the main thread.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[3]
PLUGIN_SCRIPT = ROOT / "orthanc_plugin" / "edge" / "plugin.py"
PLUGIN_DIRECTORY = Path("/usr/share/orthanc/plugins")
PYTHON_PLUGIN = PLUGIN_DIRECTORY / "libOrthancPython.so"
DICOMWEB_PLUGIN = PLUGIN_DIRECTORY / "libOrthancDicomWeb.so"
USER, PASSWORD = "pacs", "pacs-test"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

_ports = random.SystemRandom()  # no two processes of tests draw the same, whatever seeds a test

Answer = TypeVar("Answer")


def missing_orthanc() -> str:
    """What of Debian's packages orthanc, orthanc-python and orthanc-dicomweb is not there; empty when all is."""
    absent = [path.name for path in (PYTHON_PLUGIN, DICOMWEB_PLUGIN) if not path.exists()]
    return ", ".join(absent if shutil.which("Orthanc", path=_search_path()) else ["Orthanc", *absent])


def free_port() -> int:
    """A loopback TCP port that nothing listens on now, below those that Linux gives to connections by itself.

    One of these could be taken by a connection of a neighbouring test before the server starts.
    """
    while True:
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", _ports.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something listens on a loopback TCP port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_until(condition: Callable[[], Answer], within_s: float = 30.0, what: str = "the condition") -> Answer:
    """Return the first true answer of `condition`; AssertionError when there is none within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s:.0f} s")
        time.sleep(0.05)
    return answer


class OrthancServer:
    """One Orthanc with DICOMweb; its data live in `directory` until `close`.

    Parameters
    ----------
    enrichment : mapping, optional
        The "Enrichment" section. May be set or changed before `start`, when `port` is known already.
    plugin : path, optional
        Python script that Orthanc loads, normally `PLUGIN_SCRIPT`.
    stable_age_s : int
        Orthanc's StableAge.
    dicom : bool
        Opens a DICOM port (`dicom_port`, AE title "ORTHANC") that accepts any caller.
    settings : mapping
        Further keys of orthanc.json; they win.
    environment : mapping
        Further environment variables of the Orthanc process.
    """

    def __init__(
        self,
        *,
        enrichment: Mapping[str, object] | None = None,
        plugin: Path | None = None,
        stable_age_s: int = 1,
        dicom: bool = False,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="orthanc-"))
        self.port = free_port()
        self.dicom_port = free_port() if dicom else 0
        self.url = f"http://127.0.0.1:{self.port}"
        self.dicomweb_url = f"{self.url}/dicom-web"
        self.user, self.password = USER, PASSWORD
        self.enrichment = dict(enrichment) if enrichment is not None else None
        self.plugin, self.stable_age_s = plugin, stable_age_s
        self.settings, self.environment = dict(settings or {}), dict(environment or {})
        self.client = httpx.Client(base_url=self.url, auth=(USER, PASSWORD), timeout=60, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """Process id of the running Orthanc."""
        assert self._process is not None, "Orthanc is not running"
        return self._process.pid

    def configuration(self) -> dict[str, object]:
        """Content of orthanc.json as the next `start` writes it."""
        plugins = [DICOMWEB_PLUGIN] if self.plugin is None else [DICOMWEB_PLUGIN, PYTHON_PLUGIN]
        content: dict[str, object] = {
            "Name": "Tests",
            "StorageDirectory": str(self.directory / "db"),
            "IndexDirectory": str(self.directory / "db"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {self.user: self.password},
            "StableAge": self.stable_age_s,
            "DicomServerEnabled": bool(self.dicom_port),
            "DicomPort": self.dicom_port or 4242,
            "DicomAet": "ORTHANC",
            "DicomAlwaysAllowStore": True,
            "Plugins": [str(path) for path in plugins],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "Python": {"AllowThreads": True},
        }
        if self.plugin is not None:
            content["PythonScript"] = str(self.plugin)
        if self.enrichment is not None:
            content["Enrichment"] = self.enrichment
        return content | self.settings

    def start(self) -> Self:
        """Start Orthanc and wait until it answers; AssertionError with the end of its log when it does not."""
        assert self._process is None, "Orthanc is running already"
        file = self.directory / "orthanc.json"
        file.write_text(json.dumps(self.configuration(), indent=1))
        with (self.directory / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "Orthanc", str(file)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": _search_path(), **self.environment},
            )
        wait_until(self._answers, START_TIMEOUT_S, "an answer of Orthanc")
        return self

    def stop(self) -> int:
        """Ask Orthanc to end (SIGTERM), wait for it, return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End Orthanc by SIGKILL, as a power cut or the out-of-memory killer would."""
        return self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start on the same data and ports."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Kill what runs and remove the data. Safe to call again."""
        if self._process is not None:
            self.kill()
        self.client.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.close)

    def rest(self, path: str, method: str = "GET", body: object = None) -> object:
        """Answer of the REST API as JSON (None when empty); httpx.HTTPStatusError when it is not 2xx."""
        answer = self.client.request(method, path, json=body) if body is not None else self.client.request(method, path)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def stow(self, files: Iterable[Path]) -> None:
        """Store DICOM files by one STOW-RS request."""
        boundary = "enrichment-test-boundary"
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        parts = b"".join(head + file.read_bytes() + b"\r\n" for file in files)
        self.client.post(
            "/dicom-web/studies",
            content=parts + f"--{boundary}--\r\n".encode(),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        ).raise_for_status()

    def log(self) -> str:
        """All that Orthanc and its plugins have written so far, over every start."""
        return (self.directory / "orthanc.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self) -> bool:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            self._process = None
            raise AssertionError(f"Orthanc ended with {code}:\n{self.log()[-4000:]}")
        try:
            return self.client.get("/system").status_code in (200, 401)
        except httpx.TransportError:
            return False

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None, "Orthanc is not running"
        self._process.send_signal(how)
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None


def _search_path() -> str:
    """PATH with the folders of system commands, which a developer's shell often lacks."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
