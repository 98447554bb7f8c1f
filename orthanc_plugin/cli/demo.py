"""The demo: a throw-away Orthanc with the plugin, one CT pushed by STOW-RS, and what comes back.

It uses the parts as a hospital would (plugin, service, worker, DICOMweb) with a password made on the spot. Orthanc
binds every interface (it has no option against that before 1.13), but refuses callers from elsewhere.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
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
import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from requests.exceptions import HTTPError
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, track
from rich.table import Table

from orthanc_plugin.cli.demo_model import ShownModel, section_of, with_locator
from orthanc_plugin.errors import ConfigError, EnrichError, StoreError, TransientError
from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.phantoms.thorax import make_thorax_phantom

logger = logging.getLogger(__name__)

USER = "demo"
PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"), Path("/usr/local/share/orthanc/plugins"))
START_TIMEOUT_S = 60
SILENCE_TIMEOUT_S = 900
BATCH = 50
FINAL_STATES = ("done", "skipped", "failed")
_KIND = 14
"""Width of the column that names a stored object."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the demo's parts answer."""

    orthanc: str
    service: str
    password: str

    def client(self) -> httpx.Client:
        """HTTP client with the demo's login, for both servers."""
        return httpx.Client(auth=(USER, self.password), timeout=30, trust_env=False)


def run_demo(
    ct: Path | None,
    *,
    directory: Path,
    stay: bool,
    json_output: bool,
    console: Console,
    shown: ShownModel | None = None,
    models_directory: Path | None = None,
) -> int:
    """Run the demo; returns 0 if every CT series of the folder ended `done` or was skipped and at least one is done.

    Parameters
    ----------
    ct : Path or None
        Folder of CT files; None: a phantom, with organs where a model is shown.
    shown : ShownModel or None
        The model that runs; None: the default rule.
    models_directory : Path or None
        Where the operator's models lie: a CT is located by the `bpr` in it, a phantom by the project's stand-in.

    Raises
    ------
    ConfigError
        If Orthanc or its plugins are not installed, the folder holds no CT, or the model needs torch to be converted.
    ModelError
        If there is no such model, or it cannot be converted.
    """
    messages = Console(stderr=True, highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # both end Orthanc too; shells hide SIGINT from background jobs
        signal.signal(number, signal.default_int_handler)
    directory = _fresh(directory)
    section = section_of(shown, directory, messages) if shown else {}
    section = with_locator(section, directory, models_directory, phantom=ct is None)
    if ct is None:
        messages.print("No CT was given (make demo CT=folder): a procedural phantom stands in for a patient.")
        ct = directory / "phantom"
        write_phantom(ct, make_thorax_phantom() if shown else make_phantom())
    sent = list(_dicom_files(ct))
    series_uids = _ct_series(sent, ct)
    with _orthanc(directory, section, messages) as servers:
        started = time.monotonic()
        _send(sent, servers, messages)
        decisions = _await_decisions(series_uids, servers, messages)
        outcome = _outcome(decisions, servers, time.monotonic() - started)
        if json_output:
            console.print_json(json.dumps(outcome))
        else:
            _show(outcome, servers, console)
        if stay:
            _stay(servers, messages)
    states = [decision["state"] for decision in decisions]
    return 0 if "done" in states and "failed" not in states else 1


def _fresh(directory: Path) -> Path:
    """An empty demo directory; only one that a demo made is emptied."""
    marker = directory / "made-by-orthanc-enrich-demo"
    if directory.exists():
        if any(directory.iterdir()) and not marker.exists():
            raise ConfigError(f"{directory} exists and no demo made it; name another with --directory")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, mode=0o700)
    marker.touch()
    return directory.resolve()


def _dicom_files(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give one that holds the files of a CT")
    found = False
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            ds = dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if ds.get("SeriesInstanceUID") and ds.get("SOPInstanceUID"):
            found = True
            yield path, ds
    if not found:
        raise ConfigError(f"{folder} holds no DICOM file with a SeriesInstanceUID")


def _ct_series(sent: list[tuple[Path, Dataset]], folder: Path) -> set[str]:
    """The series to wait for: objects made of images, such as a report beside the CT, get no decision."""
    found = {str(ds.SeriesInstanceUID) for _, ds in sent if ds.get("Modality") == "CT"}
    if not found:
        raise ConfigError(f"{folder} holds no CT series")
    return found


@contextmanager
def _orthanc(directory: Path, section: Mapping[str, Any], messages: Console) -> Iterator[Servers]:
    """Orthanc with the plugin, stopped at the end."""
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
            "Archives": {
                "local": {
                    "Url": f"http://127.0.0.1:{port}/dicom-web",
                    "OrthancUrl": f"http://127.0.0.1:{port}",
                    "User": USER,
                    "Password": password,
                }
            },
            **section,
        },
    }


