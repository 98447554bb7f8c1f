"""Build the tables: read what is new, forget what is gone, and write every table anew in a fixed order.

The order and the bytes follow from the objects alone, so a build that was killed and went on gives the same digests as
one that ran at once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from orthanc_plugin import __version__
from orthanc_plugin.cohort import schema
from orthanc_plugin.cohort.schema import (
    DELIVERIES,
    JOBS,
    KEYS_OF_WIDE,
    OBJECTS,
    SERIES,
    SHADOW,
    TABLES,
    USUAL_FEATURES,
    Cell,
)
from orthanc_plugin.cohort.sources import Source
from orthanc_plugin.cohort.store import Store, Stored
from orthanc_plugin.cohort.tables import TableWriter, closing_all
from orthanc_plugin.cohort.unit import Row, cells_of
from orthanc_plugin.errors import TransientError

MANIFEST = "manifest.json"
OF_JOBS = (JOBS.name, DELIVERIES.name, SHADOW.name)
Progress = Callable[[int], None]
MoreRows = Callable[[], Iterator[tuple[str, list[Cell]]]]
_MEASURED = TABLES["measurements"].names
_FEATURE, _VALUE, _UNIT, _IMAGE = (_MEASURED.index(name) for name in ("feature", "value", "unit", "image"))
_WIDE_KEYS = tuple(_MEASURED.index(name) for name in KEYS_OF_WIDE.names if name not in ("current", "volume_ml"))
_VOLUMES = ("shape_VoxelVolume", "shape_MeshVolume", "SCT_118565006", "SRT_G-D705")
"""Features that are a volume; the first one that a row has counts."""
_ML = {"mm3": 1e-3, "cm3": 1.0, "ml": 1.0, "mL": 1.0}
_INSTANCES = SERIES.names.index("instances")
_NOT_READ = "no instance of the series was read: only results name it"
_COPY = "another object has the same SOPInstanceUID; this copy is left out"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did.

    read, known, gone: objects that were read now, before, and that the source no longer has.
    rows: of each table. digest: SHA-256 over the digests of all tables.
    """

    read: int
    known: int
    gone: int
    rows: dict[str, int]
    digest: str


def build(
    source: Source, folder: Path, *, jobs: MoreRows = lambda: iter(()), progress: Progress = lambda done: None
) -> Built:
    """Build or renew the tables of a source in a folder.

    Parameters
    ----------
    source : Source
    folder : Path
        Is made if it is missing.
    jobs : callable
        Yields rows of `jobs`, `deliveries` and `shadow`, in a fixed order.
    progress : callable
        Is told the number of objects so far.

    Raises
    ------
    ConfigError
        If pyarrow is missing, or the folder belongs to another source or another build.
    TransientError
        If the archive goes away, or the disk is full; what was read is kept, and the next build goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _build(source, folder, jobs, progress)
    except sqlite3.Error as error:
        raise TransientError(f"what was read cannot be kept in {folder}: {error}; the next build goes on") from error


def _build(source: Source, folder: Path, jobs: MoreRows, progress: Progress) -> Built:
    with Store(folder, source.name) as store:
        known = store.signatures()
        there: set[str] = set()
        read = 0
        for found in source:
            there.add(found.key)
            if known.get(found.key) != found.signature:
                store.keep(found.key, found.signature, found.read())
                read += 1
            progress(len(there))
        store.drop(gone := known.keys() - there)
        unchanged = not (read or gone) and _stands(folder, source.name)
        rows, digest = _write(store, folder, source.name, jobs(), only=OF_JOBS if unchanged else schema.ALL_TABLES)
    return Built(read, len(there) - read, len(gone), rows, digest)


def read_manifest(folder: Path) -> dict[str, object]:
    """Return the manifest of a folder of tables; empty if there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stands(folder: Path, source: str) -> bool:
    """Tell whether the tables of a folder are those of its manifest, and of this source and version."""
    manifest = read_manifest(folder)
    tables = manifest.get("tables")
    if not isinstance(tables, dict) or (manifest.get("schema"), manifest.get("source")) != (schema.VERSION, source):
        return False
    files = {name: folder / f"{name}.parquet" for name in schema.ALL_TABLES}
    return all(file.is_file() and file.stat().st_size == tables[name]["bytes"] for name, file in files.items())


