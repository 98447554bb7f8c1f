"""A unit of a build: one object that was looked at, with the rows that it gives to every table."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Self

from orthanc_plugin.cohort.schema import OBJECTS, TABLES, Cell, Kind, Table

Row = dict[str, Cell]


@dataclass(frozen=True, slots=True)
class Unit:
    """What one object says.

    is_source: whether it is a CT, which has a row of `series` and none of `objects`.
    subject: what tells the object from others of its kind that do not replace it, such as the masks of a person.
    rows: by table; a cell that a row leaves out is empty text or null.
    """

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    is_source: bool = False
    kind: str = ""
    modality: str = ""
    object_series_instance_uid: str = ""
    manufacturer: str = ""
    series_description: str = ""
    model: str = ""
    model_version: str = ""
    model_digest: str = ""
    created: str = ""
    place: str = ""
    reason: str = ""
    subject: str = ""
    rows: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def features(self) -> str:
        """Names of the features that get columns of their own, sorted, joined by lines."""
        rows = self.rows.get("measurements", ())
        return "\n".join(sorted({str(row["feature"]) for row in rows if is_wide(row)}))

    @property
    def own_row(self) -> Row:
        """The row of the object itself."""
        row: Row = {name: getattr(self, name, None) for name in OBJECTS.names}
        return row | {"rows": sum(map(len, self.rows.values())), "current": None}

    def pack(self) -> bytes:
        """Write the rows compactly: cells in the order of their tables."""
        cells = {name: [cells_of(TABLES[name], row) for row in rows] for name, rows in self.rows.items()}
        if not self.is_source:
            cells[OBJECTS.name] = [cells_of(OBJECTS, self.own_row)]
        return zlib.compress(json.dumps(cells, allow_nan=False, separators=(",", ":")).encode(), 1)

    @classmethod
    def unreadable(cls, place: str, reason: str, sop: str = "", study: str = "", series: str = "") -> Self:
        """Make the unit of an object that cannot be read."""
        return cls(sop, study, "", kind="", object_series_instance_uid=series, place=place, reason=reason)


def is_wide(row: Row) -> bool:
    """Tell whether a row of `measurements` also is a cell of `measurements_wide`."""
    return row.get("value") is not None and row.get("image", "original") == "original"


def unpack(packed: bytes) -> dict[str, list[list[Cell]]]:
    """Read what `Unit.pack` wrote."""
    cells: dict[str, list[list[Cell]]] = json.loads(zlib.decompress(packed))
    return cells


def cells_of(table: Table, row: Row) -> list[Cell]:
    """Return a cell for each column of a table; a text that the row leaves out is empty, anything else is null."""
    return [
        (row.get(column.name) or "") if column.kind is Kind.TEXT else row.get(column.name) for column in table.columns
    ]
