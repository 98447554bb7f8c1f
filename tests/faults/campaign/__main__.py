"""Run the campaign: `make faults`, or `python -m tests.faults.campaign [--only TEXT] [--reduced] [--write]`.

`--write` keeps the results in results.json and writes the table into docs/faults.md. Exit 1 if anything was lost,
doubled or left behind.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from tests.faults.campaign.cases import CASES
from tests.faults.campaign.table import Line, keep, table, write_page
from tests.support.machine import machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run only the cases whose name contains this text")
    parser.add_argument("--reduced", action="store_true", help="run the cases as .ci/run does")
    parser.add_argument("--write", action="store_true", help="keep the results and write docs/faults.md")
    options = parser.parse_args()
    lines = []
    for name, (full, reduced) in CASES.items():
        if options.only.lower() not in name.lower():
            continue
        began = time.monotonic()
        outcome = (reduced if options.reduced else full)()
        minutes = (time.monotonic() - began) / 60
        lines.append(Line.of(name, outcome, minutes, datetime.now(UTC).date().isoformat(), machine()))
        print(table(lines[-1:]), flush=True)
        if options.write:
            keep(lines[-1])
            write_page()
    return 1 if any(line.lost or line.doubled or line.orphans for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
