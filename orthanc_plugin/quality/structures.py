"""What is known of structures by their codes: which are one piece, which volumes adults have, which make up a lung.

The table (structures.csv) holds what was published; the range that is asked for is wider by a factor, since a check is
to find masks that are wrong and not organs that are ill. docs/quality.md names the sources and lists every row.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from orthanc_plugin.codes import BILATERAL, LEFT, LUNG, RIGHT
from orthanc_plugin.domain.masks import Segment

_TABLE = Path(__file__).with_name("structures.csv")
_SIDES = {LEFT.value: "one", RIGHT.value: "one", BILATERAL.value: "both"}

ENTIRE_BODY = "38266002"
HEART = "80891009"
UPPER_LOBE, LOWER_LOBE, MIDDLE_LOBE = "45653009", "90572001", "72481006"
"""SCT codes; the middle lobe is of the right lung and carries no modifier."""

Kind = tuple[str, str]
"""Type and laterality, as SCT codes; an empty laterality where the segment has none."""

LUNGS: Mapping[Kind, frozenset[Kind]] = MappingProxyType(
    {
        (LUNG.value, LEFT.value): frozenset({(UPPER_LOBE, LEFT.value), (LOWER_LOBE, LEFT.value)}),
        (LUNG.value, RIGHT.value): frozenset({(UPPER_LOBE, RIGHT.value), (MIDDLE_LOBE, ""), (LOWER_LOBE, RIGHT.value)}),
    }
)
"""The lobes of each lung."""


@dataclass(frozen=True, slots=True)
class VolumeRange:
    """Volumes of adults, mL.

    published_ml: lowest and highest reference value or bound of a reference interval, of the source.
    factor: by how much the range that is asked for is wider, on both sides.
    """

    published_ml: tuple[float, float]
    factor: float
    source: str

    @property
    def asked_ml(self) -> tuple[float, float]:
        """The range outside which a mask is doubted."""
        low, high = self.published_ml
        return low / self.factor, high * self.factor


@dataclass(frozen=True, slots=True)
class Structure:
    """One row. `volume` is None where no range was found that we could cite."""

    type: str
    meaning: str
    sides: str
    single: bool
    volume: VolumeRange | None


@cache
def known() -> Mapping[Kind, Structure]:
    """The table by type and sides: `one` of a pair, `both`, or empty."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        rows = [_from_row(row) for row in csv.DictReader(file)]
    return MappingProxyType({(row.type, row.sides): row for row in rows})


def structure_of(segment: Segment) -> Structure | None:
    """The row of a segment, by its type and whether it is one of a pair."""
    return known().get((segment.type.value, _SIDES.get(kind_of(segment)[1], "")))


def kind_of(segment: Segment) -> Kind:
    """What tells structures of several models to be the same."""
    return segment.type.value, segment.modifier.value if segment.modifier else ""


def _from_row(row: Mapping[str, str]) -> Structure:
    volume = None
    if row["source"]:
        published = float(row["published_low_ml"]), float(row["published_high_ml"])
        volume = VolumeRange(published, float(row["factor"]), row["source"])
    return Structure(row["type"], row["meaning"], row["sides"], row["single"] == "yes", volume)
