"""What the ledger keeps of a job that ended, and what the API and the command line show of a job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.job import FIND_MASKS, JobState, Priority, StageOutcome, StageView, stage_of_mask
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.errors import Refusal


@dataclass(frozen=True, slots=True)
class MeasuredMask:
    """A SEG or an RT structure set of others, and the report on it (SOPInstanceUID; empty if there is none)."""

    series_instance_uid: str
    sop_instance_uid: str
    report: str


@dataclass(frozen=True, slots=True)
class Summary(JsonRecord):
    """What the ledger keeps of a job that ended.

    instead: what destinations got in place of objects that they do not support.
    masks: the objects with masks of others that the job listed last; None if it listed none.
    """

    stages: tuple[StageView, ...] = ()
    objects: tuple[StoredObject, ...] = ()
    instead: tuple[StoredObject, ...] = ()
    masks: Annotated[tuple[MeasuredMask, ...] | None, Field(exclude_if=lambda masks: masks is None)] = None

    def to_json(self) -> str:
        """Write the record as JSON, as 0.1.0 wrote it where there are no substitutes."""
        record = json.loads(JsonRecord.to_json(self))
        if not record["instead"]:
            del record["instead"]
        return json.dumps(record, sort_keys=True)


def summarise(outcomes: Sequence[StageOutcome]) -> Summary:
    """Gather the stages of a job and the objects they stored."""
    objects = tuple(stored for outcome in outcomes for stored in outcome.objects)
    return Summary(tuple(outcome.stage for outcome in outcomes), objects, masks=_masks(outcomes))


def _masks(outcomes: Sequence[StageOutcome]) -> tuple[MeasuredMask, ...] | None:
    by_stage = {outcome.stage.name: outcome for outcome in outcomes}
    listed = by_stage.get(FIND_MASKS)
    if listed is None or not (listed.masks or listed.reason == Refusal.NO_MASKS):
        return None
    reports = {name: outcome.stored.sop_instance_uid for name, outcome in by_stage.items() if outcome.stored}
    return tuple(
        MeasuredMask(one.series_instance_uid, one.sop_instance_uid, reports.get(stage_of_mask(one), ""))
        for one in listed.masks
    )


def with_earlier(summary: Summary, earlier: Summary) -> Summary:
    """Add the objects that the ledger names beside: of an earlier run, or of a stage that did not end."""
    known = {item.sop_instance_uid for item in summary.objects}
    more = (item for item in earlier.objects if item.sop_instance_uid not in known)
    masks = earlier.masks if summary.masks is None else summary.masks
    return replace(summary, objects=(*summary.objects, *more), instead=earlier.instead, masks=masks)


def without_masks(before: Summary, now: Summary) -> dict[StoredObject, str]:
    """Return the reports of a summary whose masks a later listing no longer has, and the series of those masks."""
    if now.masks is None:
        return {}
    there = {mask.sop_instance_uid for mask in now.masks}
    made = {item.sop_instance_uid for item in now.objects}
    gone = {mask.report: mask.series_instance_uid for mask in before.masks or () if mask.sop_instance_uid not in there}
    named = (item for item in before.objects if item.sop_instance_uid not in made)
    return {item: gone[item.sop_instance_uid] for item in named if item.sop_instance_uid in gone}


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """The copy of a job's results to one further destination, or the withdrawal of outdated ones from an archive.

    kind: `deliver` or `withdraw`.
    notes: what it did, once it is done; what was sent instead of what.
    workflow_id: id in the job engine; it names the run of the job, too.
    """

    destination: str
    state: JobState
    error: str
    kind: str = "deliver"
    job_id: str = ""
    created_at: datetime | None = None
    ended_at: datetime | None = None
    notes: tuple[str, ...] = ()
    workflow_id: str = ""

    @property
    def try_again(self) -> str:
        """Path of the API that tries it again; empty unless it failed or was cancelled."""
        if self.state not in (JobState.FAILED, JobState.CANCELLED):
            return ""
        return f"deliveries/{quote(self.job_id, safe='')}/{quote(self.destination, safe='')}/retry"

    @property
    def sent_instead(self) -> bool:
        """Whether it is a copy that is done, and sent something in place of what the archive did not take."""
        return self.kind == "deliver" and self.state is JobState.DONE and len(self.notes) > 1


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the API and the command line show it. Times are UTC.

    stuck: the job is running, but no worker says that it works on it.
    waits_for: what a waiting job waits for beside its turn, or a running one.
    """

    id: str
    state: JobState
    archive: str
    study_instance_uid: str
    series_instance_uid: str
    rule: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str
    stages: tuple[StageView, ...]
    objects: tuple[StoredObject, ...]
    stage: str = ""
    deliveries: tuple[DeliveryView, ...] = field(default=())
    stuck: bool = False
    priority: Priority = Priority.NORMAL
    waits_for: str = ""

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """Results of the quality checks of all stages."""
        return tuple(result for stage in self.stages for result in stage.checks)

    @property
    def location(self) -> BodyLocation | None:
        """Where in the body the scan lies; None if the job did not ask or does not know yet."""
        return next((stage.location for stage in self.stages if stage.location is not None), None)
