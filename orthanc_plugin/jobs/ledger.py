"""The ledger: one row for each content of a series that was decided on, with the decision and its outcome.

The job engine keeps no skips and forgets finished jobs. The ledger keeps both in the same database (SQLite or
PostgreSQL), so that one transaction writes a decision and its job. A second, small table holds notes: how far the
changes of each archive were read, and the hints that still wait. Rows hold UIDs and never patient data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from orthanc_plugin.domain.job import OPEN_STATES, EnrichJob, JobState, Priority
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.database import database_time
from orthanc_plugin.jobs.engine import QUEUED_WORDS, UNFINISHED_WORDS, engine_workflows
from orthanc_plugin.jobs.migrations import migrate
from orthanc_plugin.jobs.notes import Notes
from orthanc_plugin.jobs.record import Summary, with_earlier
from orthanc_plugin.jobs.rows import DECISION, summary_of_text, text_of_time, values_of
from orthanc_plugin.jobs.rows import Decision as Decision
from orthanc_plugin.jobs.rows import Enriched as Enriched
from orthanc_plugin.jobs.rows import Verdict as Verdict
from orthanc_plugin.jobs.rows import decisions as _decisions
from orthanc_plugin.jobs.search import EVERYTHING, Search, conditions

_HAS_STAGES = '%"stages": [{%'
"""How `Summary` writes the stages of a job that has some."""


class Ledger(Notes):
    """Reads and writes decisions, and notes beside them; several threads may share one object.

    Parameters
    ----------
    database_url : str
        `sqlite:////absolute/path` or `postgresql://...`. A missing SQLite file is created, readable by its owner only.

    Raises
    ------
    ConfigError
        If a later release has changed the database.
    """

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        migrate(self.engine)

    def add(self, connection: sa.Connection, decision: Decision) -> None:
        """Write a new row; raise sqlalchemy's IntegrityError if this content was decided on before."""
        connection.execute(sa.insert(_decisions).values(values_of(decision)))

    def supersede(self, connection: sa.Connection, decision: Decision) -> tuple[str, ...]:
        """Point the older rows of the series to this content; return the jobs that were still queued."""
        older = sa.and_(
            _decisions.c.archive == decision.archive,
            _decisions.c.series_instance_uid == decision.series_instance_uid,
            _decisions.c.superseded_by == "",
            _decisions.c.fingerprint != decision.fingerprint,
        )
        queued = sa.and_(older, _decisions.c.state == JobState.QUEUED)
        ended = {"state": JobState.SUPERSEDED, "ended_at": text_of_time(datetime.now(UTC))}
        # One statement: in PostgreSQL, a worker could begin the job between a SELECT and an UPDATE.
        ending = sa.update(_decisions).where(queued).values(ended).returning(_decisions.c.job_id)
        jobs = tuple(connection.execute(ending).scalars())
        connection.execute(sa.update(_decisions).where(older).values(superseded_by=decision.fingerprint))
        return jobs

    def of_series(self, archive: str, series_uid: str) -> tuple[Decision, ...]:
        """Return all decisions on a series, oldest first."""
        same = (_decisions.c.archive == archive, _decisions.c.series_instance_uid == series_uid)
        return self._rows(sa.select(_decisions).where(*same).order_by(_decisions.c.id))

    def of_series_anywhere(self, series_uid: str) -> tuple[Decision, ...]:
        """Return all decisions on a series in any archive, oldest first."""
        same = _decisions.c.series_instance_uid == series_uid
        return self._rows(sa.select(_decisions).where(same).order_by(_decisions.c.id))

    def with_details(self, before: datetime, limit: int) -> tuple[Decision, ...]:
        """Return decisions that ended before a time and still have measurements or messages, the oldest first."""
        ended = sa.and_(_decisions.c.ended_at != "", _decisions.c.ended_at < text_of_time(before))
        details = sa.or_(_decisions.c.detail != "", _decisions.c.summary.like(_HAS_STAGES))
        closed = _decisions.c.state.not_in(OPEN_STATES)
        found = sa.select(_decisions).where(ended, closed, details).order_by(_decisions.c.id).limit(limit)
        return self._rows(found)

    def forget_details(self, decision: Decision) -> None:
        """Remove the measurements and messages of a decision; its UIDs and the names of its objects stay."""
        same = (_decisions.c.archive == decision.archive, _decisions.c.fingerprint == decision.fingerprint)
        left = {"detail": "", "summary": replace(decision.summary, stages=()).to_json()}
        with self.engine.begin() as connection:
            connection.execute(sa.update(_decisions).where(*same).values(left))

    def of_job(self, job_id: str) -> Decision | None:
        """Return the row of a job."""
        return next(iter(self._rows(sa.select(_decisions).where(_decisions.c.job_id == job_id))), None)

    def jobs_among(self, ids: Iterable[str]) -> frozenset[str]:
        """Return those of the ids that are jobs."""
        found = sa.select(_decisions.c.job_id).where(_decisions.c.job_id.in_(set(ids)))
        with self.engine.connect() as connection:
            return frozenset(connection.execute(found).scalars())

    def enriched(self, archive: str, after: int, limit: int, holding: str = "sop_instance_uid") -> tuple[Enriched, ...]:
        """Return the jobs of an archive that ended with results, from a row on; not those whose series is gone.

        holding: a word that the summary of the job must contain.
        """
        found = sa.select(_decisions.c.id, _decisions.c.job_id, _decisions.c.series_instance_uid).where(
            _decisions.c.archive == archive,
            _decisions.c.id > after,
            _decisions.c.job_id != "",
            _decisions.c.state.not_in(OPEN_STATES),
            _decisions.c.reason != Refusal.GONE,
            _decisions.c.summary.contains(holding),
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

    def named_elsewhere(self, job_id: str, archive: str) -> frozenset[str]:
        """Return the objects in an archive that other jobs on the same content name, whose results count."""
        row = self.of_job(job_id)
        rows = self.of_series_anywhere(row.series_instance_uid) if row is not None else ()
        others = (one for one in rows if one.job_id not in ("", job_id) and not one.superseded_by)
        return frozenset(
            item.sop_instance_uid
            for one in others
            if (plan := EnrichJob.from_json(one.argument).plan) and archive in (plan.home_archive, *plan.destinations)
            for item in one.summary.objects
        )

    def open_jobs(self, *states: JobState) -> tuple[Decision, ...]:
        """Return the jobs that are queued or running, or only those in one of these states."""
        query = sa.select(_decisions).where(_decisions.c.state.in_(states or OPEN_STATES))
        return self._rows(query.order_by(_decisions.c.id))

    def unsettled(self, *, held: bool) -> tuple[Decision, ...]:
        """Return the open jobs that the engine does not have, or that it ended; there may be 100,000 others.

        held: jobs of backfills that wait are left out: they are cancelled in the engine until their time comes.
        """
        workflow = engine_workflows(self.engine)
        lost = sa.or_(workflow.c.status.is_(None), workflow.c.status.not_in(UNFINISHED_WORDS))
        query = sa.select(_decisions).outerjoin(workflow, workflow.c.workflow_uuid == _decisions.c.job_id)
        query = query.where(_decisions.c.state.in_(OPEN_STATES), lost)
        if held:
            rests = sa.and_(_waits_for_backfill(), workflow.c.status == "CANCELLED")
            query = query.where(sa.or_(workflow.c.status.is_(None), ~rests))
        return self._rows(query.order_by(_decisions.c.id))

    def backfill_in_engine(self) -> tuple[str, ...]:
        """Return the jobs of backfills that a worker would take."""
        workflow = engine_workflows(self.engine)
        query = sa.select(_decisions.c.job_id).join(workflow, workflow.c.workflow_uuid == _decisions.c.job_id)
        with self.engine.connect() as connection:
            found = connection.execute(query.where(_waits_for_backfill(), workflow.c.status.in_(QUEUED_WORDS)))
            return tuple(found.scalars())

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

    def decisions(self, search: Search = EVERYTHING, *, limit: int = 50, offset: int = 0) -> tuple[Decision, ...]:
        """Return the rows that a search finds, newest first."""
        found = sa.select(_decisions).where(*conditions(search, _decisions))
        return self._rows(found.order_by(_decisions.c.id.desc()).limit(limit).offset(offset))

    def known(self, column: str) -> tuple[str, ...]:
        """Return the different values of `archive`, `rule` or `reason`, sorted."""
        values = sa.select(_decisions.c[column]).distinct()
        with self.engine.connect() as connection:
            return tuple(sorted(filter(None, connection.execute(values).scalars())))

    def queued_backfill(self) -> int:
        """Count the jobs of backfills that no worker has begun."""
        with self.engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(_waits_for_backfill())).scalar_one())

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
            _decisions.c.first_seen >= text_of_time(since),
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
        values = values_of(replace(new, summary=old.summary))
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
        return self._move(job_id, OPEN_STATES, state=JobState.RUNNING, started_at=text_of_time(now))

    def end(self, job_id: str, state: JobState, reason: str, detail: str, summary: Summary | None = None) -> bool:
        """Write how an open job ended; return False if it had ended before. Objects that its row names stay named."""
        values = {"state": state, "reason": reason, "detail": detail, "ended_at": text_of_time(datetime.now(UTC))}
        opened = sa.and_(_decisions.c.job_id == job_id, _decisions.c.state.in_(OPEN_STATES))
        with self.engine.begin() as connection:
            if summary is not None:
                named = sa.select(_decisions.c.summary).where(opened).with_for_update()
                earlier = summary_of_text(connection.execute(named).scalar() or "")
                values["summary"] = with_earlier(summary, earlier).to_json()
            return connection.execute(sa.update(_decisions).where(opened).values(values)).rowcount > 0

    def withdraw(self, job_id: str, reason: str, detail: str) -> bool:
        """Write that a job is skipped before it began; return False if a worker has begun it, or it has ended."""
        ended_at = text_of_time(datetime.now(UTC))
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
                before = summary_of_text(text)
                kept = tuple(one for one in before.instead if one.sop_instance_uid != item.sop_instance_uid)
                after = replace(before, instead=(*kept, item))
                connection.execute(sa.update(_decisions).where(same).values(summary=after.to_json()))

    def _change_objects(self, job_id: str, added: StoredObject | None, dropped: tuple[str, ...]) -> None:
        same = _decisions.c.job_id == job_id
        with self.engine.begin() as connection:
            found = connection.execute(sa.select(_decisions.c.summary).where(same).with_for_update()).scalars()
            for text in found.all():
                before = summary_of_text(text)
                gone = (*dropped, added.sop_instance_uid) if added else dropped
                kept = tuple(one for one in before.objects if one.sop_instance_uid not in gone)
                after = replace(before, objects=(*kept, added) if added else kept)
                connection.execute(sa.update(_decisions).where(same).values(summary=after.to_json()))

    def prioritise(self, job_id: str, priority: Priority) -> bool:
        """Write how soon a job that waits is taken up; return False if it does not wait."""
        return self._move(job_id, (JobState.QUEUED,), priority=priority)

    def _rows(self, query: sa.Select[tuple[object, ...]]) -> tuple[Decision, ...]:
        with self.engine.connect() as connection:
            return tuple(DECISION.validate_python(dict(row._mapping)) for row in connection.execute(query))

    def _move(self, job_id: str, states: tuple[JobState, ...], **values: str) -> bool:
        row = sa.and_(_decisions.c.job_id == job_id, _decisions.c.state.in_(states))
        with self.engine.begin() as connection:
            return connection.execute(sa.update(_decisions).where(row).values(values)).rowcount > 0


def _waits_for_backfill() -> sa.ColumnElement[bool]:
    return sa.and_(_decisions.c.state == JobState.QUEUED, _decisions.c.priority == Priority.BACKFILL)
