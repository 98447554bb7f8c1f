"""What a job is told, what its stages say, and what others see of it: small records that go to and from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.plan import Plan, StoredObject
from orthanc_plugin.errors import Refusal


class JobState(StrEnum):
    """Where a decision stands. The last four are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"


OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)


_PlanText = Annotated[Plan, BeforeValidator(Plan.from_json), PlainSerializer(Plan.to_json)]
"""A plan that is stored as a text inside the text of its job."""


@dataclass(frozen=True, slots=True)
class EnrichJob(JsonRecord):
    """All that a worker is told. `archive` holds the series; results go to `plan.home_archive`."""

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    fingerprint: str
    generation: int
    plan: _PlanText


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage that ended.

    seconds, peak_mib: wall time, and peak resident memory of the worker during it.
    provider: what the model really ran on; of a segmentation only.
    volumes_ml: of the structures that were found, by key.
    notes: what people should know of it.
    location: where in the body the scan lies; of the stage that locates it only.
    checks: what was asked of the masks; of the stage that checks, and of a segmentation that is held back.
    held_back: the rule keeps this segmentation out of the archive.
    """

    name: str
    seconds: float
    peak_mib: float
    provider: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    location: BodyLocation | None = None
    checks: tuple[CheckResult, ...] = ()
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class StageOutcome(JsonRecord):
    """What one step of the workflow leaves behind.

    stored: the object it stored or adopted.
    state: RUNNING when the job goes on; FAILED or SKIPPED when it ends here, with `reason` and `detail`.
    """

    stage: StageView
    stored: StoredObject | None = None
    state: JobState = JobState.RUNNING
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended."""

    state: JobState
    reason: str = ""
    detail: str = ""


def ending(outcomes: Sequence[StageOutcome]) -> Ending:
    """The end of a job by what its stages left; a result that was held back is named even where others are stored."""
    last = outcomes[-1]
    if last.state is not JobState.RUNNING:
        return Ending(last.state, last.reason, last.detail)
    held = [outcome.stage for outcome in outcomes if outcome.stage.held_back]
    if not held:
        return Ending(JobState.DONE)
    stored = any(outcome.stored is not None for outcome in outcomes)
    detail = "; ".join(note for stage in held for note in stage.notes if note.startswith("held back"))
    return Ending(JobState.DONE if stored else JobState.SKIPPED, Refusal.HELD_BACK, detail)


@dataclass(frozen=True, slots=True)
class Summary(JsonRecord):
    """What the ledger keeps of a job that ended."""

    stages: tuple[StageView, ...] = ()
    objects: tuple[StoredObject, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """Copy of a job's results to one further destination."""

    destination: str
    state: JobState
    error: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the API and the command line show it. Times are UTC. `location` lies with its stage."""

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

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """What was asked of the masks, by all stages."""
        return tuple(result for stage in self.stages for result in stage.checks)

    @property
    def location(self) -> BodyLocation | None:
        """Where in the body the scan lies; None where that was not asked or is not known yet."""
        return next((stage.location for stage in self.stages if stage.location is not None), None)
