"""The JSON of the API, version 1. Fields may be added; none is renamed, removed or given another meaning.

These shapes are the promise to callers, so they are declared apart from the records of jobs and domain, which may
change: `from_attributes` fills each shape from its record. Times are UTC (ISO 8601). A text that does not apply is
empty. UIDs alone identify a series; no JSON holds patient data. `python -m orthanc_plugin.service.schema` writes
`docs/api-v1.schema.json`.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated

from pydantic import Field
from pydantic.json_schema import models_json_schema

from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.job import JobState, Priority
from orthanc_plugin.jobs.orders import OrderState
from orthanc_plugin.service import schema_pages as pages
from orthanc_plugin.service.schema_health import Health
from orthanc_plugin.service.schema_inspected import Inspected
from orthanc_plugin.service.shape import Body, Name, Shape, Uid, Unit

OrthancId = Annotated[str, Field(pattern=r"^([0-9a-f]{8}(-[0-9a-f]{8}){4})?$")]


class ComparedStructure(Shape):
    """One structure of a shadow model beside the same structure of a model of the rule.

    code, modifier: type and laterality, SCT. model: empty if no model of the rule looks for the structure.
    model_volume_ml: null without such a model or a stored segmentation of it. dice: null where nothing was compared.
    """

    label: str
    code: str
    modifier: str
    model: str
    volume_ml: float
    model_volume_ml: float | None
    dice: float | None


class Stage(Shape):
    """One finished stage: wall seconds, the worker's peak resident memory during it, and its findings.

    provider: execution provider that the model really ran on. volumes_ml: by structure. Only segmentations have both.
    compared: what a shadow model found; nothing of it is stored.
    """

    name: str
    seconds: float
    peak_mib: float
    provider: str
    volumes_ml: dict[str, float]
    notes: tuple[str, ...]
    compared: tuple[ComparedStructure, ...]


class StoredObject(Shape):
    """One result in its home archive. `adopted`: it was there before this run."""

    kind: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    adopted: bool


class Delivery(Shape):
    """The copy of a job's results to one further destination, the withdrawal of outdated ones, or a notice.

    kind: `deliver`, `withdraw` or `notify`. destination: an archive, or a webhook after `@`.
    notes: what it did, once it is done; what was sent instead of what.
    try_again: where to POST, below `/enrichment/api/v1/`, so that it is tried again; empty unless it failed or was
    cancelled. Nothing tries it again by itself.
    """

    destination: str
    state: JobState
    error: str
    kind: str
    job_id: str
    created_at: datetime | None
    ended_at: datetime | None
    notes: tuple[str, ...]
    try_again: str = ""


class Landmark(Shape):
    """A level of the body in the scan: the nearest slice, its height (LPS z) and the standard deviation of that."""

    key: str
    slice_index: int
    z_mm: float
    sd_mm: float


class Location(Shape):
    """Where a scan lies in the body. Lists run over slices from the feet; slices count from 0.

    raw_scores: scores of the network, null where a slice shows no body. scores: smoothed and cleaned.
    regions: slices of each region. coverage: the part of each region that lies in the scan.
    slope_ratio: how fast the scores change, relative to the model's mean.
    reason: why there is no valid region; empty if there is one.
    """

    raw_scores: tuple[float | None, ...]
    scores: tuple[float | None, ...]
    z_mm: tuple[float, ...]
    landmarks: tuple[Landmark, ...]
    regions: dict[Region, tuple[int, ...]]
    coverage: dict[Region, float]
    slope_per_mm: float | None
    slope_ratio: float | None
    expected_spacing_mm: float | None
    valid_spacing: bool
    reversed: bool
    tag: str
    reason: str
    notes: tuple[str, ...]


class CheckResult(Shape):
    """One quality check of one segment. `value`: the measurement, in `unit`; `detail`: the same in a sentence."""

    check: Check
    model: str
    segment_number: int
    key: str
    passed: bool
    value: float
    unit: Unit
    detail: str


class Job(Shape):
    """The enrichment of one series. `stage`: the stage that runs now.

    priority: which of the waiting jobs is taken first, `urgent`, `normal` or `backfill`.
    waits_for: what a waiting job waits for beside its turn, or a running one; otherwise empty.
    stuck: it is running, but no worker says that it works on it; it can be retried or cancelled.
    error: why there is no result, or why one was held back.
    Lists of jobs leave out deliveries, location and checks.
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
    stage: str
    stages: tuple[Stage, ...]
    objects: tuple[StoredObject, ...]
    deliveries: tuple[Delivery, ...]
    location: Location | None
    checks: tuple[CheckResult, ...]
    stuck: bool
    priority: Priority
    waits_for: str


