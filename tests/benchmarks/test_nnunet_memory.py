"""Memory of the nnU-Net engine: 118 classes at 512 x 512 x 600 (class values at full size would be 69 GiB)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_GIB = 6.0


@pytest.mark.timeout(1800)
def test_118_classes_of_a_large_ct_stay_below_six_gib(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.nnunet_stub", str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    figures = json.loads(finished.stdout)
    print(f"\n| 118-class stub, 512x512x600 | {figures['seconds']:.0f} s | {figures['peak_gib']:.1f} GiB |")
    assert figures["segments"] > 90
    assert figures["peak_gib"] <= LIMIT_GIB
