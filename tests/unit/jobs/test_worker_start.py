"""What a worker does before it takes a job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.errors import ConfigError, EnrichError
from orthanc_plugin.jobs import worker
from orthanc_plugin.radiomics import reference


def test_the_libraries_of_radiomics_are_loaded_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bool] = []

    def taken(*_: object) -> None:
        raise EnrichError("taken")

    monkeypatch.setattr(os, "umask", lambda mode: mode)
    monkeypatch.setattr(worker, "be_nice", lambda: None)
    monkeypatch.setattr(worker, "load_pyradiomics", lambda: loaded.append(True))
    monkeypatch.setattr(worker, "lock_slot", taken)
    with pytest.raises(EnrichError, match="taken"):
        worker.run_worker(parse_section({"StateDirectory": str(tmp_path)}, {}), 0, parent_is_stdin=False)
    assert loaded == [True]


def test_a_measurement_loads_nothing_more() -> None:
    """An organ waits for no library once pyradiomics is loaded."""
    program = (
        "import sys; from tests.benchmarks.bench_radiomics import CLASSES, ORGANS, Organ, _ours\n"
        "import numpy as np; from orthanc_plugin.radiomics.reference import load_pyradiomics\n"
        "load_pyradiomics(); known = set(sys.modules)\n"
        "mask = np.zeros((9, 9, 9), bool); mask[2:7, 2:7, 2:7] = True\n"
        "voxels = np.random.default_rng(1).normal(40, 30, mask.shape).astype(np.float32)\n"
        "assert len(_ours(voxels, mask, CLASSES)) == 107\n"
        "print(sorted(set(sys.modules) - known))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_starts_without_pyradiomics(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ConfigError("not installed")

    monkeypatch.setattr(reference, "pyradiomics", missing)
    reference.load_pyradiomics()
