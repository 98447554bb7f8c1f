"""The tables of the ledger, and a decision as one row of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import sqlalchemy as sa
from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, ValidationError

from orthanc_plugin.domain.job import EnrichJob, JobState, Priority
from orthanc_plugin.jobs.record import Summary

schema = sa.MetaData()
# Texts have no length limit: archives hold UIDs that are too long, and PostgreSQL would refuse their rows.
decisions = sa.Table(
    "enrichment_decisions",
    schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("archive", sa.Text, nullable=False),
    sa.Column("study_instance_uid", sa.Text, nullable=False, index=True),
    sa.Column("series_instance_uid", sa.Text, nullable=False, index=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("received", sa.Text, nullable=False),
    sa.Column("first_seen", sa.Text, nullable=False, index=True),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("superseded_by", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False, index=True),
    sa.Column("argument", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("ended_at", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("priority", sa.Text, nullable=False, server_default=Priority.NORMAL),
    sa.Column("models", sa.Text, nullable=False, server_default="", index=True),
    sa.UniqueConstraint("archive", "fingerprint"),
)
notes = sa.Table(
    "enrichment_notes",
    schema,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
promises = sa.Table(
    "enrichment_promises",
    schema,
    sa.Column("executor_id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("cgroup", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)


def text_of_time(moment: datetime | None) -> str:
    """Write a time as the tables hold it; empty for none."""
    return moment.isoformat(timespec="milliseconds") if moment else ""


def _time_of_text(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def summary_of_text(text: str) -> Summary:
    """Read what a row keeps of a job; empty before it ends."""
    return Summary.from_json(text) if text else Summary()


_Time = Annotated[datetime, BeforeValidator(_time_of_text), PlainSerializer(text_of_time)]
_OptionalTime = Annotated[datetime | None, BeforeValidator(_time_of_text), PlainSerializer(text_of_time)]
_SummaryText = Annotated[Summary, BeforeValidator(summary_of_text), PlainSerializer(Summary.to_json)]


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


DECISION = TypeAdapter(Decision)


def values_of(decision: Decision) -> dict[str, str | int]:
    """Give the values of a row."""
    values: dict[str, str | int] = DECISION.dump_python(decision, mode="json")
    return values | {"models": models_of(decision.argument)}


def models_of(argument: str) -> str:
    """Name the models of a job, each between commas, so that a search finds whole names only."""
    try:
        plan = EnrichJob.from_json(argument).plan
    except ValidationError:  # a skip has none, and a search must not stop at an odd one
        return ""
    location = [plan.location.model] if plan.location is not None and plan.location.model is not None else []
    return f",{','.join(model.name for model in (*plan.models, *location))},"
