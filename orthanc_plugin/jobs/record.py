"""What a job is told, what its stages say, and what others see of it: small records that go to and from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from orthanc_plugin.codes import Code
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.plan import Output, Plan, StoredObject
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.location_json import location_from_raw, raw_location


class JobState(StrEnum):
    """Where a decision stands. The last four are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"


OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class EnrichJob:
    """All that a worker is told. `archive` holds the series; results go to `plan.home_archive`."""

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    fingerprint: str
    generation: int
    plan: Plan

    def to_json(self) -> str:
        """The job as the one argument of its workflow."""
        flat = {key: getattr(self, key) for key in self.__slots__ if key != "plan"}
        return json.dumps({**flat, "plan": self.plan.to_json()}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EnrichJob:
        """The job of a workflow's argument."""
        raw = json.loads(text)
        return cls(**{**raw, "plan": Plan.from_json(raw["plan"])})


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
class StageOutcome:
    """What one step of the workflow leaves behind.

    stored: the object it stored or adopted.
    state: RUNNING when the job goes on; FAILED or SKIPPED when it ends here, with `reason` and `detail`.
    """

    stage: StageView
    stored: StoredObject | None = None
    state: JobState = JobState.RUNNING
    reason: str = ""
    detail: str = ""

    def to_json(self) -> str:
        """The outcome as a step's recorded result."""
        content = asdict(replace(self, stage=_BARE)) | {"stage": raw_stage(self.stage)}
        return json.dumps(content, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> StageOutcome:
        """The outcome of a recorded result."""
        raw = json.loads(text)
        stored = stored_object(raw["stored"]) if raw["stored"] else None
        return cls(stage_view(raw["stage"]), stored, JobState(raw["state"]), raw["reason"], raw["detail"])


_BARE = StageView("", 0.0, 0.0)


def raw_stage(stage: StageView) -> dict[str, Any]:
    """A stage for JSON."""
    location = None if stage.location is None else raw_location(stage.location)
    return {**asdict(replace(stage, location=None)), "location": location}


def stage_view(raw: Mapping[str, Any]) -> StageView:
    """A stage out of JSON."""
    location = location_from_raw(raw["location"]) if raw.get("location") else None
    checks = tuple(map(_check, raw.get("checks", ())))
    return StageView(**{**raw, "notes": tuple(raw["notes"]), "location": location, "checks": checks})


def _check(raw: Mapping[str, Any]) -> CheckResult:
    return CheckResult(**{**raw, "check": Check(raw["check"]), "unit": Code(**raw["unit"])})


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


def stored_object(raw: Mapping[str, Any]) -> StoredObject:
    """A stored object out of JSON."""
    return StoredObject(**{**raw, "kind": Output(raw["kind"])})


@dataclass(frozen=True, slots=True)
class Summary:
    """What the ledger keeps of a job that ended."""

    stages: tuple[StageView, ...] = ()
    objects: tuple[StoredObject, ...] = ()

    def to_json(self) -> str:
        """The summary as the ledger's column."""
        objects = [asdict(stored) for stored in self.objects]
        content = {"stages": [raw_stage(stage) for stage in self.stages], "objects": objects}
        return json.dumps(content, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """The summary of the ledger's column; empty for an empty text."""
        raw = json.loads(text) if text else {"stages": (), "objects": ()}
        return cls(tuple(map(stage_view, raw["stages"])), tuple(map(stored_object, raw["objects"])))


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
