"""The job database as SQLAlchemy opens it: SQLite or PostgreSQL, its clock, and tables of earlier releases."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

BUSY_TIMEOUT_MS = 30_000
"""The job engine waits as long for the same SQLite file."""


def open_engine(database_url: str) -> sa.Engine:
    """Open the database; a missing SQLite file is created."""
    url = database_engine_url(database_url)
    make_database_file(database_url)
    # A PostgreSQL that restarts closes the connections of the pool, so each one is tested before use.
    engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if url.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
    return engine


def database_time(connection: sa.Connection) -> datetime:
    """Return the time on the clock of the database, which is one for all its processes."""
    if connection.dialect.name == "sqlite":  # all processes are on the computer of the file
        return datetime.now(UTC)
    moment: datetime = connection.execute(sa.select(sa.func.current_timestamp())).scalar_one()
    return moment.astimezone(UTC)


def database_engine_url(database_url: str) -> sa.URL:
    """Return the URL with the installed driver (psycopg 3)."""
    url = sa.make_url(database_url)
    return url.set(drivername="postgresql+psycopg") if url.get_backend_name() == "postgresql" else url


def make_database_file(database_url: str) -> None:
    """Create the SQLite file (0600, a new folder 0700): whoever can write it can run code in its readers."""
    url = sa.make_url(database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    file = Path(url.database)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    file.chmod(0o600)


def add_column(engine: sa.Engine, column: sa.Column[str]) -> bool:
    """Add a column that a table of an earlier release lacks, and say whether it did.

    Another process may do so at the same time.
    """
    if not _lacks(engine, column):
        return False
    text = f"ALTER TABLE {column.table.name} ADD COLUMN {sa.schema.CreateColumn(column).compile(engine)}"
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(text))
    except sa.exc.DBAPIError:
        if _lacks(engine, column):
            raise
        return False
    return True


def add_index(engine: sa.Engine, index: sa.Index) -> None:
    """Add an index that a table of an earlier release lacks; another process may do so at the same time."""
    with suppress(sa.exc.DBAPIError):  # an index that is missing costs time only
        index.create(engine, checkfirst=True)


def _lacks(engine: sa.Engine, column: sa.Column[str]) -> bool:
    return column.name not in {known["name"] for known in sa.inspect(engine).get_columns(column.table.name)}


def _set_up_sqlite(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
    # Writers take the lock at once and wait for it, so that two processes never fail with "database is locked".
    connection.isolation_level = "IMMEDIATE"
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()


def create_tables(engine: sa.Engine, tables: sa.MetaData) -> None:
    """Create what is missing. Another process may create a table after our look; then look again."""
    for _ in tables.sorted_tables:
        try:
            tables.create_all(engine)
            return
        except sa.exc.DatabaseError as error:
            if "already exists" not in str(error):
                raise
    tables.create_all(engine)
