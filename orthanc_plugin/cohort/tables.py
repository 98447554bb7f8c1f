"""Write rows as Parquet: one writer for each table.

Rows are written in groups of a fixed size, so that equal rows give equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orthanc_plugin.cohort.schema import Cell, Column, Kind, Table
from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow

MISSING = "the extra `cohort` is not installed: pip install orthanc-enrichment[cohort]"
_GROUP = 50_000
_PART = ".part"


class TableWriter:
    """Writes one table to `NAME.parquet.part` in a folder; `close` returns its digest and number of rows.

    Parameters
    ----------
    folder : Path
    table : Table
    more : sequence of str
        Names of further columns, which hold numbers.
    """

    def __init__(self, folder: Path, table: Table, more: Sequence[str] = ()) -> None:
        from pyarrow import parquet

        self.file = folder / f"{table.name}.parquet"
        self.rows = 0
        self._schema = arrow_schema(table, more)
        self._waiting: list[Sequence[Cell]] = []
        self._writer = parquet.ParquetWriter(self._part, self._schema, compression="zstd")

    @property
    def _part(self) -> Path:
        return self.file.with_name(self.file.name + _PART)

    def add(self, row: Sequence[Cell]) -> None:
        """Add one row: a cell for each column, in order."""
        self._waiting.append(row)
        if len(self._waiting) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        columns = zip(*self._waiting, strict=True) if self._waiting else [()] * len(self._schema)
        arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))
        self.rows += len(self._waiting)
        self._waiting = []

    def close(self) -> None:
        """Write what waits."""
        if self._waiting or not self.rows:
            self._flush()
        self._writer.close()

    def publish(self) -> str:
        """Give the file its name and return its SHA-256."""
        with self._part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self._part.replace(self.file)
        return digest


@contextmanager
def closing_all(writers: Sequence[TableWriter]) -> Iterator[None]:
    """Close all writers, also when a build breaks off or one of them cannot be closed."""
    with ExitStack() as stack:
        for writer in writers:
            stack.callback(writer.close)
        yield


def arrow_schema(table: Table, more: Sequence[str] = ()) -> pyarrow.Schema:
    """Return the schema of a table; each column carries its meaning and its unit as metadata."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise ConfigError(MISSING) from None
    types: dict[Kind, Any] = {
        Kind.TEXT: pyarrow.string(),
        Kind.WHOLE: pyarrow.int64(),
        Kind.NUMBER: pyarrow.float64(),
        Kind.YES_NO: pyarrow.bool_(),
    }
    columns = [*table.columns, *(Column(name, Kind.NUMBER, "value of this feature") for name in more)]
    fields = [
        pyarrow.field(one.name, types[one.kind], metadata={"meaning": one.meaning, "unit": one.unit}) for one in columns
    ]
    return pyarrow.schema(fields, metadata={"meaning": table.meaning})
