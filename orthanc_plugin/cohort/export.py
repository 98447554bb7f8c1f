"""Write what a query found: CSV, Parquet or JSON, by the ending of the file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def export(table: pyarrow.Table, file: Path) -> None:
    """Write a table to a file, whose ending says how.

    Raises
    ------
    ConfigError
        If the ending is not csv, parquet or json.
    """
    ending = file.suffix.lower()
    if ending == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, file)
    elif ending == ".csv":
        file.write_text(to_csv(table.column_names, map(dict.values, table.to_pylist())), newline="")
    elif ending == ".json":
        file.write_text(json.dumps(as_records(table), allow_nan=False, default=str) + "\n")
    else:
        raise ConfigError(f"{file.name}: the ending must be .csv, .parquet or .json")


def as_records(table: pyarrow.Table) -> list[dict[str, object]]:
    """Return the rows as dicts that JSON can hold: a number that is not finite becomes null."""
    return [{name: _finite(value) for name, value in row.items()} for row in table.to_pylist()]


def to_csv(names: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Write rows as CSV (RFC 4180). Text that a spreadsheet would take for a formula is preceded by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(_cell, names))
    writer.writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = repr(value) if isinstance(value, float) else str(value)
    is_number = isinstance(value, int | float)
    return f"'{text}" if text.startswith(_FORMULA) and not is_number else text


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
