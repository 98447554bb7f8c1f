"""Small tables that people write by hand: pairs of objects, names of structures, limits of repeatability."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from orthanc_plugin.errors import ConfigError


def read_csv(file: Path, what: str, columns: Iterable[str], *, may_be_empty: bool = False) -> list[dict[str, str]]:
    """Read the rows of a CSV file in UTF-8.

    Parameters
    ----------
    file : Path
    what : str
        What the file is, for messages, such as "file of pairs".
    columns : iterable of str
        Columns that it must have; others are left out.
    may_be_empty : bool
        Whether a file without a row is one, too.

    Returns
    -------
    list of dict
        A cell for each of the columns, without outer spaces; empty where a line ends early.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks a column, or has no row.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the {what} {file.name} cannot be read: {type(error).__name__}") from None
    names = list(columns)
    if not rows and may_be_empty:
        return []
    if not rows or not {*names} <= rows[0].keys():
        *most, last = names
        raise ConfigError(f"the {what} {file.name} must be CSV with the columns {', '.join(most)} and {last}")
    return [{name: (row[name] or "").strip() for name in names} for row in rows]
