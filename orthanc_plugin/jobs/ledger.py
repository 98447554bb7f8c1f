"""The ledger: one row for each content of a series that was decided on, with the decision and its outcome.

The job engine keeps no skips and forgets finished jobs. The ledger keeps both in the same database (SQLite or
PostgreSQL), so that one transaction writes a decision and its job. A second, small table holds notes: how far the
changes of each archive were read, and the hints that still wait. Rows hold UIDs and never patient data.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import sqlalchemy as sa
from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from orthanc_plugin.domain.job import OPEN_STATES, EnrichJob, JobState, Priority
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.database import add_column, database_time, open_engine
from orthanc_plugin.jobs.record import Summary, with_earlier

_schema = sa.MetaData()
# Texts have no length limit: archives hold UIDs that are too long, and PostgreSQL would refuse their rows.
_decisions = sa.Table(
    "enrichment_decisions",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("archive", sa.Text, nullable=False),
    sa.Column("study_instance_uid", sa.Text, nullable=False),
    sa.Column("series_instance_uid", sa.Text, nullable=False, index=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("received", sa.Text, nullable=False),
    sa.Column("first_seen", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("superseded_by", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("argument", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("ended_at", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("priority", sa.Text, nullable=False, server_default=Priority.NORMAL),
    sa.UniqueConstraint("archive", "fingerprint"),
)
_notes = sa.Table(
    "enrichment_notes",
    _schema,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def _text_of_time(moment: datetime | None) -> str:
    return moment.isoformat(timespec="milliseconds") if moment else ""


def _time_of_text(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _summary_of_text(text: str) -> Summary:
    return Summary.from_json(text) if text else Summary()


_Time = Annotated[datetime, BeforeValidator(_time_of_text), PlainSerializer(_text_of_time)]
_OptionalTime = Annotated[datetime | None, BeforeValidator(_time_of_text), PlainSerializer(_text_of_time)]
_SummaryText = Annotated[Summary, BeforeValidator(_summary_of_text), PlainSerializer(Summary.to_json)]


class Verdict(StrEnum):
    """The decision on a series."""

    ENRICH = "enrich"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of the ledger.

    received: Orthanc's LastUpdate of the series at the decision; empty for other archives.
    reason: why the job was skipped or failed: a `Refusal`, `failed` or `cancelled`.
    detail: the reason as a sentence, with the answer of the archive if there is one.
    superseded_by: fingerprint of the content that came later.
    argument: the job as `EnrichJob` writes it; empty for a skip.
    """

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    fingerprint: str
    generation: int
    received: str
    first_seen: _Time
    decision: Verdict
    state: JobState
    reason: str = ""
    detail: str = ""
    job_id: str = ""
    superseded_by: str = ""
    rule: str = ""
    argument: str = ""
    started_at: _OptionalTime = None
    ended_at: _OptionalTime = None
    summary: _SummaryText = field(default=Summary())
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Enriched:
    """A job that ended and has stored something; `row`: number of its row."""

    row: int
    job_id: str
    series_instance_uid: str


_DECISION = TypeAdapter(Decision)