class DeliveryList(Shape):
    """Deliveries, newest first."""

    deliveries: tuple[Delivery, ...]
    limit: int
    offset: int


class Retried(Shape):
    """The jobs that run again."""

    jobs: tuple[str, ...]


class Paused(Shape):
    """Whether workers take no new job."""

    paused: bool


class JobList(Shape):
    """Jobs, newest first."""

    jobs: tuple[Job, ...]
    limit: int
    offset: int


class SeriesDecision(Shape):
    """The decision on one content of a series, and its state.

    decision: `enrich` or `skip`. reason: why there is no result (a code); detail: the same in a sentence.
    superseded_by: fingerprint of the content that replaced this one.
    """

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    fingerprint: str
    generation: int
    first_seen: datetime
    decision: str
    state: JobState
    reason: str
    detail: str
    rule: str
    job_id: str
    superseded_by: str
    started_at: datetime | None
    ended_at: datetime | None


class SeriesList(Shape):
    """Decisions, newest first."""

    series: tuple[SeriesDecision, ...]
    limit: int
    offset: int


class HintBody(Body):
    """A hint of Orthanc's plugin about a series that became stable (fields of `jobs.hint.Hint`).

    again: a person asks for it: it is decided on by the current rules, whatever was decided before.
    """

    archive: Name
    study_instance_uid: Uid
    series_instance_uid: Uid
    orthanc_series_id: OrthancId = ""
    stable: bool = False
    remote_aet: Name = ""
    remote_ip: Name = ""
    origin: Name = ""
    anonymized_from: Name = ""
    modified_from: Name = ""
    again: bool = False


class BackfillBody(Body):
    """Studies to enrich: those that match a `query` such as `StudyDate=20200101-20201231`, or those of a list.

    limit: most studies; 0 for all. again: also what was decided on before.
    """

    archive: Name
    query: Annotated[str, Field(max_length=1000)] = ""
    studies: tuple[Uid, ...] = ()
    limit: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    again: bool = False


class DecideAgainBody(Body):
    """Decisions to make again: all of an archive, those with a `reason` and a `text`, or those that match a `query`."""

    archive: Name
    reason: Name = ""
    text: Annotated[str, Field(max_length=1000)] = ""
    query: Annotated[str, Field(max_length=1000)] = ""


class Backfill(Shape):
    """Studies that a person asked for, and how far the service is (fields of `jobs.orders.Order`).

    asked: what was asked for. listed, looked_at: studies known so far, and those that were looked at.
    known: series decided on before. jobs, skips, unchanged: decisions on the others; unchanged: the same as before.
    unreadable: studies and series that could not be read; unread names the first of them.
    studies_per_hour, left_s: rate, and seconds that are left at this rate; null if it is too early to say.
    problem: what it waits for.
    """

    id: str
    archive: str
    asked: str
    again: bool
    limit: int
    state: OrderState
    created_at: datetime
    ended_at: datetime | None
    listed: int
    looked_at: int
    known: int
    jobs: int
    skips: int
    unchanged: int
    unreadable: int
    unread: tuple[str, ...]
    studies_per_hour: float | None
    left_s: float | None
    problem: str


class BackfillList(Shape):
    """Backfills, newest first."""

    backfills: tuple[Backfill, ...]


class Accepted(Shape):
    """The request was accepted and will be handled.

    changes_read: last change of that archive that the service has read; null if it has read none.
    """

    accepted: bool = True
    changes_read: int | None = None


class Problem(Shape):
    """An error: a code for programs, a message for people."""

    code: str
    message: str


class Error(Shape):
    """Every answer with a status of 400 or more."""

    error: Problem


def api_schema() -> str:
    """Write the JSON Schema (2020-12) of all bodies, as committed in `docs/api-v1.schema.json`."""
    lists = (JobList, DeliveryList, SeriesList, BackfillList)
    answers = (Health, *lists, Job, Retried, Paused, Inspected, *pages.ANSWERS, Accepted, Error)
    bodies = (HintBody, BackfillBody, DecideAgainBody, *pages.BODIES)
    models = [*((model, "serialization") for model in answers), *((model, "validation") for model in bodies)]
    _, schema = models_json_schema(models, title="Enrichment API v1")  # type: ignore[arg-type]
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(api_schema())
