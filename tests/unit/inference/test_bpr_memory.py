"""Memory of body part regression does not grow with the number of slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.bpr.engine import BprEngine, Mode
from orthanc_plugin.inference.providers import Provider
from tests.support.cases import bpr_case


def peak_mib(engine: BprEngine, slices: int) -> float:
    """Peak beyond what is in use before; the slices of the volume share one slice's memory."""
    plane = np.random.default_rng(0).uniform(-1000, 1500, (512, 512)).astype(np.float32)
    volume = Volume(np.broadcast_to(plane, (slices, 512, 512)), (5.0, 0.8, 0.8), np.diag([0.8, 0.8, 5.0, 1.0]))
    Path("/proc/self/clear_refs").write_text("5")
    before = status_mib("VmRSS")
    engine.locate(volume)
    return status_mib("VmHWM") - before


def status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


@pytest.mark.parametrize("mode", Mode)
def test_memory_does_not_grow_with_slices(tmp_path: Path, mode: Mode) -> None:
    bpr_case.weighted(tmp_path / "bpr.onnx", np.full((128, 128), 1e-4), 50.0)
    model = bpr_case.bpr_model(size=128, pixel_mm=3.5)
    engine = BprEngine(bpr_case.card(tmp_path, model), Provider.CPU, mode)
    peak_mib(engine, 20)
    few, many = peak_mib(engine, 100), peak_mib(engine, 400)
    assert many - few < 4  # 300 slices, small, would be 19 MiB; large 300
    assert many < 40