class Ledger:
    """Reads and writes decisions and notes; several threads may share one object.

    Parameters
    ----------
    database_url : str
        `sqlite:////absolute/path` or `postgresql://...`. A missing SQLite file is created, readable by its owner only.
    """

    def __init__(self, database_url: str) -> None:
        self.engine = open_engine(database_url)
        _schema.create_all(self.engine)
        add_column(self.engine, _decisions.c.priority)  # tables of 0.1.0 lack it

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Begin a transaction."""
        return self.engine.begin()

    def add(self, connection: sa.Connection, decision: Decision) -> None:
        """Write a new row; raise sqlalchemy's IntegrityError if this content was decided on before."""
        connection.execute(sa.insert(_decisions).values(_DECISION.dump_python(decision, mode="json")))

    def supersede(self, connection: sa.Connection, decision: Decision) -> tuple[str, ...]:
        """Point the older rows of the series to this content; return the jobs that were still queued."""
        older = sa.and_(
            _decisions.c.archive == decision.archive,
            _decisions.c.series_instance_uid == decision.series_instance_uid,
            _decisions.c.superseded_by == "",
            _decisions.c.fingerprint != decision.fingerprint,
        )
        queued = sa.and_(older, _decisions.c.state == JobState.QUEUED)
        ended = {"state": JobState.SUPERSEDED, "ended_at": _text_of_time(datetime.now(UTC))}
        # One statement: in PostgreSQL, a worker could begin the job between a SELECT and an UPDATE.
        ending = sa.update(_decisions).where(queued).values(ended).returning(_decisions.c.job_id)
        jobs = tuple(connection.execute(ending).scalars())
        connection.execute(sa.update(_decisions).where(older).values(superseded_by=decision.fingerprint))
        return jobs

    def of_series(self, archive: str, series_uid: str) -> tuple[Decision, ...]:
        """Return all decisions on a series, oldest first."""
        same = (_decisions.c.archive == archive, _decisions.c.series_instance_uid == series_uid)
        return self._rows(sa.select(_decisions).where(*same).order_by(_decisions.c.id))

    def of_job(self, job_id: str) -> Decision | None:
        """Return the row of a job."""
        return next(iter(self._rows(sa.select(_decisions).where(_decisions.c.job_id == job_id))), None)

    def enriched(self, archive: str, after: int, limit: int) -> tuple[Enriched, ...]:
        """Return the jobs of an archive that ended with results, from a row on; not those whose series is gone."""
        found = sa.select(_decisions.c.id, _decisions.c.job_id, _decisions.c.series_instance_uid).where(
            _decisions.c.archive == archive,
            _decisions.c.id > after,
            _decisions.c.job_id != "",
            _decisions.c.state.not_in(OPEN_STATES),
            _decisions.c.reason != Refusal.GONE,
            _decisions.c.summary.contains("sop_instance_uid"),
        )
        with self.engine.connect() as connection:
            rows = connection.execute(found.order_by(_decisions.c.id).limit(limit))
            return tuple(Enriched(*row) for row in rows)

    def last_row(self) -> int:
        """Return the number of the newest row; 0 if there is none."""
        with self.engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.max(_decisions.c.id))).scalar_one() or 0)

    def lose_source(self, job_id: str, detail: str) -> bool:
        """Write that the series of a job that ended is gone; return False if the job is open, or this was known."""
        ended = sa.and_(
            _decisions.c.job_id == job_id,
            _decisions.c.state.not_in(OPEN_STATES),
            _decisions.c.reason != Refusal.GONE,
        )
        values = {"state": JobState.SKIPPED, "reason": Refusal.GONE, "detail": detail}
        with self.engine.begin() as connection:
            return connection.execute(sa.update(_decisions).where(ended).values(values)).rowcount > 0

    def still_counts(self, job_id: str, archive: str = "") -> bool:
        """Tell whether the results of a job are valid: its own row says so, or a job on the same content elsewhere.

        The same CT in two archives has one fingerprint, so the jobs of both share their results. With `archive`, only
        jobs count that store or deliver results there.
        """
        same = sa.select(_decisions.c.fingerprint).where(_decisions.c.job_id == job_id).scalar_subquery()
        valid = sa.select(_decisions).where(
            _decisions.c.fingerprint == same,
            _decisions.c.superseded_by == "",
            sa.or_(
                _decisions.c.state == JobState.DONE,
                sa.and_(_decisions.c.job_id != job_id, _decisions.c.state.in_(OPEN_STATES)),
            ),
        )
        rows = self._rows(valid)
        plans = (EnrichJob.from_json(row.argument).plan for row in rows if archive)
        return bool(rows) if not archive else any(archive in (p.home_archive, *p.destinations) for p in plans)

    def open_jobs(self, *states: JobState) -> tuple[Decision, ...]:
        """Return the jobs that are queued or running, or only those in one of these states."""
        query = sa.select(_decisions).where(_decisions.c.state.in_(states or OPEN_STATES))
        return self._rows(query.order_by(_decisions.c.id))

    def ended_for(self, reason: str, text: str = "") -> tuple[str, ...]:
        """Return the jobs that ended for a reason, oldest first, whose detail contains a text; superseded ones stay."""
        query = sa.select(_decisions.c.job_id).where(
            _decisions.c.job_id != "",
            _decisions.c.state.not_in(OPEN_STATES),
            _decisions.c.superseded_by == "",
            _decisions.c.reason == reason,
            _decisions.c.detail.contains(text, autoescape=True),
        )
        with self.engine.connect() as connection:
            return tuple(connection.execute(query.order_by(_decisions.c.id)).scalars())

    def decisions(
        self, *, state: str | None = None, jobs_only: bool = False, limit: int = 50, offset: int = 0
    ) -> tuple[Decision, ...]:
        """Return the rows of one state, or of all states, newest first."""
        query = sa.select(_decisions).order_by(_decisions.c.id.desc()).limit(limit).offset(offset)
        if state is not None:
            query = query.where(_decisions.c.state == state)
        return self._rows(query.where(_decisions.c.job_id != "") if jobs_only else query)

    def queued_backfill(self) -> int:
        """Count the jobs of backfills that no worker has begun."""
        waiting = (_decisions.c.state == JobState.QUEUED, _decisions.c.priority == Priority.BACKFILL)
        with self.engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(*waiting)).scalar_one())

    def standing(self, archive: str, reason: str = "", text: str = "") -> tuple[tuple[str, str], ...]:
        """Return study and series of each decision that stands, oldest first, except those whose job runs.

        Parameters
        ----------
        archive : str
        reason : str
            Only decisions with this reason.
        text : str
            Only decisions whose detail contains this text.
        """
        query = sa.select(_decisions.c.study_instance_uid, _decisions.c.series_instance_uid).where(
            _decisions.c.archive == archive,
            _decisions.c.superseded_by == "",
            _decisions.c.state != JobState.RUNNING,
            *([_decisions.c.reason == reason] if reason else []),
            _decisions.c.detail.contains(text, autoescape=True),
        )
        with self.engine.connect() as connection:
            found = connection.execute(query.order_by(_decisions.c.id))
            return tuple((str(study), str(series)) for study, series in found)

    def passed_over(self, since: datetime) -> tuple[Decision, ...]:
        """Return the series that were skipped for a better one of their study which was refused afterwards.

        Only decisions since a time count, so that the search stays short.
        """
        study = sa.tuple_(_decisions.c.archive, _decisions.c.study_instance_uid, _decisions.c.rule)
        of_jobs = sa.select(_decisions.c.archive, _decisions.c.study_instance_uid, _decisions.c.rule).where(
            _decisions.c.job_id != ""
        )
        better = _decisions.c.reason == Refusal.BETTER_SERIES
        skipped = _decisions.c.state == JobState.SKIPPED
        stands = _decisions.c.state.in_((*OPEN_STATES, JobState.DONE, JobState.FAILED))
        query = sa.select(_decisions).where(
            skipped,
            better,
            _decisions.c.first_seen >= _text_of_time(since),
            study.in_(of_jobs.where(skipped, ~better)),
            study.not_in(of_jobs.where(stands)),
        )
        return self._rows(query.order_by(_decisions.c.id))

    def replace(self, old: Decision, new: Decision) -> bool:
        """Put a new decision on the same content in the place of an old one; False if the old one has moved on.

        Objects that the old job stored stay in the summary: they are in the archive.
        """
        row = sa.and_(
            _decisions.c.archive == old.archive,
            _decisions.c.fingerprint == old.fingerprint,
            _decisions.c.job_id == old.job_id,
            _decisions.c.state == old.state,
            _decisions.c.superseded_by == "",
        )
        values = _DECISION.dump_python(replace(new, summary=old.summary), mode="json")
        with self.engine.begin() as connection:
            return connection.execute(sa.update(_decisions).where(row).values(values)).rowcount > 0

    def give_up(self, decision: Decision) -> None:
        """Write that a decision no longer stands, so that the same content is decided on again."""
        row = (_decisions.c.archive == decision.archive, _decisions.c.fingerprint == decision.fingerprint)
        with self.engine.begin() as connection:
            connection.execute(sa.update(_decisions).where(*row).values(state=JobState.SUPERSEDED))

    def counts(self) -> dict[JobState, int]:
        """Count the rows in each state."""
        query = sa.select(_decisions.c.state, sa.func.count()).group_by(_decisions.c.state)
        with self.engine.connect() as connection:
            return {JobState(state): int(number) for state, number in connection.execute(query)}

    def start(self, job_id: str) -> bool:
        """Write that a worker has the job; return False if the job was superseded, was cancelled or has ended."""
        with self.engine.connect() as connection:
            now = database_time(connection)
        return self._move(job_id, OPEN_STATES, state=JobState.RUNNING, started_at=_text_of_time(now))

    def end(self, job_id: str, state: JobState, reason: str, detail: str, summary: Summary | None = None) -> bool:
        """Write how an open job ended; return False if it had ended before. Objects that its row names stay named."""
        values = {"state": state, "reason": reason, "detail": detail, "ended_at": _text_of_time(datetime.now(UTC))}
        opened = sa.and_(_decisions.c.job_id == job_id, _decisions.c.state.in_(OPEN_STATES))
        with self.engine.begin() as connection:
            if summary is not None:
                named = sa.select(_decisions.c.summary).where(opened).with_for_update()
                earlier = _summary_of_text(connection.execute(named).scalar() or "")
                values["summary"] = with_earlier(summary, earlier).to_json()
            return connection.execute(sa.update(_decisions).where(opened).values(values)).rowcount > 0

    def withdraw(self, job_id: str, reason: str, detail: str) -> bool:
        """Write that a job is skipped before it began; return False if a worker has begun it, or it has ended."""
        ended_at = _text_of_time(datetime.now(UTC))
        values = {"state": JobState.SKIPPED, "reason": reason, "detail": detail, "ended_at": ended_at}
        return self._move(job_id, (JobState.QUEUED,), **values)

    def reopen(self, job_id: str) -> bool:
        """Write that a job that ended is queued again; return False if it has not ended."""
        ends = tuple(set(JobState) - set(OPEN_STATES))
        return self._move(job_id, ends, state=JobState.QUEUED, reason="", detail="", started_at="", ended_at="")

    def put_back(self, job_id: str) -> bool:
        """Write that a job that a worker has begun waits again; return False if none has it."""
        return self._move(job_id, (JobState.RUNNING,), state=JobState.QUEUED, started_at="")

    def add_object(self, job_id: str, item: StoredObject) -> None:
        """Name an object that a job is about to store: whatever ends the job, nothing is stored without a name."""
        self._change_objects(job_id, item, ())

    def drop_object(self, job_id: str, item: StoredObject) -> None:
        """Forget an object that a job did not store, or took back."""
        self._change_objects(job_id, None, (item.sop_instance_uid,))

    def add_substitute(self, job_id: str, item: StoredObject) -> None:
        """Name an object that a destination is about to get in place of one that it does not support."""
        same = _decisions.c.job_id == job_id
        with self.engine.begin() as connection:
            found = connection.execute(sa.select(_decisions.c.summary).where(same).with_for_update()).scalars()
            for text in found.all():
                before = _summary_of_text(text)
                kept = tuple(one for one in before.instead if one.sop_instance_uid != item.sop_instance_uid)
                after = replace(before, instead=(*kept, item))
                connection.execute(sa.update(_decisions).where(same).values(summary=after.to_json()))

    def _change_objects(self, job_id: str, added: StoredObject | None, dropped: tuple[str, ...]) -> None:
        same = _decisions.c.job_id == job_id
        with self.engine.begin() as connection:
            found = connection.execute(sa.select(_decisions.c.summary).where(same).with_for_update()).scalars()
            for text in found.all():
                before = _summary_of_text(text)
                gone = (*dropped, added.sop_instance_uid) if added else dropped
                kept = tuple(one for one in before.objects if one.sop_instance_uid not in gone)
                after = replace(before, objects=(*kept, added) if added else kept)
                connection.execute(sa.update(_decisions).where(same).values(summary=after.to_json()))

    def check_writable(self) -> None:
        """Write something; raise sqlalchemy's DBAPIError if the database does not take it (disk full, read-only)."""
        self.keep_note("written", _text_of_time(datetime.now(UTC)))

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

    def _rows(self, query: sa.Select[tuple[object, ...]]) -> tuple[Decision, ...]:
        with self.engine.connect() as connection:
            return tuple(_DECISION.validate_python(dict(row._mapping)) for row in connection.execute(query))

    def _move(self, job_id: str, states: tuple[JobState, ...], **values: str) -> bool:
        row = sa.and_(_decisions.c.job_id == job_id, _decisions.c.state.in_(states))
        with self.engine.begin() as connection:
            return connection.execute(sa.update(_decisions).where(row).values(values)).rowcount > 0
