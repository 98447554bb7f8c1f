"""Backup and restore with SQLite. PostgreSQL: tests/integration/test_postgresql.py."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import ConfigError, EnrichError
from orthanc_plugin.jobs.backup import MANIFEST, back_up, restore
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.service.state import own_state
from tests.support.cases.backups import check_that_a_restored_database_goes_on, configured, decisions, fill


@pytest.fixture
def site(tmp_path: Path) -> Configuration:
    return configured(tmp_path)


@pytest.fixture
def backup(site: Configuration, tmp_path: Path) -> Path:
    fill(site)
    back_up(site, tmp_path / "backup.tar.gz")
    return tmp_path / "backup.tar.gz"


def rewritten(backup: Path, changes: dict[str, bytes], manifest: dict[str, object] | None = None) -> Path:
    """Write a backup anew with other files, and other words in its manifest."""
    target = backup.with_name("other.tar.gz")
    with tarfile.open(backup) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            content = file.read()
            if member.name == MANIFEST:
                content = json.dumps(json.loads(content) | (manifest or {})).encode()
            content = changes.get(member.name, content)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
        for name in changes.keys() - set(old.getnames()):
            member = tarfile.TarInfo(name)
            member.size = len(changes[name])
            new.addfile(member, io.BytesIO(changes[name]))
    return target


def test_a_restored_database_goes_on(site: Configuration, tmp_path: Path) -> None:
    check_that_a_restored_database_goes_on(site, tmp_path, site)
    assert (site.state_directory / "jobs.db.before-restore").exists()


def test_a_backup_goes_to_another_computer(backup: Path, site: Configuration, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    other = configured(tmp_path / "new")
    restore(other, backup, replace=False)
    assert decisions(other) == decisions(site)
    for name in ("id", "pseudonym.key", "jobs.db"):
        assert stat.S_IMODE((other.state_directory / name).stat().st_mode) == 0o600


def test_what_is_in_a_backup(backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with tarfile.open(backup) as tar:
        names = tar.getnames()
    assert names == [MANIFEST, "database", "state/audit.log", "state/id", "state/pseudonym.key"]


def test_a_backup_while_jobs_are_written(site: Configuration, tmp_path: Path) -> None:
    fill(site)
    with closing(JobQueue(site.database)) as queue, queue.ledger.begin() as writing:
        writing.exec_driver_sql("UPDATE enrichment_decisions SET state = 'failed'")
        back_up(site, tmp_path / "backup.tar.gz")
    (tmp_path / "new").mkdir()
    other = configured(tmp_path / "new")
    restore(other, tmp_path / "backup.tar.gz", replace=False)
    assert {state for _, state in decisions(other)} == {"done", "queued", "skipped"}


def test_decisions_are_not_replaced_by_mistake(backup: Path, site: Configuration) -> None:
    with pytest.raises(EnrichError, match="--replace"):
        restore(site, backup, replace=False)


def test_not_while_the_service_or_a_worker_runs(backup: Path, site: Configuration) -> None:
    with own_state(site.state_directory), pytest.raises(ConfigError, match="stop Orthanc first"):
        restore(site, backup, replace=True)
    assert len(decisions(site)) == 3


def test_a_backup_is_never_written_over(backup: Path, site: Configuration) -> None:
    before = backup.read_bytes()
    with pytest.raises(EnrichError, match="exists already"):
        back_up(site, backup)
    assert backup.read_bytes() == before
    assert [path.name for path in backup.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("changes", "manifest", "told"),
    [
        ({"database": b"SQLite format 3\0 not"}, {}, "is damaged: database"),
        ({"state/id": b"other"}, {}, "is damaged: state/id"),
        ({"../../etc/passwd": b"x"}, {}, "does not belong"),
        ({"state/extra": b"x"}, {}, "does not belong"),
        ({}, {"schema": 99, "release": "9.9.0"}, "a newer release, 9.9.0"),
        ({}, {"format": 2, "release": "9.9.0"}, "release 9.9.0, in a form"),
        ({}, {"kind": "postgresql"}, "holds a postgresql database"),
        ({}, {"files": {"../x": "0"}}, "does not belong"),
        ({}, {"unknown": 1}, "is not a backup"),
        ({MANIFEST: b"{"}, {}, "is not a backup"),
    ],
)
def test_what_is_damaged_or_foreign_changes_nothing(
    backup: Path, site: Configuration, changes: dict[str, bytes], manifest: dict[str, object], told: str
) -> None:
    before = decisions(site)
    with pytest.raises(EnrichError, match=told):
        restore(site, rewritten(backup, changes, manifest), replace=True)
    assert decisions(site) == before
    assert not (site.state_directory / "jobs.db.before-restore").exists()


def test_a_second_restore_keeps_what_the_first_one_kept(backup: Path, site: Configuration) -> None:
    kept = (site.state_directory / "jobs.db").read_bytes()
    restore(site, backup, replace=True)
    restore(site, backup, replace=True)
    names = sorted(path.name for path in site.state_directory.glob("*.before-restore*"))
    assert names == ["jobs.db.before-restore", "jobs.db.before-restore.2"]
    assert (site.state_directory / names[0]).read_bytes() == kept
    back_up(site, backup.with_name("third.tar.gz"))
    with tarfile.open(backup.with_name("third.tar.gz")) as tar:
        assert not [name for name in tar.getnames() if "before-restore" in name]


def test_a_backup_that_is_not_there_is_named(site: Configuration, tmp_path: Path) -> None:
    for path in (tmp_path / "none.tar.gz", tmp_path):
        with pytest.raises(EnrichError, match="is not a file: name a backup"):
            restore(site, path, replace=True)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"PK\x03\x04", os.urandom(5000)])
def test_what_is_no_backup(site: Configuration, tmp_path: Path, content: bytes) -> None:
    fill(site)
    (tmp_path / "no.tar.gz").write_bytes(content)
    with pytest.raises(EnrichError, match="is not a backup, or is damaged"):
        restore(site, tmp_path / "no.tar.gz", replace=True)


def test_a_cut_backup(backup: Path, site: Configuration) -> None:
    backup.write_bytes(backup.read_bytes()[:-2000])
    with pytest.raises(EnrichError, match="damaged"):
        restore(site, backup, replace=True)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"Enrichment": {"StateDirectory": str(tmp_path / "state"), "Archives": {"local": {"Url": "http://a/b"}}}}
    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps(settings))
    words = ["--config", str(config), "--json"]
    assert cli.main(["backup", *words]) == 78
    fill(configured(tmp_path))
    capsys.readouterr()
    assert cli.main(["backup", "--out", str(tmp_path), *words]) == 0
    file = json.loads(capsys.readouterr().out)["backup"]
    assert cli.main(["restore", file, *words]) == 1
    assert cli.main(["restore", file, "--replace", *words]) == 0
