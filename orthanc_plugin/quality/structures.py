"""Facts about structures by their codes: which are one piece, which volumes adults have, which make up a lung.

The table (structures.csv) holds published values. The range that a check accepts is wider by a factor, because a check
shall find wrong masks and not ill organs. docs/quality.md names the sources and lists every row.
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

HEART, BONE = "80891009", "3138006"
AIRWAYS = frozenset({"44567001", "110726009", "89187006"})
"""Trachea, with or without bronchi."""
UPPER_LOBE, LOWER_LOBE, MIDDLE_LOBE = "45653009", "90572001", "72481006"
"""SCT codes; the middle lobe belongs to the right lung and has no modifier."""

Kind = tuple[str, str]
"""Type and laterality as SCT codes; the laterality is empty if the segment has none."""

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

    published_ml: lowest and highest reference value, or bounds of a reference interval, of the source.
    factor: by how much the accepted range is wider on both sides.
    """

    published_ml: tuple[float, float]
    factor: float
    source: str

    @property
    def asked_ml(self) -> tuple[float, float]:
        """Accepted range; a mask outside it fails."""
        low, high = self.published_ml
        return low / self.factor, high * self.factor


@dataclass(frozen=True, slots=True)
class Structure:
    """One row of the table. `volume` is None if we found no range to cite."""

    type: str
    meaning: str
    sides: str
    single: bool
    volume: VolumeRange | None


@cache
def known() -> Mapping[Kind, Structure]:
    """Read the table by type and sides: `one` of a pair, `both`, or empty."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        rows = [_from_row(row) for row in csv.DictReader(file)]
    return MappingProxyType({(row.type, row.sides): row for row in rows})


def structure_of(segment: Segment) -> Structure | None:
    """Find the row of a segment by its type and whether it is one of a pair."""
    return known().get((segment.type.value, _SIDES.get(kind_of(segment)[1], "")))


def kind_of(segment: Segment) -> Kind:
    """Give the codes by which structures of several models are the same."""
    return segment.type.value, segment.modifier.value if segment.modifier else ""


def _from_row(row: Mapping[str, str]) -> Structure:
    volume = None
    if row["source"]:
        published = float(row["published_low_ml"]), float(row["published_high_ml"])
        volume = VolumeRange(published, float(row["factor"]), row["source"])
    return Structure(row["type"], row["meaning"], row["sides"], row["single"] == "yes", volume)
