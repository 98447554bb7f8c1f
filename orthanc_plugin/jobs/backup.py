"""Backup and restore: one file with the job database and what else the state directory must not lose.

A backup is taken while everything runs: SQLite copies its database consistently, and so does pg_dump. Locks, logs and
what a worker keeps for a moment are left out. Every file in the backup has its digest in the manifest, and nothing is
written before all of them are right and the release fits.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from orthanc_plugin import __version__
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import ConfigError, EnrichError, TransientError
from orthanc_plugin.jobs.database import open_engine
from orthanc_plugin.jobs.executor import take_lock
from orthanc_plugin.jobs.migrations import Schema, read_schema, refuse_newer
from orthanc_plugin.jobs.state import check_database, check_owner

FORMAT = 1
MANIFEST, DATABASE, STATE = "manifest.json", "database", "state/"
_SQLITE, _POSTGRESQL = "sqlite", "postgresql"
_LEFT_OUT = re.compile(
    r".*(\.lock|\.tmp|-wal|-shm|-journal|\.before-restore(\.\d+)?)|(service|worker-\d+)(\.stderr)?\.log(\.\d+)?"
)
_LARGEST_MANIFEST = 10_000_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself. files: SHA-256 of each file; kind: of the database."""

    format: int
    release: str
    schema: int
    kind: str
    made_at: str
    files: Mapping[str, str]