def _write(
    store: Store, folder: Path, source: str, more: Iterable[tuple[str, list[Cell]]], only: Collection[str]
) -> tuple[dict[str, int], str]:
    """Write tables, all or only those of jobs, and then the manifest of all."""
    features = tuple(sorted({*store.features(), *USUAL_FEATURES}))
    writers = {name: TableWriter(folder, table) for name, table in TABLES.items() if name in only}
    wide = [TableWriter(folder, KEYS_OF_WIDE, features)] if KEYS_OF_WIDE.name in only else []
    everything = [*writers.values(), *wide]
    with closing_all(everything):
        if wide:
            _write_objects(store, writers, wide[0], features)
        for name, row in more:
            writers[name].add(row)
    before: Any = read_manifest(folder).get("tables", {}) if not wide else {}
    digests = {name: about["sha256"] for name, about in before.items()}
    rows = {name: about["rows"] for name, about in before.items()}
    digests |= {writer.file.stem: writer.publish() for writer in everything}
    rows |= {writer.file.stem: writer.rows for writer in everything}
    digest = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    _write_manifest(folder, source, rows, digests, digest)
    return rows, digest


def _write_objects(store: Store, writers: dict[str, TableWriter], wide: TableWriter, features: Sequence[str]) -> None:
    for row in _series_rows(store):
        writers[SERIES.name].add(row)
    column = {name: number for number, name in enumerate(features)}
    for stored in store.objects():
        _add(stored, writers, wide, column)


def _add(stored: Stored, writers: dict[str, TableWriter], wide: TableWriter, column: dict[str, int]) -> None:
    own = OBJECTS.names
    (object_row,) = stored.cells[OBJECTS.name]
    if stored.copy > 1 and object_row[own.index("sop_instance_uid")]:
        object_row[own.index("reason")] = _COPY
        object_row[own.index("current")] = False
        object_row[own.index("rows")] = 0
        writers[OBJECTS.name].add(object_row)
        return
    for name, rows in stored.cells.items():
        number = TABLES[name].names.index("current")
        for row in rows:
            row[number] = stored.current
            writers[name].add(row)
    for row in _wide_rows(stored, column):
        wide.add(row)


def _wide_rows(stored: Stored, column: dict[str, int]) -> Iterator[list[Cell]]:
    """Gather the measurements of each structure in one row; the first value of a feature counts."""
    gathered: dict[tuple[Cell, ...], list[Cell]] = {}
    volumes: dict[tuple[Cell, ...], dict[Cell, float]] = {}
    for row in stored.cells.get("measurements", ()):
        if row[_VALUE] is None or not row[_FEATURE] or row[_IMAGE] not in ("", "original"):
            continue
        key = tuple(row[number] for number in _WIDE_KEYS)
        cells = gathered.setdefault(key, [None] * len(column))
        number = column[str(row[_FEATURE])]
        if cells[number] is None:
            cells[number] = row[_VALUE]
        if row[_FEATURE] in _VOLUMES and row[_UNIT] in _ML:
            volumes.setdefault(key, {}).setdefault(row[_FEATURE], float(str(row[_VALUE])) * _ML[str(row[_UNIT])])
    for key, cells in gathered.items():
        found = volumes.get(key, {})
        volume = next((found[name] for name in _VOLUMES if name in found), None)
        yield [*key, stored.current, volume, *cells]


def _series_rows(store: Store) -> Iterator[list[Cell]]:
    for _, instances in groupby(store.sources(), key=itemgetter(0)):
        (first, *_), *others = (rows for _, rows in instances)
        first[_INSTANCES] = sum(int(str(row[_INSTANCES])) for row in [first, *(one for rows in others for one in rows)])
        yield first
    for series, study in store.named():
        known: Row = {"series_instance_uid": series, "study_instance_uid": study, "reason": _NOT_READ}
        yield cells_of(SERIES, known)


def _write_manifest(folder: Path, source: str, rows: dict[str, int], digests: dict[str, str], digest: str) -> None:
    sizes = {name: (folder / f"{name}.parquet").stat().st_size for name in rows}
    tables = {name: {"rows": rows[name], "bytes": sizes[name], "sha256": digests[name]} for name in rows}
    about = {
        "schema": schema.VERSION,
        "software": f"orthanc-enrichment {__version__}",
        "source": source,
        "digest": digest,
        "tables": tables,
    }
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(about, indent=1) + "\n")
    part.replace(folder / MANIFEST)
