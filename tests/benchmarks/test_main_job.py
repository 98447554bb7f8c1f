"""Figures of the main job, as `make bench` prints them: the demo on the phantom and on real CT, with its limits.

Not part of `make test`: figures belong to a machine. The limits are those that were promised for 2 CPU cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases.realct import real_ct

MIB_PER_GIB = 1024


def demo(folder: Path | None, directory: Path) -> tuple[dict[str, Any], float]:
    """What the demo tells as JSON, and its wall seconds from start to exit."""
    ct = [str(folder)] if folder else []
    command = [
        sys.executable,
        "-m",
        "orthanc_plugin.cli",
        "demo",
        *ct,
        "--exit",
        "--json",
        "--directory",
        directory,
    ]
    started = time.monotonic()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    outcome: dict[str, Any] = json.loads(finished.stdout)
    return outcome, time.monotonic() - started


def told(outcome: dict[str, Any]) -> tuple[float, float, str]:
    """Seconds from decision to the end of the job, peak GiB of the worker, and the stages as text."""
    (job,) = outcome["jobs"].values()
    begin, end = (datetime.fromisoformat(job[key]) for key in ("created_at", "ended_at"))
    stages = ", ".join(f"{stage['name'].split()[0]} {stage['seconds']:.1f} s" for stage in job["stages"])
    peak_gib = max(stage["peak_mib"] for stage in job["stages"]) / MIB_PER_GIB
    return (end - begin).total_seconds(), peak_gib, stages


@pytest.mark.parametrize(
    ("name", "demo_limit_s", "job_limit_s", "limit_gib"),
    [("phantom", 60, 60, 4), ("cip_ct64", 60, 60, 4), ("lidc_0314_chest", 300, 240, 4)],
)
def test_main_job_keeps_its_limits(
    name: str, demo_limit_s: float, job_limit_s: float, limit_gib: float, tmp_path: Path
) -> None:
    folder = None if name == "phantom" else real_ct(f"{name}/dicom")
    outcome, wall_s = demo(folder, tmp_path / "demo")
    job_s, peak_gib, stages = told(outcome)
    print(f"\n| {name} | {wall_s:.0f} s | {job_s:.0f} s | {peak_gib:.1f} GiB | {stages} |")
    assert wall_s <= demo_limit_s
    assert job_s <= job_limit_s
    assert peak_gib <= limit_gib
