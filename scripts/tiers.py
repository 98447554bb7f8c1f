"""Run tiers of tests, print the minutes of each, and fail if any failed.

Usage: python -m scripts.tiers TIER... A tier is a folder below `tests`.

Tiers that mostly wait (for Orthanc, a job, a page) leave cores free. Those that compute run beside them at a lower
priority: they take what is left, and delay nothing that a test waits for. The output of a tier is printed when it
ends, so that the lines of two tiers do not mix.

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

WAITING = (("integration",), ("faults", "security", "browser"))
"""Each group runs one tier after the other, beside the other group. Browser tests go to the end: they are the most
sensitive to load, and by then most others are done."""

_NICE = ("nice", "-n", "10")
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


def command_of(tier: str) -> list[str]:
    """Give the command that runs a tier."""
    python = ".parity/bin/python" if tier.startswith("parity/") else ".venv/bin/python"
    command = [python, "-m", "pytest", f"tests/{tier}", "-q", "--dist", "loadfile"]
    command += ["-n", "0" if tier == "browser" else "auto"]  # two browsers would draw each other's pages late
    if tier == "parity":
        command += [word for folder in _OWN_FOLDERS for word in ("--ignore", f"tests/parity/{folder}")]
    if tier == "unit":
        command += ["--cov", "--cov-report="]
    return command if is_waiting(tier) else [*_NICE, *command, *_MORE_TIME]


def is_waiting(tier: str) -> bool:
    """Tell whether a tier mostly waits."""
    return any(tier in group for group in WAITING)


def lanes(tiers: Sequence[str]) -> list[list[str]]:
    """Tell which tiers run one after the other; the lanes run side by side."""
    computing = [tier for tier in tiers if not is_waiting(tier)]
    return [lane for lane in (computing, *([t for t in group if t in tiers] for group in WAITING)) if lane]


def run(tier: str) -> Ran:
    """Run a tier and print its output."""
    say(f"== {tier} begins")
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command_of(tier), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
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
    asked = parser.parse_args().tiers
    for file in (ROOT / ".coverage", *ROOT.glob(".coverage.*")):
        file.unlink(missing_ok=True)
    began = time.monotonic()
    rows = lanes(list(dict.fromkeys(asked)))
    with ThreadPoolExecutor(len(rows)) as pool:
        ran = [one for lane in pool.map(lambda row: [run(tier) for tier in row], rows) for one in lane]
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
