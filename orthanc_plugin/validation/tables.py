"""Write rows as CSV, JSON and Parquet, with one column for each field."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from orthanc_plugin.domain.spreadsheet import harmless


def write_tables(folder: Path, name: str, kind: type[Any], rows: Sequence[object]) -> tuple[Path, ...]:
    """Write rows of one dataclass as `name.csv`, `name.json` and, if pyarrow is installed, `name.parquet`.

    Returns
    -------
    tuple of Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = [_record(row) for row in rows]
    files = [folder / f"{name}.csv", folder / f"{name}.json"]
    files[0].write_text(to_csv(kind, records), encoding="utf-8", newline="")
    files[1].write_text(json.dumps(records, allow_nan=False, indent=1), encoding="utf-8")
    if find_spec("pyarrow") is not None:
        files.append(folder / f"{name}.parquet")
        _write_parquet(files[-1], kind, records)
    return tuple(files)


def to_csv(kind: type[Any], records: Sequence[dict[str, Any]]) -> str:
    """Write records as CSV (RFC 4180); text that a spreadsheet would take for a formula follows an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = list(_columns(kind))
    writer.writerow(names)
    writer.writerows([_cell(record[name]) for name in names] for record in records)
    return text.getvalue()


def _record(row: Any) -> dict[str, Any]:
    """Return the fields of a row; those of a dataclass within it get its name before theirs."""
    flat: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if isinstance(value, dict):
            flat |= {name if key == "value" else f"{name}_{key}": inner for key, inner in value.items()}
        else:
            flat[name] = str(value) if isinstance(value, StrEnum) else value
    return flat


def _columns(kind: type[Any]) -> dict[str, type]:
    """Return the columns of a dataclass, with the type of each: str, int or float."""
    columns: dict[str, type] = {}
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        if hasattr(hint, "__dataclass_fields__"):
            inner = _columns(hint)
            columns |= {field.name if key == "value" else f"{field.name}_{key}": one for key, one in inner.items()}
        else:
            kinds = getattr(hint, "__args__", (hint,))
            columns[field.name] = next((one for one in (float, int) if one in kinds), str)
    return columns


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return harmless(value)
    return repr(value)


def _write_parquet(file: Path, kind: type[Any], records: Sequence[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    schema = pyarrow.schema([(name, types[one]) for name, one in _columns(kind).items()])
    parquet.write_table(pyarrow.Table.from_pylist(list(records), schema), file)
