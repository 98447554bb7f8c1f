"""The wheel in an environment of its own: what a hospital installs runs without the checkout.

Packages come from the cache that `make setup` filled: the suite runs without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cases.realct import ROOT

UV = str(Path(sys.executable).with_name("uv"))


def run(*command: str, cwd: Path = ROOT) -> str:
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` folder of an environment that holds the pinned packages and the wheel, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--out-dir", str(folder), ".")
    (wheel,) = folder.glob("orthanc_enrichment-*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    python = str(folder / "venv" / "bin" / "python")
    pins = ("--require-hashes", "-r", "requirements/cpu.txt")
    run(UV, "pip", "install", "--quiet", "--offline", "--python", python, *pins)
    run(UV, "pip", "install", "--quiet", "--offline", "--python", python, "--no-deps", str(wheel))
    return folder / "venv" / "bin"


def test_wheel_enriches_a_phantom_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    enrich = str(installed / "orthanc-enrich")
    run(enrich, "phantom", "--out", str(tmp_path / "ct"), cwd=tmp_path)
    folders = (str(tmp_path / "ct"), "--out", str(tmp_path / "out"))
    (outcome,) = json.loads(run(enrich, "run", *folders, "--json", cwd=tmp_path))
    assert outcome["state"] == "done"
    assert {"lung_left", "lung_right", "airway", "bone"} <= set(outcome["volumes_ml"])
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 4


def test_wheel_carries_the_built_in_model(installed: Path, tmp_path: Path) -> None:
    verified = json.loads(run(str(installed / "orthanc-enrich"), "models", "verify", "--json", cwd=tmp_path))
    here = json.loads(run(sys.executable, "-m", "orthanc_plugin.cli", "models", "verify", "--json"))
    shipped = ("chest_structures", "head_neck_oar")  # no test model
    assert verified == {"verified": {name: here["verified"][name] for name in shipped}}
