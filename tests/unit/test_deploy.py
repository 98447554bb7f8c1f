"""The files of deploy/: units for systemd, and objects for Kubernetes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cases.realct import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
WORST = 14
"""Tenths, as `systemd-analyze security --threshold` takes them; docs/operations/systemd.md states the figure."""


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    if shutil.which("systemd-analyze") is None:
        assert "CI" not in os.environ, "systemd is part of Debian"
        pytest.skip("systemd is not installed")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_as_tight_as_the_docs_say(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={WORST}", str(unit))
    assert done.returncode == 0, done.stdout
    page = (ROOT / "docs" / "operations" / "systemd.md").read_text()
    assert f"rates both units {WORST / 10}" in page


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_valid(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name.replace("@", "@0")
    copy.write_text(re.sub("^ExecStart=.*", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    done = analyze("verify", str(copy))
    ours = [line for line in done.stderr.splitlines() if unit.name.partition("@")[0] in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_no_password_is_in_a_unit(unit: Path) -> None:
    assert not re.search("^Environment=.*(PASSWORD|SECRET|TOKEN)", unit.read_text(), re.MULTILINE)
