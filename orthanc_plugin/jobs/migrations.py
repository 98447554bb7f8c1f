"""Steps that bring the job database of an earlier release up to this one, and the refusal of a later one.

Each step has a number; the database keeps the number of the last one as a note. A step may run twice and at the same
time as in another process, because service and workers of one release start together. Steps only add, so that jobs of
the release before can end. The job engine (DBOS) migrates its own tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from orthanc_plugin import __version__
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs.database import add_column, add_index, open_engine
from orthanc_plugin.jobs.rows import decisions, models_of, notes

NOTE = "schema"


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database says of itself. number: of the last step, 0 before there were any; release: which took it."""

    number: int = 0
    release: str = "0.1.0"


@dataclass(frozen=True, slots=True)
class _Step:
    number: int
    take: Callable[[sa.Engine], None]


def read_schema(engine: sa.Engine) -> Schema:
    """Return what the database says of itself; a new database says nothing."""
    if not sa.inspect(engine).has_table(notes.name):
        return Schema()
    with engine.connect() as connection:
        kept = connection.execute(sa.select(notes.c.value).where(notes.c.key == NOTE)).scalar_one_or_none()
    return Schema(**json.loads(kept)) if kept else Schema()


def refuse_newer(schema: Schema) -> None:
    """Raise ConfigError if a later release has changed the database."""
    if schema.number > SCHEMA_NUMBER:
        raise ConfigError(
            f"a newer release, {schema.release}, has changed the job database (schema {schema.number}; this release,"
            f" {__version__}, knows {SCHEMA_NUMBER}): install {schema.release} or newer again, or restore the backup"
            " that was made before the upgrade (docs/operations/upgrade.md)"
        )


def check_schema(database_url: str) -> None:
    """Refuse a database of a later release before anything, such as the job engine, changes it."""
    engine = open_engine(database_url)
    try:
        refuse_newer(read_schema(engine))
    finally:
        engine.dispose()


def migrate(engine: sa.Engine) -> None:
    """Take the steps that a database lacks.

    Raises
    ------
    ConfigError
        If a later release has changed it; nothing is written then.
    """
    found = read_schema(engine)
    refuse_newer(found)
    if found.number == SCHEMA_NUMBER:
        return
    for step in _STEPS:
        if step.number > found.number:
            step.take(engine)
    kept = json.dumps({"number": SCHEMA_NUMBER, "release": __version__})
    with suppress(sa.exc.IntegrityError), engine.begin() as connection:  # another process was faster
        if not connection.execute(sa.update(notes).where(notes.c.key == NOTE).values(value=kept)).rowcount:
            connection.execute(sa.insert(notes).values(key=NOTE, value=kept))


def _priority_and_models(engine: sa.Engine) -> None:
    """Add what 0.1.0 lacks: the priority of a job, and the models that it ran."""
    add_column(engine, decisions.c.priority)
    if add_column(engine, decisions.c.models):
        jobs = sa.select(decisions.c.id, decisions.c.argument).where(decisions.c.argument != "")
        with engine.begin() as connection:
            for row, argument in connection.execute(jobs).all():
                values = {"models": models_of(argument)}
                connection.execute(sa.update(decisions).where(decisions.c.id == row).values(values))
    for index in decisions.indexes:
        add_index(engine, index)


_STEPS = (_Step(1, _priority_and_models),)
SCHEMA_NUMBER = _STEPS[-1].number
