"""A job: its plan, the outcome of each stage, and how it ended."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.plan import MaskObject, Plan, StoredObject
from orthanc_plugin.domain.shadow import Compared
from orthanc_plugin.errors import Refusal


class JobState(StrEnum):
    """Where a decision stands; the last five are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


class Priority(StrEnum):
    """How soon a job is taken up: an urgent rule comes before new series, and those before a backfill."""

    URGENT = "urgent"
    NORMAL = "normal"
    BACKFILL = "backfill"


OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)

_PlanText = Annotated[Plan, BeforeValidator(Plan.from_json), PlainSerializer(Plan.to_json)]
"""A plan that is stored as a text inside the text of its job."""


@dataclass(frozen=True, slots=True)
class EnrichJob(JsonRecord):
    """A job as a worker receives it: `archive` holds the series, and results go to `plan.home_archive`.

    voxels: pixels of all instances, as the headers say; 0 if not known.
    extent_mm: size of the CT along (z, y, x), as the headers say; None if not known.
    """

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    fingerprint: str
    generation: int
    plan: _PlanText
    voxels: Annotated[int, Field(exclude_if=operator.not_)] = 0
    extent_mm: Annotated[tuple[float, float, float] | None, Field(exclude_if=operator.not_)] = None


FIND_MASKS = "find masks"
"""The stage that lists the masks that others made."""


def stage_of_mask(mask: MaskObject) -> str:
    """Name the stage that measures the masks of one object of others."""
    return f"measure masks {mask.sop_instance_uid}"


@dataclass(frozen=True, slots=True)
class Found:
    """What the body of a stage returns: the object it stored, and words and numbers for people.

    The fields are those of `StageView` and `StageOutcome`.
    """

    stored: StoredObject | None = None
    provider: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    location: BodyLocation | None = None
    checks: tuple[CheckResult, ...] = ()
    held_back: bool = False
    confidence: tuple[CheckResult, ...] = ()
    more: tuple[StoredObject, ...] = ()
    masks: tuple[MaskObject, ...] = ()
    compared: tuple[Compared, ...] = ()


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage that ended.

    seconds, peak_mib: wall time, and peak resident memory of the worker during the stage.
    provider: execution provider that the model really ran on; set for `locate`, `segment` and `shadow` only.
    volumes_ml: volume of each structure that was found, by key.
    notes: remarks for people.
    location: where in the body the scan lies; set for `locate` only.
    checks: results of the quality checks; set for `check`, and for a `segment` whose result is held back.
    held_back: the rule keeps this segmentation out of the archive.
    confidence: how far the members of the model agree, with the model's own numbers; `check` reports it.
    compared: what a shadow model found; set for `shadow` only.
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
    confidence: Annotated[tuple[CheckResult, ...], Field(exclude_if=operator.not_)] = ()
    compared: Annotated[tuple[Compared, ...], Field(exclude_if=operator.not_)] = ()


@dataclass(frozen=True, slots=True)
class StageOutcome(JsonRecord):
    """What one stage leaves; the workflow records it as the result of a step.

    stored: the object that the stage stored or adopted; more: those of the same series that follow it.
    state: RUNNING when the job goes on; FAILED or SKIPPED when it ends here, with `reason` and `detail`.
    masks: what the stage `find masks` found.
    """

    stage: StageView
    stored: StoredObject | None = None
    state: JobState = JobState.RUNNING
    reason: str = ""
    detail: str = ""
    more: Annotated[tuple[StoredObject, ...], Field(exclude_if=operator.not_)] = ()
    masks: Annotated[tuple[MaskObject, ...], Field(exclude_if=operator.not_)] = ()

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """Every object of the stage."""
        return () if self.stored is None else (self.stored, *self.more)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended."""

    state: JobState
    reason: str = ""
    detail: str = ""


def ending(outcomes: Sequence[StageOutcome]) -> Ending:
    """Tell how a job ended from what its stages left.

    A result that was held back is named even if other results are stored.
    """
    last = outcomes[-1]
    if last.state is not JobState.RUNNING:
        return Ending(last.state, last.reason, last.detail)
    held = [outcome.stage for outcome in outcomes if outcome.stage.held_back]
    if not held:
        return Ending(JobState.DONE)
    stored = any(outcome.stored is not None for outcome in outcomes)
    detail = "; ".join(note for stage in held for note in stage.notes if note.startswith("held back"))
    return Ending(JobState.DONE if stored else JobState.SKIPPED, Refusal.HELD_BACK, detail)