def _free_port(wanted: int) -> int:
    """The wanted port if it is free, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - Orthanc will bind all interfaces: ask for the same
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no free TCP port")


def _await_service(orthanc: str, password: str, process: subprocess.Popen[bytes], log_path: Path) -> str:
    """URL of the service, once the plugin's status says that it runs."""
    deadline = time.monotonic() + START_TIMEOUT_S
    last = "Orthanc did not answer"
    with httpx.Client(auth=(USER, password), timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EnrichError(f"Orthanc ended with {process.returncode}; its log: {log_path}")
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


def _send(sent: list[tuple[Path, Dataset]], servers: Servers, messages: Console) -> None:
    """Push the files by STOW-RS, some at a time."""
    session = requests.Session()
    session.trust_env, session.auth = False, (USER, servers.password)
    client = DICOMwebClient(f"{servers.orthanc}/dicom-web", session=session)
    batches = [sent[start : start + BATCH] for start in range(0, len(sent), BATCH)]
    for batch in track(batches, f"sending {len(sent)} files", console=messages):
        try:
            client.store_instances([dcmread(path) for path, _ in batch])
        except HTTPError as error:
            raise StoreError(f"Orthanc refused the CT: {error}") from None


def _await_decisions(series_uids: set[str], servers: Servers, messages: Console) -> list[dict[str, Any]]:
    """The ledger's rows of the series that were sent, once each is final."""
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    changed, last = time.monotonic(), ""
    with servers.client() as client, Progress(*columns, console=messages) as progress:
        task = progress.add_task("waiting for the series to be stable", total=None)
        while time.monotonic() - changed < SILENCE_TIMEOUT_S:
            rows = [row for row in _latest(client, servers) if row["series_instance_uid"] in series_uids]
            if {row["series_instance_uid"] for row in rows} == series_uids and all(
                row["state"] in FINAL_STATES for row in rows
            ):
                return rows
            now = _progress_text(client, servers, rows)
            if now != last:
                changed, last = time.monotonic(), now
                progress.update(task, description=now)
            time.sleep(0.3)
    raise TransientError(f"nothing happened for {SILENCE_TIMEOUT_S} s; see the logs in the demo directory")


def _latest(client: httpx.Client, servers: Servers) -> list[dict[str, Any]]:
    """The ledger's rows of series as they are now: a slow disk may make a series look stable before its last slice."""
    rows = _api(client, servers, "series?limit=500")["series"]
    return [row for row in rows if not row["superseded_by"]]


def _api(client: httpx.Client, servers: Servers, path: str) -> dict[str, Any]:
    response = client.get(f"{servers.service}/enrichment/api/v1/{path}")
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def _progress_text(client: httpx.Client, servers: Servers, rows: list[dict[str, Any]]) -> str:
    running = [row["job_id"] for row in rows if row.get("job_id") and row["state"] not in FINAL_STATES]
    if not running:
        return "waiting for the series to be stable"
    job = _api(client, servers, f"jobs/{running[0]}")
    return f"{job['state']} {job['stage']}".rstrip()


def _outcome(decisions: list[dict[str, Any]], servers: Servers, seconds: float) -> dict[str, Any]:
    """Everything the table shows: decisions, their jobs, and the demo's seconds from first byte to last object."""
    with servers.client() as client:
        jobs = {row["job_id"]: _api(client, servers, f"jobs/{row['job_id']}") for row in decisions if row.get("job_id")}
        studies = {row["study_instance_uid"]: "" for row in decisions}
        for study in studies:
            found = client.post(f"{servers.orthanc}/tools/lookup", content=study).json()
            studies[study] = next((item["ID"] for item in found if item["Type"] == "Study"), "")
    return {"seconds": round(seconds, 1), "series": decisions, "jobs": jobs, "studies": studies}


def _show(outcome: dict[str, Any], servers: Servers, console: Console) -> None:
    for row in outcome["series"]:
        console.print(f"\nseries {row['series_instance_uid']}: [bold]{row['state']}[/bold] {row['reason']}".rstrip())
        if row["detail"]:
            console.print(f"  {row['detail']}", soft_wrap=True)
        job = outcome["jobs"].get(row.get("job_id"))
        if job:
            _show_job(job, console)
        study = row["study_instance_uid"]
        console.print(
            f"  {'study':<{_KIND}} {servers.orthanc}/app/explorer.html#study?uuid={outcome['studies'][study]}"
        )
        for stored in job["objects"] if job else ():
            link = f"{servers.orthanc}/dicom-web/studies/{study}/series/{stored['series_instance_uid']}"
            console.print(f"  {stored['kind']:<{_KIND}} {link}", soft_wrap=True)
        if job and job["location"]:
            console.print(f"  {'scores':<{_KIND}} {servers.service}/enrichment/jobs/{job['id']}", soft_wrap=True)
    console.print(f"\n{outcome['seconds']} s from the first byte sent to the last object stored.")
    console.print("AI made, unverified, research use only. Not for diagnosis.\n")
    console.print(f"Orthanc    {servers.orthanc}/app/explorer.html")
    console.print(f"Dashboard  {servers.service}/enrichment/")


def _show_job(job: dict[str, Any], console: Console) -> None:
    volumes = Table("structure", "mL")
    stages = Table("stage", "seconds", "peak MiB")
    notes: list[str] = []
    for stage in job["stages"]:
        stages.add_row(stage["name"], f"{stage['seconds']:.1f}", f"{stage['peak_mib']:.0f}")
        for key, volume_ml in stage["volumes_ml"].items():
            volumes.add_row(key, f"{volume_ml:.1f}")
        notes += stage["notes"]
    console.print(volumes)
    console.print(stages)
    if job["location"]:
        _show_location(job["location"], console)
    for note in dict.fromkeys(notes):
        console.print(f"  note: {note}")
    if job.get("error"):
        console.print(f"  [red]{escape(job['error'])}[/red]")


def _show_location(location: dict[str, Any], console: Console) -> None:
    table = Table("where in the body", "")
    if location["reason"]:
        table.add_row("no valid region", location["reason"])
    else:
        table.add_row("body part", location["tag"])
        table.add_row("slice spacing", "fits the scores" if location["valid_spacing"] else "doubtful")
        for region, part in location["coverage"].items():
            if part:
                table.add_row(f"{region} in the scan", f"{part:.0%}")
        table.add_row("landmarks", str(len(location["landmarks"])))
    console.print(table)


def _stay(servers: Servers, messages: Console) -> None:
    messages.print(f"\nLog in as {USER} with the password {servers.password}. Ctrl-C ends the demo.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        messages.print("Stopping.")
