"""Compare two results of the suite: `make bench-compare A=old.json B=new.json`.

Prints both ratios of each stage to its peer. The exit status is 1 if one is more than 30 % lower in B, or missing.
Ratios can be compared between machines, seconds cannot.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

WORST = 0.7


def worse(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """List what is missing after, or has less than 0.7 of its ratio before."""
    return [name for name, ratio in before.items() if after.get(name, 0.0) < WORST * ratio]


def main(arguments: list[str]) -> int:
    """Compare two files; return the exit status."""
    before, after = (json.loads(Path(name).read_text()) for name in arguments)
    bad = worse(before["ratios"], after["ratios"])
    for side, result in (("A", before), ("B", after)):
        print(f"{side}: {result['commit'][:12]}, {result['at']}, {result['machine']}")
    for name, ratio in before["ratios"].items():
        found = after["ratios"].get(name)
        told = "missing" if found is None else f"{found:.2f}"
        print(f"{name}: {ratio:.2f} -> {told}{'  WORSE' if name in bad else ''}")
    for name in after["ratios"].keys() - before["ratios"].keys():
        print(f"{name}: new, {after['ratios'][name]:.2f}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
