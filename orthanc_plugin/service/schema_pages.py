"""The JSON of the API about what pages show and do (see `schema`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.service.shape import Body, Name, Shape, Uid


class DrawnPlane(Shape):
    """The planes of one direction. width, height: pixels of their pictures.

    name: `axial`, `coronal` or `sagittal`. count: how many, from the feet, the front, the right.
    best: the one that shows most of the structures. at_mm: where each lies in the patient (LPS z, y or x).
    numbers: InstanceNumber of the source slice of each (`?` if it has none); empty for the other directions.
    """

    name: str
    count: int
    width: int
    height: int
    best: int
    at_mm: tuple[float, ...]
    numbers: tuple[str, ...]


class DrawnStructure(Shape):
    """A stored segment.

    key: number of its SEG in the job and SegmentNumber, as in `0-2`. colour: sRGB. model: which model found it.
    """

    key: str
    label: str
    colour: tuple[int, int, int]
    model: str


class DrawnScan(Shape):
    """What can be drawn of the scan of a job."""

    planes: tuple[DrawnPlane, ...]
    structures: tuple[DrawnStructure, ...]
    windows: tuple[str, ...]


class Patient(Shape):
    """Who the patient of a series is, as its archive says."""

    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    accession_number: str


class FoundStudies(Shape):
    """Studies that match."""

    studies: tuple[str, ...]


class NotActed(Shape):
    """A series with which something could not be done, and why."""

    series_instance_uid: str
    message: str


class Acted(Shape):
    """With how many series something was done; problems names the first ones with which it was not."""

    done: int
    not_done: int
    problems: tuple[NotActed, ...]


class RuleOutcome(Shape):
    """What rules do with a series. rule: the one that takes it; else the reason why none does (a code)."""

    rule: str
    reason: str


class RuleDifference(Shape):
    """A series with which the two sets of rules do not the same."""

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    before: RuleOutcome
    after: RuleOutcome


class RuleComparison(Shape):
    """How far a comparison is. total, looked_at, unreadable: series; before, after: series of each outcome in words."""

    total: int
    looked_at: int
    unreadable: int
    before: tuple[tuple[str, int], ...]
    after: tuple[tuple[str, int], ...]
    differences: tuple[RuleDifference, ...]


class WebhookShape(Shape):
    """A webhook of the configuration, without its secret."""

    name: str
    url: str
    events: tuple[str, ...]


class WebhookList(Shape):
    """The webhooks of the configuration."""

    webhooks: tuple[WebhookShape, ...]


class Tried(Shape):
    """What a webhook answered to a test."""

    answer: str


class Event(StrEnum):
    """Events of the stream: `progress` holds a `Running`, `changed` a `Changed`."""

    PROGRESS = "progress"
    CHANGED = "changed"


class Progress(Shape):
    """A running job. stage: what runs now; percent: what is done, 0 to 99, roughly."""

    job: str
    series_instance_uid: str
    stage: str
    percent: int


class Running(Shape):
    """The jobs that run now."""

    jobs: tuple[Progress, ...]


class Changed(Shape):
    """Totals: where they differ from those before, lists differ, too. last_row: number of decisions so far."""

    counts: dict[JobState, int]
    last_row: int
    paused: bool


class PatientBody(Body):
    """The series whose patient is looked up."""

    archive: Name
    study_instance_uid: Uid
    series_instance_uid: Uid


class FindBody(Body):
    """What studies are looked up by."""

    archive: Name
    accession_number: Name = ""
    patient_id: Name = ""


class Act(StrEnum):
    """What can be done with several series at once; the last three say how soon jobs that wait are taken up."""

    RETRY = "retry"
    CANCEL = "cancel"
    DECIDE_AGAIN = "decide-again"
    URGENT = "urgent"
    NORMAL = "normal"
    LATER = "backfill"


class RulesBody(Body):
    """A copy of the rules, as the key `Rules` of the configuration holds them."""

    model_config = ConfigDict(strict=False)

    rules: tuple[dict[str, Any], ...]


class ActBody(Body):
    """Series to act on: `series` names them as `ARCHIVE/SeriesInstanceUID`, `search` finds them as the list does."""

    model_config = ConfigDict(strict=False)

    act: Act
    series: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=1000)] = ()
    search: dict[str, str] | None = None


ANSWERS = (DrawnScan, Patient, FoundStudies, Acted, Running, Changed, WebhookList, Tried, RuleComparison)
BODIES = (PatientBody, FindBody, ActBody, RulesBody)