def back_up(configuration: Configuration, target: Path) -> Manifest:
    """Write a backup to a new file that only its owner can read.

    Raises
    ------
    ConfigError
        If there is no job database, or the state directory belongs to another user.
    EnrichError
        If the file exists, or PostgreSQL's programs are missing or fail.
    """
    check_database(configuration)
    if target.exists():
        raise EnrichError(f"{target} exists already")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as name:
        folder = Path(name)
        kind = _dump(configuration.database, folder / DATABASE)
        sources = {DATABASE: folder / DATABASE, **_state_files(configuration)}
        digests = {name: _digest(path) for name, path in sources.items()}
        schema = _schema(configuration.database)
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest(FORMAT, __version__, schema.number, kind, made_at, digests)
        draft = folder / "draft"
        draft.touch(mode=0o600)
        with tarfile.open(draft, "w:gz") as tar:
            _add(tar, MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
            for name, path in sources.items():
                tar.add(path, name, recursive=False, filter=_anonymous)
        read_backup(draft, folder / "read")  # a file that changed meanwhile, or a full disk, is found now
        os.link(draft, target)
    return manifest


def restore(configuration: Configuration, source: Path, *, replace: bool) -> Manifest:
    """Put a backup in the place of the job database and the files of the state directory.

    Parameters
    ----------
    configuration : Configuration
        Of the service that is to go on with it; it must not run.
    source : Path
    replace : bool
        Whether a database that is there may be replaced. SQLite's is kept as `jobs.db.before-restore`, and
        with a number where an earlier one is kept so.

    Raises
    ------
    ConfigError
        If a service or a worker runs, the backup is of a newer release, or of another kind of database.
    EnrichError
        If the file is damaged, a database is there already, or PostgreSQL's programs are missing or fail.
    """
    directory = configuration.state_directory
    check_owner(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks = [_lock(directory, name) for name in _locks(directory)]
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".restore-") as name:
            folder = Path(name)
            manifest = read_backup(source, folder)
            _check_fits(manifest, configuration)
            if _has_decisions(configuration.database) and not replace:
                raise EnrichError(
                    "there is a job database with decisions already; --replace puts the backup in its place"
                )
            _load(configuration.database, folder / DATABASE)
            for inside in manifest.files:
                if inside.startswith(STATE):
                    _place(folder / inside, directory / inside.removeprefix(STATE))
        return manifest
    finally:
        for lock in locks:
            os.close(lock)


def read_backup(source: Path, folder: Path) -> Manifest:
    """Unpack a backup into a folder, and check every digest.

    Raises
    ------
    EnrichError
        If it is not a backup, or is damaged.
    """
    if not source.is_file():
        raise EnrichError(f"{source} is not a file: name a backup")
    try:
        with tarfile.open(source, "r:gz") as tar:
            manifest = _manifest(tar)
            for member in tar:
                if member.name == MANIFEST:
                    continue
                if member.name not in manifest.files or not member.isfile():
                    raise EnrichError(f"{source.name}: {member.name} does not belong into a backup")
                tar.extract(member, folder, filter="data")
    except (tarfile.TarError, OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise EnrichError(f"{source.name} is not a backup, or is damaged ({type(error).__name__})") from error
    for name, digest in manifest.files.items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise EnrichError(f"{source.name} is damaged: {name} is not as it was backed up")
    return manifest


def _manifest(tar: tarfile.TarFile) -> Manifest:
    """Read the manifest, which is the first file."""
    first = tar.next()
    file = tar.extractfile(first) if first and first.name == MANIFEST and first.size < _LARGEST_MANIFEST else None
    if file is None:
        raise ValueError("no manifest")
    manifest = Manifest(**json.load(file))
    if manifest.format != FORMAT:
        raise EnrichError(f"the backup was made by release {manifest.release}, in a form that this one does not know")
    return manifest


def _check_fits(manifest: Manifest, configuration: Configuration) -> None:
    refuse_newer(Schema(manifest.schema, manifest.release))
    kind = _kind(configuration.database)
    if manifest.kind != kind:
        raise ConfigError(f"the backup holds a {manifest.kind} database, and Database names a {kind} one")


def _kind(database: str) -> str:
    return _SQLITE if sa.make_url(database).get_backend_name() == _SQLITE else _POSTGRESQL


def _schema(database: str) -> Schema:
    engine = open_engine(database)
    try:
        return read_schema(engine)
    finally:
        engine.dispose()


def _has_decisions(database: str) -> bool:
    url = sa.make_url(database)
    if _kind(database) == _SQLITE and not Path(url.database or "").exists():
        return False
    engine = open_engine(database)
    try:
        return sa.inspect(engine).has_table("enrichment_decisions")
    except sa.exc.DBAPIError as error:
        raise TransientError(f"the job database cannot be opened: {str(error.orig).partition(chr(10))[0]}") from error
    finally:
        engine.dispose()


def _dump(database: str, target: Path) -> str:
    target.touch(mode=0o600)
    if _kind(database) == _POSTGRESQL:
        _postgresql("pg_dump", database, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")
        return _POSTGRESQL
    file = sa.make_url(database).database
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return _SQLITE


def _load(database: str, source: Path) -> None:
    if _kind(database) == _POSTGRESQL:
        _postgresql(
            "pg_restore", database, "--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction",
            "--exit-on-error", source=source,
        )  # fmt: skip
        return
    file = Path(sa.make_url(database).database or "")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.exists():
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file.replace(_unused(file.with_name(f"{file.name}.before-restore")))
    for end in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    _place(source, file)


def _unused(path: Path) -> Path:
    """Return a name that no file has: what an earlier restore kept stays."""
    others = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return next(one for one in (path, *itertools.islice(others, 1000)) if not one.exists())


def _postgresql(program: str, database: str, *words: str, source: Path | None = None) -> None:
    """Run one of PostgreSQL's programs; the password goes through its environment, which only this user can read."""
    found = shutil.which(program)
    if found is None:
        raise EnrichError(f"{program} is not installed; on Debian: apt install postgresql-client")
    url = sa.make_url(database)
    plain = url.set(drivername=_POSTGRESQL, password=None).render_as_string(hide_password=False)
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    command = [found, f"--dbname={plain}", "--no-password", *words, *([str(source)] if source else [])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise EnrichError(f"{program} failed: {done.stderr.strip().partition(chr(10))[0]}")


def _state_files(configuration: Configuration) -> Mapping[str, Path]:
    """Return what of the state directory is kept: no locks, no logs, no database, nothing of a moment."""
    directory, url = configuration.state_directory, sa.make_url(configuration.database)
    file = Path(url.database or "") if _kind(configuration.database) == _SQLITE else None
    return {
        f"{STATE}{path.relative_to(directory)}": path
        for path in _files_below(directory)
        if path != file and not _LEFT_OUT.fullmatch(path.name)
    }


def _files_below(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.is_symlink() or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_below(path)
        elif path.is_file():
            yield path


def _locks(directory: Path) -> list[str]:
    workers = [path.name for path in directory.glob("worker-*.lock")]
    return ["service.lock", *sorted(workers)]


def _lock(directory: Path, name: str) -> int:
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not take_lock(descriptor, 0):
        os.close(descriptor)
        raise ConfigError(f"the service or a worker runs ({name} in {directory} is locked): stop Orthanc first")
    return descriptor


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.chmod(0o600)
    shutil.move(source, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
