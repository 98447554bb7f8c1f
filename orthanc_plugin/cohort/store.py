"""What a build has read so far: one SQLite file beside the tables, so that a build that was killed goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orthanc_plugin.cohort import reading, schema
from orthanc_plugin.cohort.schema import Cell
from orthanc_plugin.cohort.unit import Unit, unpack
from orthanc_plugin.errors import ConfigError

FILE = "build.sqlite"
_FORM = f"{schema.VERSION}.{reading.READER}"
_COMMIT_EVERY = 200
_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS units (
  key TEXT PRIMARY KEY, signature TEXT NOT NULL, is_source INTEGER, sop TEXT, study TEXT, series TEXT, kind TEXT,
  model TEXT, version TEXT, subject TEXT, created TEXT, features TEXT, packed BLOB
);
CREATE INDEX IF NOT EXISTS by_sop ON units (is_source, sop, key);
CREATE INDEX IF NOT EXISTS by_series ON units (is_source, series, sop, key);
"""
_KEEP = "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ORDER = """
SELECT key, packed, row_number() OVER (PARTITION BY sop ORDER BY key) AS copy,
  model = '' OR row_number() OVER (
    PARTITION BY series, kind, model, version, subject ORDER BY created DESC, sop DESC, key) = 1 AS current
FROM units WHERE is_source = 0 AND packed IS NOT NULL ORDER BY sop, key
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A unit as the build writes it out. copy: which one of its SOPInstanceUID it is, from 1."""

    key: str
    cells: dict[str, list[list[Cell]]]
    copy: int
    current: bool


class Store:
    """The units of one folder of tables; only one build at a time may have it.

    Parameters
    ----------
    folder : Path
        Folder of the tables.
    source : str
        Name of the source.

    Raises
    ------
    ConfigError
        If the folder holds tables of another source, or another build has it now.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._db = sqlite3.connect(folder / FILE, timeout=0.2)
        try:
            self._open(folder, source)
        except ConfigError:
            self._db.close()
            raise
        self._waiting = 0

    def _open(self, folder: Path, source: str) -> None:
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.executescript(_TABLES)
            about = dict(self._db.execute("SELECT key, value FROM about"))
            self._db.execute("INSERT OR REPLACE INTO about VALUES ('form', ?)", (_FORM,))
        except sqlite3.OperationalError:
            raise ConfigError(f"another build works in {folder}, or {FILE} there cannot be written") from None
        except sqlite3.DatabaseError:
            raise ConfigError(f"{folder / FILE} is damaged; delete it, and build again") from None
        if about.get("source", source) != source:
            raise ConfigError(f"{folder} holds tables of {about['source']}; name another folder for {source}")
        if about.get("form", _FORM) != _FORM:
            self._db.execute("DELETE FROM units")
        self._db.execute("INSERT OR REPLACE INTO about VALUES ('source', ?)", (source,))
        self._db.commit()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Keep what was read, also when the build breaks off."""
        self._db.commit()
        self._db.close()

    def signatures(self) -> dict[str, str]:
        """Return the signature of everything that was read."""
        return dict(self._db.execute("SELECT key, signature FROM units"))

    def keep(self, key: str, signature: str, unit: Unit | None) -> None:
        """Keep what was read; None for something that gives no rows."""
        values = _NOTHING if unit is None else _values(unit)
        self._db.execute(_KEEP, (key, signature, *values))
        self._waiting += 1
        if self._waiting >= _COMMIT_EVERY:
            self._db.commit()
            self._waiting = 0

    def drop(self, keys: set[str]) -> None:
        """Forget what the source no longer has."""
        self._db.executemany("DELETE FROM units WHERE key = ?", [(key,) for key in keys])

    def features(self) -> tuple[str, ...]:
        """Return the names of all features that get columns of their own, sorted."""
        found = self._db.execute("SELECT DISTINCT features FROM units WHERE features != ''")
        return tuple(sorted({name for (names,) in found for name in names.split("\n") if name}))

    def objects(self) -> Iterator[Stored]:
        """Yield the SEG and SR in a fixed order, with what only the whole tells."""
        with closing(self._db.execute(_ORDER)) as found:
            for key, packed, copy, current in found:
                yield Stored(key, unpack(packed), copy, bool(current))

    def sources(self) -> Iterator[tuple[str, list[list[Cell]]]]:
        """Yield each CT series with the rows of its instances, in a fixed order; an instance counts once."""
        asked = """
            SELECT series, packed FROM (
              SELECT series, sop, key, packed, row_number() OVER (PARTITION BY series, sop ORDER BY key) AS copy
              FROM units WHERE is_source = 1
            ) WHERE copy = 1 OR sop = '' ORDER BY series, sop, key
        """
        with closing(self._db.execute(asked)) as found:
            for series, packed in found:
                yield series, unpack(packed)["series"]

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield series and study of what only results name, in a fixed order."""
        asked = """
            SELECT series, min(study) FROM units WHERE is_source = 0 AND series != ''
            AND series NOT IN (SELECT series FROM units WHERE is_source = 1) GROUP BY series ORDER BY series
        """
        with closing(self._db.execute(asked)) as found:
            yield from found


_NOTHING = (None,) * 11


def _values(unit: Unit) -> tuple[object, ...]:
    version = unit.model_digest or unit.model_version
    return (
        int(unit.is_source), unit.sop_instance_uid, unit.study_instance_uid, unit.series_instance_uid, unit.kind,
        unit.model, version, unit.subject, unit.created, unit.features, unit.pack(),
    )  # fmt: skip
