"""What a person looks for among the decisions: the conditions of one search, and their SQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orthanc_plugin.domain.job import JobState


@dataclass(frozen=True, slots=True)
class Search:
    """Conditions, all of which must be met; an empty one sets no condition.

    studies: any of these StudyInstanceUIDs. series: a SeriesInstanceUID, or its end.
    text: part of the detail. model: a model of the job's plan. since, until: when the series was decided on.
    standing: only decisions that no newer content replaced. jobs_only: leaves out skips that have no job.
    """

    states: tuple[JobState, ...] = ()
    archive: str = ""
    studies: tuple[str, ...] = ()
    series: str = ""
    reason: str = ""
    text: str = ""
    rule: str = ""
    model: str = ""
    since: datetime | None = None
    until: datetime | None = None
    standing: bool = False
    jobs_only: bool = False


EVERYTHING = Search()


def conditions(search: Search, table: sa.Table) -> Iterator[sa.ColumnElement[bool]]:
    """Give the conditions of a search on the table of decisions."""
    column = table.c
    for name in ("archive", "reason", "rule"):
        if wanted := getattr(search, name):
            yield column[name] == wanted
    if search.states:
        yield column.state.in_(search.states)
    if search.studies:
        yield column.study_instance_uid.in_(search.studies)
    if search.series:
        yield sa.or_(
            column.series_instance_uid == search.series,
            column.series_instance_uid.endswith(search.series.lstrip("…"), autoescape=True),
        )
    if search.text:
        yield column.detail.contains(search.text, autoescape=True)
    if search.model:  # an index holds this column and the number of the row, and not the long texts of a row
        named = sa.select(column.id).where(column.models.contains(f",{search.model},", autoescape=True))
        yield column.id.in_(named)
    if search.since is not None:
        yield column.first_seen >= _text(search.since)
    if search.until is not None:
        yield column.first_seen < _text(search.until)
    if search.standing:
        yield column.superseded_by == ""
    if search.jobs_only:
        yield column.job_id != ""


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
