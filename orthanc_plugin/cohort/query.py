"""Ask the tables in SQL. A query can read the tables of its cohort, and nothing else: no file, no network, no change.

DuckDB is locked before it sees the query: files other than the tables are out of its reach, extensions are not loaded,
and its settings cannot be changed. A statement that is no SELECT is refused before that.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.cohort import schema
from orthanc_plugin.cohort.build import MANIFEST, read_manifest
from orthanc_plugin.cohort.tables import MISSING
from orthanc_plugin.errors import ConfigError, QueryError

if TYPE_CHECKING:
    import duckdb
    import pyarrow

_AGAIN = "build the tables again (orthanc-enrich cohort build)"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the tables of a folder for reading; each is a view with its name.

    Raises
    ------
    ConfigError
        If DuckDB is missing, the folder holds no tables, or they are not those of its manifest.
    """
    with locked(table_files(folder)) as connection:
        yield connection


@contextlib.contextmanager
def locked(files: Mapping[str, Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open Parquet files for reading, each as a view with its name, and lock everything else.

    Raises
    ------
    ConfigError
        If DuckDB is missing.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise ConfigError(MISSING) from None
    connection = duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )
    try:
        for name, file in files.items():
            connection.from_parquet(str(file)).create_view(name)
        allowed = ", ".join(_quoted(file) for file in files.values())
        connection.execute(f"SET allowed_paths = [{allowed}]")
        for setting in ("temp_directory = ''", "enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        yield connection
    finally:
        connection.close()


def table_files(folder: Path) -> dict[str, Path]:
    """Return the file of each table, which must be those of the manifest.

    Raises
    ------
    ConfigError
        If there is no manifest, or a table is missing, of another size or of another version.
    """
    manifest = read_manifest(folder)
    tables = manifest.get("tables")
    if not isinstance(tables, dict):
        raise ConfigError(f"{folder} holds no tables: it has no {MANIFEST} that can be read; {_AGAIN}")
    if manifest.get("schema") != schema.VERSION:
        raise ConfigError(f"the tables in {folder} are those of another version; {_AGAIN}")
    files = {name: folder.resolve() / f"{name}.parquet" for name in schema.ALL_TABLES}
    for name, file in files.items():
        if not file.is_file() or file.stat().st_size != tables.get(name, {}).get("bytes"):
            raise ConfigError(f"{file.name} in {folder} is not the table of {MANIFEST}; {_AGAIN}")
    return files


def run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None
) -> pyarrow.Table:
    """Run one SELECT; columns of one name get numbers.

    Parameters
    ----------
    connection : DuckDBPyConnection
        As `opened` gives it.
    sql : str
        One statement.
    parameters : mapping, optional
        Values of `$name` in the statement.

    Raises
    ------
    QueryError
        If it is no SELECT, or DuckDB refuses it; the message is DuckDB's.
    """
    import duckdb

    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError("a query is one SELECT; nothing else is run")
        return _each_named(connection.execute(statements[0], dict(parameters or {})).to_arrow_table())
    except duckdb.Error as error:
        raise QueryError(f"the query cannot be run: {str(error).strip()}") from None


def _each_named(table: pyarrow.Table) -> pyarrow.Table:
    """Give columns of one name numbers (`volume`, `volume_2`): rows as dicts would lose all but the last."""
    names: dict[str, None] = {}
    for name in table.column_names:
        free = (name if number == 1 else f"{name}_{number}" for number in itertools.count(1))
        names[next(one for one in free if one not in names)] = None
    return table.rename_columns([*names])


def _quoted(file: Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"
