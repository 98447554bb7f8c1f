"""What must be true of a state directory and its database before a process uses them.

A command that only reads creates nothing: a database that root made would keep the service out.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import sqlalchemy as sa

from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs.database import database_engine_url


def check_owner(directory: Path) -> None:
    """Check that a state directory, if it exists, and all that lies in it belong to the user of this process.

    Raises
    ------
    ConfigError
        If another user owns one of them: either side would write files that the other cannot open.
    """
    mine = os.geteuid()
    for path in (directory, *_content(directory)):
        try:
            owner = path.stat(follow_symlinks=False).st_uid
        except OSError:  # not there, or not for us to see: using it says why
            continue
        if owner != mine:
            what = "StateDirectory" if path == directory else f"{path.name} in StateDirectory"
            raise ConfigError(
                f"{what} {directory} belongs to the user {_name(owner)}, and this process runs as {_name(mine)}: run it"
                f" as {_name(owner)}, or give the whole directory to one user (chown -R)"
            )


def check_database(configuration: Configuration) -> None:
    """Check that there is a job database to read.

    Raises
    ------
    ConfigError
        If another user owns the state directory, or no service has made the database yet.
    """
    check_owner(configuration.state_directory)
    url = sa.make_url(configuration.database)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if (file is not None and not file.exists()) or not _has_tables(configuration.database):
        where = f" {file}" if file is not None else ""
        raise ConfigError(
            f"there is no job database{where} yet: no service has run with these settings (StateDirectory"
            f" {configuration.state_directory}); is this the right --config?"
        )


def _content(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []  # a directory of another user is told by its own owner


def _has_tables(database: str) -> bool:
    engine = sa.create_engine(database_engine_url(database))
    try:
        return sa.inspect(engine).has_table("enrichment_decisions")
    except sa.exc.DBAPIError:
        return True  # the queue says why the database cannot be opened
    finally:
        engine.dispose()


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
