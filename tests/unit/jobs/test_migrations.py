"""The schema of the job database: earlier ones are brought up to date, later ones are refused and left alone."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from orthanc_plugin import __version__
from orthanc_plugin.cli import main as cli
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs.database import open_engine
from orthanc_plugin.jobs.ledger import Ledger
from orthanc_plugin.jobs.migrations import SCHEMA_NUMBER, Schema, read_schema
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.rows import schema as schema_tables

WRITTEN_BY_0_1_0 = Path(__file__).with_name("written_by_0_1_0") / "jobs.sql"


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/jobs.db"


def schema(folder: Path) -> Schema:
    engine = open_engine(url(folder))
    try:
        return read_schema(engine)
    finally:
        engine.dispose()


def from_the_future(folder: Path) -> bytes:
    """Make a database of a later release, and return its bytes."""
    with closing(JobQueue(url(folder))) as queue:
        queue.ledger.keep_note("schema", json.dumps({"number": SCHEMA_NUMBER + 1, "release": "9.9.0"}))
    with closing(sqlite3.connect(folder / "jobs.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    return (folder / "jobs.db").read_bytes()


def test_a_new_database_says_what_it_is(tmp_path: Path) -> None:
    assert schema(tmp_path) == Schema()
    Ledger(url(tmp_path)).close()
    assert schema(tmp_path) == Schema(SCHEMA_NUMBER, __version__)


def test_a_database_of_0_1_0_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        connection.executescript(WRITTEN_BY_0_1_0.read_text())
    assert schema(tmp_path).number == 0
    with closing(Ledger(url(tmp_path))) as ledger, ledger.engine.connect() as connection:
        models = list(connection.execute(sa.text("SELECT models FROM enrichment_decisions WHERE job_id != ''")))
    assert models
    assert all(row.models for row in models)
    assert schema(tmp_path).number == SCHEMA_NUMBER


def test_a_table_that_another_process_creates_after_the_look_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = schema_tables.create_all

    def late(engine: sa.Engine) -> None:
        monkeypatch.setattr(schema_tables, "create_all", create)
        create(engine)
        create(engine, checkfirst=False)

    monkeypatch.setattr(schema_tables, "create_all", late)
    Ledger(url(tmp_path)).close()
    assert schema(tmp_path).number == SCHEMA_NUMBER


def test_processes_that_start_together(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        connection.executescript(WRITTEN_BY_0_1_0.read_text())
    failed: list[Exception] = []

    def start() -> None:
        try:
            Ledger(url(tmp_path)).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert schema(tmp_path).number == SCHEMA_NUMBER


@pytest.mark.parametrize("opened", [JobQueue, Ledger])
def test_a_database_of_a_later_release_is_refused_with_the_remedy_and_stays_as_it_is(
    tmp_path: Path, opened: type[JobQueue] | type[Ledger]
) -> None:
    before = from_the_future(tmp_path)
    with pytest.raises(ConfigError, match=r"a newer release, 9\.9\.0, .*restore the backup"):
        opened(url(tmp_path))
    if opened is JobQueue:
        assert (tmp_path / "jobs.db").read_bytes() == before


def test_commands_tell_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from_the_future(tmp_path)
    settings = {"Enrichment": {"StateDirectory": str(tmp_path), "Archives": {"local": {"Url": "http://127.0.0.1:1/x"}}}}
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    assert cli.main(["jobs", "list", "--config", str(tmp_path / "orthanc.json")]) == 78
    assert "install 9.9.0 or newer again" in " ".join(capsys.readouterr().err.split())
