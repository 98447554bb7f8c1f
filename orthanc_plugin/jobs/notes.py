"""Notes in the job database: what its processes must know beside the decisions, as texts under keys."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import sqlalchemy as sa

from orthanc_plugin.jobs.database import create_tables, open_engine
from orthanc_plugin.jobs.rows import notes as _notes
from orthanc_plugin.jobs.rows import schema, text_of_time


class Notes:
    """Reads and writes notes; several threads may share one object.

    Parameters
    ----------
    database_url : str
        `sqlite:////absolute/path` or `postgresql://...`. A missing SQLite file is created, readable by its owner only.
    """

    def __init__(self, database_url: str) -> None:
        self.engine = open_engine(database_url)
        create_tables(self.engine, schema)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Begin a transaction."""
        return self.engine.begin()

    def check_writable(self) -> None:
        """Write something; raise sqlalchemy's DBAPIError if the database does not take it (disk full, read-only)."""
        self.keep_note("written", text_of_time(datetime.now(UTC)))

    def note(self, key: str) -> str | None:
        """Return the note of a key."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(_notes.c.value).where(_notes.c.key == key)).scalar_one_or_none()

    def notes(self, prefix: str) -> Mapping[str, str]:
        """Return all notes whose key has this prefix."""
        query = sa.select(_notes).where(_notes.c.key.startswith(prefix, autoescape=True)).order_by(_notes.c.key)
        with self.engine.connect() as connection:
            return {str(key): str(value) for key, value in connection.execute(query)}

    def keep_note(self, key: str, value: str) -> None:
        """Write a note, or replace it."""
        with self.engine.begin() as connection:
            if not connection.execute(sa.update(_notes).where(_notes.c.key == key).values(value=value)).rowcount:
                connection.execute(sa.insert(_notes).values(key=key, value=value))

    def drop_note(self, key: str) -> None:
        """Remove a note if it exists."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(_notes).where(_notes.c.key == key))
