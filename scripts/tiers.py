"""Run tiers of tests, print the minutes of each, and fail if any failed.

Usage: python -m scripts.tiers [--serial] TIER... A tier is a folder below `tests`.

Tiers that mostly wait (for Orthanc, a job, a page) leave cores free. So tiers run in lanes, side by side, and `nice`
says who goes first: tests that break where something comes late, then those that wait long enough, then those that
only compute, which take what is left. The output of a tier is printed when it ends, so that lines do not mix.
`--serial` runs one tier after the other.

Tests against the original frameworks have an environment of their own. Coverage is measured over the unit tier, which
has to reach the floor that pyproject.toml states.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.support.cases.realct import ROOT

LANES = {("faults", "security", "browser"): 0, ("integration",): 5}
"""The niceness of each. Browser tests come last: they are the most sensitive to load, and by then less is left."""
COMPUTING = 10
"""The niceness of the lane with all other tiers."""

_OWN_FOLDERS = ("nnunet", "bpr", "ibsi2")
_MORE_TIME = ("-o", "timeout=900")
"""A test that computes may have to wait for a core; the limit is there to end what hangs."""

_speaking = threading.Lock()


@dataclass(frozen=True, slots=True)
class Ran:
    """A tier that ran."""

    tier: str
    passed: bool
    seconds: float


def command_of(tier: str, niceness: int = 0) -> list[str]:
    """Give the command that runs a tier."""
    python = ".parity/bin/python" if tier.startswith("parity/") else ".venv/bin/python"
    command = ["nice", "-n", str(niceness), python, "-m", "pytest", f"tests/{tier}", "-q", "--dist", "loadfile"]
    command += ["-n", "0" if tier == "browser" else "auto"]  # two browsers would draw each other's pages late
    if tier == "parity":
        command += [word for folder in _OWN_FOLDERS for word in ("--ignore", f"tests/parity/{folder}")]
    if tier == "unit":
        command += ["--cov", "--cov-report="]
    return [*command, *_MORE_TIME] if niceness == COMPUTING else command


def lanes(tiers: Sequence[str]) -> list[tuple[list[str], int]]:
    """Tell which tiers run one after the other, and their niceness; the lanes run side by side."""
    waiting = [tier for lane in LANES for tier in lane]
    found = [([tier for tier in lane if tier in tiers], niceness) for lane, niceness in LANES.items()]
    found += [([tier for tier in tiers if tier not in waiting], COMPUTING)]
    return [(lane, niceness) for lane, niceness in found if lane]


def run_lane(lane: tuple[Sequence[str], int]) -> list[Ran]:
    """Run the tiers of a lane, one after the other."""
    tiers, niceness = lane
    return [run(tier, niceness) for tier in tiers]


def run(tier: str, niceness: int) -> Ran:
    """Run a tier and print its output."""
    say(f"== {tier} begins")
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command_of(tier, niceness), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        output.seek(0)
        text = output.read().decode(errors="replace")
    seconds = time.monotonic() - began
    say(f"== {tier}\n{text}")
    return Ran(tier, done.returncode == 0, seconds)


def coverage() -> str:
    """Give the coverage of the unit tier in percent."""
    command = [".venv/bin/coverage", "report", "--format=total", "--fail-under=0"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def say(text: str) -> None:
    """Print whole lines, at once."""
    with _speaking:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def table(ran: Iterable[Ran], percent: str) -> str:
    """Give the minutes of each tier."""
    notes = {"unit": f"   coverage {percent} %"}
    return "\n".join(
        f"{one.tier:14} {int(one.seconds) // 60:3} min {int(one.seconds) % 60:02} s{notes.get(one.tier, '')}"
        for one in ran
    )


def main() -> int:
    """Run the tiers that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiers", nargs="+", choices=sorted(tiers_here()))
    parser.add_argument("--serial", action="store_true", help="one tier after the other")
    options = parser.parse_args()
    asked = list(dict.fromkeys(options.tiers))
    for file in (ROOT / ".coverage", *ROOT.glob(".coverage.*")):
        file.unlink(missing_ok=True)
    began = time.monotonic()
    side_by_side = [(asked, 0)] if options.serial else lanes(asked)
    with ThreadPoolExecutor(len(side_by_side)) as pool:
        ran = [one for lane in pool.map(run_lane, side_by_side) for one in lane]
    say(f"\nminutes per tier\n{table(ran, coverage() if 'unit' in asked else '')}")
    say(table([Ran("all", True, time.monotonic() - began)], ""))
    if failed := [one.tier for one in ran if not one.passed]:
        say(f"failed tiers: {' '.join(failed)}")
    return 1 if failed else 0


def tiers_here() -> set[str]:
    """Name the folders of tests that are tiers."""
    folders = {folder.name for folder in (ROOT / "tests").iterdir() if any(folder.glob("**/test_*.py"))}
    return folders | {f"parity/{folder}" for folder in _OWN_FOLDERS}


if __name__ == "__main__":
    raise SystemExit(main())
