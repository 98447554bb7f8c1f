"""Seconds until OHIF shows a report of 116 structures: `python -m tests.benchmarks.long_report [--write]`.

Runs the browser test of long reports, each time with Orthanc and a browser of its own, and prints the quickest run:
what else the computer does can only make a run longer. `--write` writes it into docs/results.md (`make
bench-long-report WRITE=1`, on a quiet machine).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

from tests.browser.conftest import ARTEFACTS
from tests.browser.test_long_report import MOST_SECONDS, STRUCTURES, WHAT
from tests.parity.marks import with_part
from tests.support.cases.realct import ROOT

PAGE = ROOT / "docs/results.md"
BEGIN, END = "<!-- begin: written by tests/benchmarks/long_report.py -->\n", "<!-- end: long_report -->\n"


def main() -> int:
    """Run, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    text = sentence([seconds() for _ in range(arguments.runs)], os.getloadavg()[0])
    print(text)
    if arguments.write:
        PAGE.write_text(with_part(PAGE.read_text(), text, BEGIN, END))
    return 0


def seconds() -> float:
    """Run the browser test once; its failure ends the benchmark."""
    command = [sys.executable, "-m", "pytest", "tests/browser/test_long_report.py", "-q", "-n", "0"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return float(json.loads((ARTEFACTS / "seconds.json").read_text())[WHAT])


def sentence(runs: list[float], load: float) -> str:
    """Say how long it took, at how much load, and what the test allows."""
    count = "one run" if len(runs) == 1 else f"quickest of {len(runs)} runs"
    return (
        f"OHIF 3.13.2 shows a report of {STRUCTURES} structures with all features {min(runs):.1f} s after the click "
        f"({count}, load {load:.0f} on {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}). The browser test of long "
        f"reports fails beyond {MOST_SECONDS:.0f} s.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
