"""Write what the check of CT values says of real series and of faults into docs/geometry.md.

Usage: python -m scripts.plausibility_table [--data DIR]. It replaces the block between the two marks and needs the real
CT series (tests/support/cases/realct.py); it takes some minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from orthanc_plugin.errors import InputError
from orthanc_plugin.series.plausibility import check_plausible, figures_of
from tests.support.cases import hu_faults
from tests.support.cases.hu_faults import FITTED, HARMLESS, HELD_OUT, SERIES, Fault, Values

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "geometry.md"
BEGIN, END = "<!-- plausibility: written by scripts/plausibility_table.py -->", "<!-- end of plausibility -->"
UNCHANGED_SHARE = 1e-4
"""A fault that alters fewer voxels of a series is not there: a wrap of bone where there is no dense bone."""

Slices = list[Values]


def series_of(data: Path) -> dict[str, Slices]:
    """Read the real series and make the phantoms."""
    found = {name: hu_faults.stored_values(data / name, 8) for name in SERIES}
    return found | {name: [plane.ravel() for plane in hu[::2]] for name, hu in hu_faults.phantoms().items()}


def patients_of(data: Path) -> dict[str, Slices]:
    """Read the planning CT, every sixth slice."""
    return {name: [plane.ravel() for plane in hu[::6]] for name, hu in hu_faults.planning_ct(data / "open_kbp")}


def outcome(slices: Slices) -> str:
    """Check a volume: refused, noted or passed."""
    try:
        return "noted" if check_plausible(slices) else "passed"
    except InputError:
        return "refused"


def outcomes(series: Mapping[str, Slices], fault: Fault) -> Iterator[str]:
    """Check each series with a fault in it; series that the fault does not alter are left out."""
    for slices in series.values():
        changed = [np.asarray(fault(plane), np.float32) for plane in slices]
        if np.mean([np.mean(a != b) for a, b in zip(changed, slices, strict=True)]) >= UNCHANGED_SHARE:
            yield outcome(changed)


def counts(found: list[str]) -> tuple[str, ...]:
    """Count outcomes as cells of a table."""
    return tuple(str(found.count(kind)) for kind in ("refused", "noted", "passed"))


def block(data: Path) -> str:
    """Return the tables."""
    series, patients = series_of(data), patients_of(data)
    lines = [BEGIN, "", "| series | air and fat % | body % | fat and soft tissue of the body % | offset HU | outcome |"]
    lines.append("|---|---|---|---|---|---|")
    for name, slices in series.items():
        f = figures_of(np.concatenate(slices))
        shares = f"{f.low_share:.0%} | {f.body_share:.0%} | {f.soft_share:.0%}".replace("%", "")
        lines.append(f"| {name} | {shares} | {f.offset_hu} | {outcome(slices)} |")
    plain = [outcome(slices) for slices in patients.values()]
    lines += [f"| open_kbp, {len(plain)} heads and necks | | | | | {plain.count('passed')} passed |", ""]
    titles = {
        "fault that the limits were chosen with": FITTED,
        "fault that they were not chosen with": HELD_OUT,
        "harmless": HARMLESS,
    }
    for title, faults in titles.items():
        lines += [f"| {title} | refused | noted | passed | open_kbp: refused | noted | passed |"]
        lines += ["|---|---|---|---|---|---|---|"]
        some = patients if faults is HARMLESS else dict(list(patients.items())[::9])
        for name, fault in faults.items():
            cells = counts(list(outcomes(series, fault))) + counts(list(outcomes(some, fault)))
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, END])


def main() -> None:
    """Replace the block of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + block(parser.parse_args().data) + after)


if __name__ == "__main__":
    main()
