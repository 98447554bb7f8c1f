"""`make test` runs tiers that wait beside tiers that compute, and tells of each."""

from __future__ import annotations

import re
import subprocess

import pytest

from scripts import tiers
from tests.support.cases.realct import ROOT


def default_tiers() -> list[str]:
    (line,) = re.findall(r"^TIERS \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return line.split()


def test_every_tier_runs_once() -> None:
    asked = default_tiers()
    lanes = tiers.lanes(asked)
    assert sorted(tier for lane, _ in lanes for tier in lane) == sorted(asked)
    assert set(asked) >= tiers.tiers_here() - {"benchmarks", "trixie"}
    assert tiers.lanes(["unit"]) == [(["unit"], 10)]


def test_what_computes_gives_way_to_what_waits() -> None:
    niceness = {tier: nice for lane, nice in tiers.lanes(default_tiers()) for tier in lane}
    assert niceness["browser"] < niceness["integration"] < niceness["unit"] == niceness["parity/nnunet"]
    assert tiers.command_of("unit", 10)[:3] == ["nice", "-n", "10"]
    assert "timeout=900" in tiers.command_of("unit", 10)
    assert "timeout=900" not in tiers.command_of("integration", 5)


def test_tiers_run_as_they_need() -> None:
    assert "--cov" in tiers.command_of("unit")
    assert tiers.command_of("browser")[-2:] == ["-n", "0"]
    assert ".parity/bin/python" in tiers.command_of("parity/nnunet")
    assert "tests/parity/nnunet" in tiers.command_of("parity")  # left out there


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tiers that ran; that of `faults` fails."""
    seen = list[str]()

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        tier = next((word for word in command if word.startswith("tests/")), "")
        seen.append(tier)
        return subprocess.CompletedProcess(command, int(tier == "tests/faults"), "91")

    monkeypatch.setattr(tiers.subprocess, "run", run)
    return seen


@pytest.mark.parametrize("serial", [[], ["--serial"]])
@pytest.mark.parametrize(("asked", "status"), [(["unit", "security"], 0), (["unit", "faults", "security"], 1)])
def test_one_tier_that_fails_fails_the_run_and_stops_no_other(
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: list[str],
    status: int,
    serial: list[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["tiers", *serial, *asked])
    monkeypatch.setattr(tiers, "ROOT", ROOT / "tests" / "support")  # keeps the coverage of this run
    monkeypatch.setattr(tiers, "tiers_here", lambda: {*asked})
    assert tiers.main() == status
    assert {f"tests/{tier}" for tier in asked} <= set(ran)
    told = capsys.readouterr().out
    assert re.search(r"unit +0 min 00 s   coverage 91 %", told)
    assert ("failed tiers: faults" in told) == bool(status)
