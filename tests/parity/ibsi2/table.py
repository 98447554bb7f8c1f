"""Write the table of IBSI 2 into docs/radiomics-ibsi.md: `.parity/bin/python -m tests.parity.ibsi2.table`.

Each filter of phase 1 beside two other implementations, on a phantom made by formula and on noise. Where IBSI2_MAPS
names a folder with IBSI's phantoms and reference response maps, which cannot be shipped, they are compared too: the
repositories theibsi/data_sets (`ibsi_2_digital_phantom/nifti`) and theibsi/ibsi_2_reference_data
(`reference_response_maps`), in any folders below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from orthanc_plugin.domain.image_filters import parse_filter
from orthanc_plugin.radiomics.ibsi2.responses import response
from tests.parity.ibsi2.definitions import defined
from tests.parity.ibsi2.mirp_peer import mirp_response
from tests.parity.ibsi2.phase1 import SPACING_MM, TESTS, TOLERANCE, Floats, ResponseMap, phantoms
from tests.parity.marks import PAGE, with_part

VARIABLE = "IBSI2_MAPS"
NOT_COMPARED = "not compared"
BEGIN, END = "<!-- begin IBSI 2: written by tests/parity/ibsi2/table.py -->\n", "<!-- end IBSI 2 -->\n"
_ROUNDING = 1e-9
"""Differences below this are rounding, and differ between machines."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One response map; differences as shares of its range, nan where there is nothing to compare with."""

    test: ResponseMap
    definition: float
    mirp: float
    published: float

    @property
    def held(self) -> bool:
        """Whether no difference exceeds IBSI's tolerance."""
        return max(one for one in (self.definition, self.mirp, self.published) if not np.isnan(one)) <= TOLERANCE


def main() -> None:
    """Write the table of what can be compared here."""
    folder = os.environ.get(VARIABLE)
    part = table(compared(Path(folder) if folder else None))
    PAGE.write_text(with_part(PAGE.read_text(), part, BEGIN, END))


def compared(folder: Path | None = None, tests: Iterable[ResponseMap] = TESTS) -> list[Compared]:
    """Compare every response map."""
    images = phantoms()
    return [_compare(one, images, folder) for one in tests]


def _compare(test: ResponseMap, images: dict[str, Floats], folder: Path | None) -> Compared:
    shares = []
    for name in dict.fromkeys((test.phantom, "noise")):
        ours = _ours(test, images[name])
        other = defined(test.chosen, images[name])
        peer = _share(ours, mirp_response(images[name], test.mirp)) if test.mirp else float("nan")
        shares.append((_share(ours, other), peer))
    definition, mirp = np.max(shares, axis=0)
    return Compared(test, definition, mirp, _published(test, folder) if folder else float("nan"))


def _published(test: ResponseMap, folder: Path) -> float:
    """Compare with IBSI's map of IBSI's phantom; nan if the folder does not hold both."""
    names = (f"{test.theirs or test.phantom}*.nii*", f"{test.id.replace('.', '_')}-ValidCRM.nii*")
    files = [next(iter(sorted(folder.rglob(name))), None) for name in names]
    if None in files:
        return float("nan")
    image, published = (sitk.GetArrayFromImage(sitk.ReadImage(file)).astype(np.float64) for file in files)
    return _share(_ours(test, image), published)


def _ours(test: ResponseMap, image: Floats) -> Floats:
    return response(image, SPACING_MM, parse_filter(test.chosen))


def _share(ours: Floats, other: Floats) -> float:
    return float(np.abs(ours - other).max() / np.ptp(other))


def table(rows: Iterable[Compared]) -> str:
    """Return a count, and a row for each response map."""
    rows = list(rows)
    without = sum(np.isnan(one.mirp) for one in rows)
    lines = [
        f"{sum(one.held for one in rows)} of {len(rows)} response maps are held against every other implementation "
        f"({without} of them are not offered by MIRP); "
        f"{sum(not np.isnan(one.published) for one in rows)} were compared with IBSI's own.\n",
        "| test | filter | phantom, and noise | definition | MIRP 2.7.0 | tolerance | held | IBSI's map |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, rows),
    ]
    return "\n".join(lines) + "\n"


def _row(one: Compared) -> str:
    differences = [_shown(one.definition), "not offered" if np.isnan(one.mirp) else _shown(one.mirp)]
    held = "yes" if one.held else "**no**"
    published = NOT_COMPARED if np.isnan(one.published) else _shown(one.published)
    cells = (one.test.id, f"`{one.test.chosen}`", one.test.phantom, *differences, f"{TOLERANCE:g}", held, published)
    return f"| {' | '.join(cells)} |"


def _shown(share: float) -> str:
    return f"below {_ROUNDING:.0e}" if share < _ROUNDING else f"{share:.0e}"


if __name__ == "__main__":
    main()
