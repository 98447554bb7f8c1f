"""A cohort: the series that a query chose, and what belongs to them. It can be sent on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.cohort.query import opened, run
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.errors import InputError, QueryError

SERIES = "SeriesInstanceUID"
_COLUMNS = ("series_instance_uid", SERIES)
_PLACES = "SELECT DISTINCT study_instance_uid, series_instance_uid FROM series WHERE series_instance_uid IN $uids"
_RESULTS = """
SELECT DISTINCT study_instance_uid, object_series_instance_uid FROM objects
WHERE series_instance_uid IN $uids AND object_series_instance_uid != '' AND ($old OR current)
"""
Place = tuple[str, str]
"""StudyInstanceUID and SeriesInstanceUID."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A cohort. series: of the CT; results: series of the SEG and SR that speak of them."""

    series: tuple[Place, ...]
    results: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied. missing: series that the source no longer has, or that cannot be read."""

    series: int
    instances: int
    missing: tuple[str, ...]


def chosen(folder: Path, sql: str, parameters: dict[str, object], *, old: bool = False) -> Chosen:
    """Run a query and take the series that its column `series_instance_uid` names.

    Parameters
    ----------
    folder : Path
        Folder of the tables.
    sql, parameters
        As for `query.run`.
    old : bool
        Also results that a newer one replaces.

    Raises
    ------
    QueryError
        If the query cannot be run, or gives no column of series.
    """
    with opened(folder) as connection:
        found = run(connection, sql, parameters)
        column = next((name for name in _COLUMNS if name in found.column_names), None)
        if column is None:
            raise QueryError(f"the query gives no column {_COLUMNS[0]}, so it names no series")
        uids = sorted({uid for uid in map(str, found[column].to_pylist()) if is_uid(uid)})
        series = _places(connection, _PLACES, {"uids": uids})
        return Chosen(series, _places(connection, _RESULTS, {"uids": uids, "old": old}))


def _places(connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, object]) -> tuple[Place, ...]:
    found: pyarrow.Table = run(connection, sql, parameters)
    return tuple(sorted((str(study), str(series)) for study, series in zip(*found.to_pydict().values(), strict=True)))


def copy(
    places: tuple[Place, ...], source: Archive, target: Archive, progress: Callable[[int], None] = lambda done: None
) -> Copied:
    """Copy series from one archive to another, instance by instance; what the target has stays as it is.

    Raises
    ------
    TransientError
        If one of them does not respond.
    StoreError
        If the target refuses an instance.
    """
    missing, instances = [], 0
    for number, (study, series) in enumerate(places, 1):
        try:
            for ds in source.retrieve(study, series):
                target.store(ds)
                instances += 1
        except InputError as error:
            missing.append(f"{series}: {error}")
        progress(number)
    return Copied(len(places) - len(missing), instances, tuple(missing))
