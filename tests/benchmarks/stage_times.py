"""What one real series takes of each process: the input of the simulator.

Usage: python -m tests.benchmarks.stage_times [--ct FOLDER] [--write] (`make scaling-figures`). One series goes the
whole way on PostgreSQL with the default rule, and a second one the same way with warm models; the second counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psutil
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.benchmarks.simulator import STAGES, Stages
from tests.support.cases.enriched import EnrichedOrthanc, files_of
from tests.support.machine import machine
from tests.support.servers.orthanc_server import ROOT, wait_until
from tests.support.servers.postgresql import postgresql

Answer = TypeVar("Answer")

IDLE_S = 20.0
"""Idle processes poll; what they spend on that is taken off."""
CT = ROOT.parent / "shared" / "data" / "lidc_0314_chest" / "dicom"


def measure(ct: Path) -> Stages:
    """Run the series twice; return what the second run took, less what idle processes spend."""
    with postgresql() as database, EnrichedOrthanc(section={"Database": database.url, "ReconcileSeconds": 300}) as site:
        site.await_service()
        server = int((database.directory / "data" / "postmaster.pid").read_text().split()[0])
        roots = {"archive_s": site.pid, "service_s": site.children()[0].pid, "database_s": server}
        _run(site, ct)
        _, idle, pause = _spent(roots, lambda: time.sleep(IDLE_S))
        seconds, busy, took = _spent(roots, lambda: _run(site, ct))
        spent = {name: round(max(0.0, busy[name] - idle[name] * took / pause), 3) for name in roots}
        source = f"{ct.parent.name}, default rule, {datetime.now(UTC).date()}, {machine()}"
        return Stages(source, worker_s=round(seconds, 1), **spent)


def _spent(roots: Mapping[str, int], what: Callable[[], Answer]) -> tuple[Answer, dict[str, float], float]:
    """Do something; return its answer, the CPU seconds of the processes meanwhile, and how long it took."""
    began, before = time.monotonic(), {name: _cpu_s(pid, name) for name, pid in roots.items()}
    answer = what()
    spent = {name: _cpu_s(pid, name) - before[name] for name, pid in roots.items()}
    return answer, spent, time.monotonic() - began


def _run(site: EnrichedOrthanc, ct: Path) -> float:
    """Send the series under new UIDs; return the seconds of all its stages together."""
    series, study = str(generate_uid()), str(generate_uid())
    for number, file in enumerate(files_of(ct)):
        ds = dcmread(file)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series[:56]}.{number}"
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
        ds.save_as(renamed := site.directory / "renamed.dcm")
        site.stow([renamed])
    row = site.await_final(series, within_s=1800)
    assert row["state"] == "done", row
    job = wait_until(lambda: site.api(f"jobs/{row['job_id']}"), 10, "the job")
    return float(sum(stage["seconds"] for stage in job["stages"]))


def _cpu_s(pid: int, name: str) -> float:
    """CPU seconds of a process; of a database with its connections, those that have ended included."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    spent = times.user + times.system
    if name == "database_s":
        spent += times.children_user + times.children_system
        for child in process.children():
            with suppress(psutil.NoSuchProcess):
                spent += sum(child.cpu_times()[:2])
    return float(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ct", type=Path, default=CT)
    parser.add_argument("--write", action="store_true", help="keep the times for the simulator")
    options = parser.parse_args()
    stages = measure(options.ct)
    text = json.dumps(asdict(stages), indent=1)
    print(text)
    if options.write:
        STAGES.write_text(text + "\n")


if __name__ == "__main__":
    main()
