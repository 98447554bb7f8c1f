"""Memory of the nnU-Net engine: 118 classes at 512 x 512 x 1000 (class values at full size would be 115 GiB)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_GIB = 6.0
WORKER_GIB = 0.5
"""What a worker has loaded and this process has not: the engine of jobs, DICOM, radiomics."""


@pytest.mark.timeout(3600)
def test_118_classes_of_a_whole_body_stay_below_six_gib_and_near_the_estimate(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.nnunet_stub", str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    figures = json.loads(finished.stdout)
    peak, expected = figures["peak_gib"], figures["estimate_gib"]
    print(f"\n| 118-class stub, 512x512x1000 | {figures['seconds']:.0f} s | {peak:.1f} GiB | expected {expected:.1f} |")
    assert figures["segments"] > 90
    assert peak <= LIMIT_GIB
    assert peak <= expected <= 1.5 * peak + WORKER_GIB
