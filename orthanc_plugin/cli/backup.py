"""The commands `orthanc-enrich backup` and `orthanc-enrich restore`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Commands, Desk


def add_commands(commands: Commands) -> None:
    """Add `backup` and `restore`."""
    backup = commands.add("backup", run_backup, "write job database and state directory to one file, while all runs")
    text = "file or folder (default: a file named by the time, in this folder)"
    backup.add_argument("--out", type=Path, default=Path(), metavar="FILE", help=text)
    restore = commands.add("restore", run_restore, "put a backup back; the service must not run")
    restore.add_argument("file", type=Path, metavar="FILE", help="the backup")
    text = "put it in the place of a job database that has decisions already"
    restore.add_argument("--replace", action="store_true", help=text)


def run_backup(desk: Desk) -> None:
    """Back up."""
    from orthanc_plugin.jobs.backup import back_up

    target: Path = desk.options.out
    if target.is_dir():
        target /= f"enrichment-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    desk.acts(What.EXPORT)
    manifest = back_up(desk.configuration, target.resolve())
    facts = {"backup": str(target), "database": manifest.kind, "schema": manifest.schema, "files": len(manifest.files)}
    desk.say(facts)


def run_restore(desk: Desk) -> None:
    """Restore."""
    from orthanc_plugin.jobs.backup import restore

    desk.acts(What.SETTINGS)
    manifest = restore(desk.configuration, desk.options.file, replace=desk.options.replace)
    desk.say({"restored": str(desk.options.file), "made_at": manifest.made_at, "release": manifest.release})
