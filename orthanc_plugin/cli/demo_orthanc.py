"""The demo's Orthanc: a throw-away server with the plugin, a password made on the spot, and callers from here only.

Orthanc binds every interface (it has no option against that before 1.13), but refuses callers from elsewhere.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from rich.console import Console

from orthanc_plugin.errors import ConfigError, EnrichError

USER = "demo"
PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"), Path("/usr/local/share/orthanc/plugins"))
START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the parts of the demo answer."""

    orthanc: str
    service: str
    password: str

    def client(self) -> httpx.Client:
        """Return an HTTP client with the demo's login, for both servers."""
        return httpx.Client(auth=(USER, self.password), timeout=30, trust_env=False)


@contextmanager
def running_orthanc(directory: Path, section: Mapping[str, Any], messages: Console) -> Iterator[Servers]:
    """Start Orthanc with the plugin, and stop it at the end.

    Raises
    ------
    ConfigError
        If Orthanc or its plugins are not installed, or no port is free.
    EnrichError
        If the service does not start in time.
    """
    password = secrets.token_urlsafe(12)
    port = _free_port(8042)
    configuration = directory / "orthanc.json"
    configuration.touch(mode=0o600)
    configuration.write_text(json.dumps(_orthanc_configuration(directory, port, password, section), indent=2))
    log_path = directory / "orthanc.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([_orthanc_binary(), str(configuration)], stdout=log, stderr=log, cwd=directory)
    try:
        orthanc = f"http://127.0.0.1:{port}"
        service = _await_service(orthanc, password, process, log_path)
        messages.print(f"Orthanc answers at {orthanc}, the enrichment service at {service}", soft_wrap=True)
        yield Servers(orthanc, service, password)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _orthanc_binary() -> str:
    binary = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise ConfigError("Orthanc is not installed; on Debian: apt install orthanc orthanc-python orthanc-dicomweb")
    return binary


def _plugin_library(name: str) -> str:
    for folder in PLUGINS:
        if (folder / name).exists():
            return str(folder / name)
    raise ConfigError(f"Orthanc's {name} is not installed; on Debian: apt install orthanc-python orthanc-dicomweb")


def _orthanc_configuration(
    directory: Path, port: int, password: str, section: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    return {
        "Name": "Enrichment demo",
        "StorageDirectory": str(directory / "storage"),
        "IndexDirectory": str(directory / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: password},
        "StableAge": 2,
        "Plugins": [_plugin_library("libOrthancPython.so"), _plugin_library("libOrthancDicomWeb.so")],
        "PythonScript": str(Path(__file__).parents[1] / "edge" / "plugin.py"),
        "Python": {"AllowThreads": True},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "Enrichment": {
            "Service": {"Python": sys.executable, "Port": _free_port(8043)},
            "StateDirectory": str(directory / "state"),
            "StableAge": 1,
            "ReconcileSeconds": 5,
            "Archives": {"local": {"User": USER, "Password": password}},
            **section,
        },
    }


def _free_port(wanted: int) -> int:
    """Return the wanted port if it is free, otherwise any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))  # nosec B104 # noqa: S104 - Orthanc will bind all interfaces
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no free TCP port")


def _await_service(orthanc: str, password: str, process: subprocess.Popen[bytes], log_path: Path) -> str:
    """Return the URL of the service as soon as the plugin's status says that it runs."""
    deadline = time.monotonic() + START_TIMEOUT_S
    last = "Orthanc did not answer"
    with httpx.Client(auth=(USER, password), timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EnrichError(f"Orthanc ended with exit code {process.returncode}; see its log {log_path}")
            try:
                status = client.get(f"{orthanc}/enrichment/status").json()
            except (httpx.HTTPError, ValueError):
                time.sleep(0.2)
                continue
            if status.get("url"):
                return str(status["url"]).rstrip("/")
            last = str(status.get("error") or status.get("state") or last)
            time.sleep(0.2)
    raise EnrichError(f"the service did not start within {START_TIMEOUT_S} s ({last}); logs in {log_path.parent}")
