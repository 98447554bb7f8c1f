"""The demo: one CT pushed by STOW-RS to a throw-away Orthanc with the plugin, and what comes back.

It uses the parts as a hospital does: plugin, service, worker, DICOMweb.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
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
from orthanc_plugin.cli.demo_orthanc import USER, Servers, running_orthanc
from orthanc_plugin.cli.desk import outcome_code
from orthanc_plugin.domain.told_apart import told_apart
from orthanc_plugin.errors import ConfigError, StoreError, TransientError
from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.phantoms.thorax import make_thorax_phantom
from orthanc_plugin.service.viewer import OPEN

SILENCE_TIMEOUT_S = 900
BATCH = 50
FINAL_STATES = ("done", "skipped", "failed")
_KIND = 14
"""Width of the column that names a stored object."""


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
    """Run the demo; return 0 if at least one CT series of the folder is done and none failed, otherwise 1.

    Parameters
    ----------
    ct : Path or None
        Folder of CT files; None: a phantom, with organs if a model is shown.
    shown : ShownModel or None
        The model that runs; None: the default rule.
    models_directory : Path or None
        Folder of the operator's models. Its `bpr` locates a CT; the project's stand-in locates a phantom.

    Raises
    ------
    ConfigError
        If Orthanc or its plugins are not installed, the folder holds no CT, or torch is missing to convert the model.
    ModelError
        If there is no such model, or it cannot be converted.
    """
    messages = Console(stderr=True, highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # both stop Orthanc too; shells hide SIGINT from background jobs
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
    with running_orthanc(directory, section, messages) as servers:
        started = time.monotonic()
        _send(sent, servers, messages)
        decisions = _await_decisions(series_uids, datetime.now(UTC), servers, messages)
        outcome = _outcome(decisions, servers, time.monotonic() - started)
        if json_output:
            console.print_json(json.dumps(outcome))
        else:
            _show(outcome, servers, console)
        if stay:
            _stay(outcome, servers, messages)
    return outcome_code([decision["state"] for decision in decisions])


def _fresh(directory: Path) -> Path:
    """Return an empty demo directory; empty it only if a demo made it."""
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
        raise ConfigError(f"{folder} is not a folder; give one that holds the files of a CT")
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
    """Return the series to wait for: other objects, such as a report beside the CT, get no decision."""
    found = {str(ds.SeriesInstanceUID) for _, ds in sent if ds.get("Modality") == "CT"}
    if not found:
        raise ConfigError(f"{folder} holds no CT series")
    return found


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


def _await_decisions(
    series_uids: set[str], sent_at: datetime, servers: Servers, messages: Console
) -> list[dict[str, Any]]:
    """Return the ledger's rows of the series that were sent, as soon as each is final.

    A slow upload may make a series look stable before its last slice: decisions before `sent_at` do not count.
    """
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    changed, last = time.monotonic(), ""
    with servers.client() as client, Progress(*columns, console=messages) as progress:
        task = progress.add_task("waiting for the series to be stable", total=None)
        while time.monotonic() - changed < SILENCE_TIMEOUT_S:
            rows = [
                row
                for row in _latest(client, servers)
                if row["series_instance_uid"] in series_uids and datetime.fromisoformat(row["first_seen"]) >= sent_at
            ]
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
    """Return the ledger's rows of series as they are now.

    A slow disk may make a series look stable before its last slice, and the first row is then superseded.
    """
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
    """Collect what the table shows: decisions, their jobs, and the seconds from the first byte to the last object."""
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
            link = _viewer_link(servers.service, study, stored["series_instance_uid"])
            console.print(f"  {stored['kind']:<{_KIND}} {link}", soft_wrap=True)
        if job and job["location"]:
            console.print(f"  {'scores':<{_KIND}} {servers.service}/enrichment/jobs/{job['id']}", soft_wrap=True)
    console.print(f"\n{outcome['seconds']} s from the first byte sent to the last object stored.")
    console.print("Made by software, not verified, research use only. Not for diagnosis.\n")
    console.print(f"Orthanc    {servers.orthanc}/app/explorer.html")
    console.print(f"Dashboard  {servers.service}/enrichment/")


def _show_job(job: dict[str, Any], console: Console) -> None:
    volumes = Table("structure", "mL")
    stages = Table("stage", "seconds", "peak MiB")
    notes: list[str] = []
    found: list[tuple[str, str, float]] = []
    for stage in job["stages"]:
        stages.add_row(stage["name"], f"{stage['seconds']:.1f}", f"{stage['peak_mib']:.0f}")
        model = stage["name"].partition(" ")[2]
        found += [(key, model, volume_ml) for key, volume_ml in stage["volumes_ml"].items()]
        notes += stage["notes"]
    for name, (_, _, volume_ml) in zip(told_apart([(key, model) for key, model, _ in found]), found, strict=True):
        volumes.add_row(name, f"{volume_ml:.1f}")
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


def _stay(outcome: dict[str, Any], servers: Servers, messages: Console) -> None:
    messages.print(f"\nLog in as {USER} with the password {servers.password}. Ctrl-C ends the demo.")
    for line in _invitation(outcome["series"], servers):
        messages.print(line, soft_wrap=True, markup=False, highlight=False)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        messages.print("Stopping.")


def _invitation(decisions: list[dict[str, Any]], servers: Servers) -> tuple[str, str]:
    """Say what to open: the first CT that is done, or the dashboard; the link logs the browser in."""
    logged_in = servers.service.replace("://", f"://{USER}:{servers.password}@", 1)
    done = next((row for row in decisions if row["state"] == "done"), None)
    if done is None:
        return "Open the dashboard:", f"{logged_in}/enrichment/"
    link = _viewer_link("", done["study_instance_uid"], done["series_instance_uid"])
    with servers.client() as client:
        answer = client.get(f"{servers.service}{link}", follow_redirects=False)
    if answer.is_redirect:
        return "Open the CT with its structures:", f"{logged_in}{link}"
    return f"Open the dashboard ({answer.json()['error']['message']}):", f"{logged_in}/enrichment/"


def _viewer_link(service: str, study_uid: str, series_uid: str) -> str:
    return f"{service}{OPEN}?StudyInstanceUID={study_uid}&SeriesInstanceUID={series_uid}"
