"""Write what a query found: CSV, Parquet or JSON, by the ending of the file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.domain.spreadsheet import harmless
from orthanc_plugin.errors import ConfigError, QueryError

if TYPE_CHECKING:
    import pyarrow


def export(table: pyarrow.Table, file: Path) -> None:
    """Write a table to a file, whose ending says how.

    Raises
    ------
    ConfigError
        If the ending is not csv, parquet or json.
    QueryError
        If Parquet has no such type, as for an interval.
    """
    ending = file.suffix.lower()
    if ending == ".parquet":
        _write_parquet(table, file)
    elif ending == ".csv":
        text = to_csv(table.column_names, map(dict.values, table.to_pylist()))
        file.write_text(text, encoding="utf-8", newline="")
    elif ending == ".json":
        file.write_text(json.dumps(as_records(table), allow_nan=False, default=str) + "\n", encoding="utf-8")
    else:
        raise ConfigError(f"{file.name}: the ending must be .csv, .parquet or .json")


def _write_parquet(table: pyarrow.Table, file: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    try:
        parquet.write_table(table, file)
    except pyarrow.ArrowNotImplementedError as error:
        file.unlink(missing_ok=True)
        raise QueryError(f"Parquet cannot hold what was asked for: {error}; cast it to a text") from None


def as_records(table: pyarrow.Table) -> list[dict[str, object]]:
    """Return the rows as dicts that JSON can hold: a number that is not finite becomes null, at any depth."""
    return [{name: _for_json(value) for name, value in row.items()} for row in table.to_pylist()]


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
    is_number = isinstance(value, int | float | Decimal)
    return text if is_number else harmless(text)


def _for_json(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _for_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(one) for one in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
