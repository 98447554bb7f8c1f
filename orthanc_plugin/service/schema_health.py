"""The JSON of the API about health (see `schema`)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.service.shape import Shape


class HealthStatus(StrEnum):
    """`degraded`: at least one part below has a problem."""

    OK = "ok"
    DEGRADED = "degraded"


class ArchiveHealth(Shape):
    """Whether an archive gives what the service needs, with the service's own account.

    problem: the address that fails, and how. warning: what works, but should be changed.
    seconds: how long the look took. version: that of an Orthanc, empty for another archive.
    """

    name: str
    reachable: bool
    problem: str
    warning: str
    seconds: float = 0.0
    version: str = ""


class DatabaseHealth(Shape):
    """The job database."""

    ok: bool
    kind: str
    problem: str


class AdmissionHealth(Shape):
    """The loop that decides on series. `waiting_series`: series without a decision; `error`: that of its last round.

    held_up: why series wait that could not be looked at, and how many do.
    """

    waiting_series: int
    last_round: datetime | None
    error: str
    held_up: tuple[str, ...]


class WorkerHealth(Shape):
    """One local worker; `pid` is null while it waits for its next start, `last_exit` is negative for a signal."""

    slot: int
    pid: int | None
    restarts: int
    last_exit: int | None


class ModelHealth(Shape):
    """A model that a rule names, verified at the start of the service."""

    name: str
    version: str
    digest: str
    licence: str


class DiskHealth(Shape):
    """The disk of the state directory."""

    free_gib: float
    total_gib: float


class Health(Shape):
    """Health of the service. `provider`: execution provider that models run on; `counts`: decisions by state.

    deliveries: deliveries that are not done, by state. stuck: running jobs that no worker works on.
    retrying: running jobs whose step is tried again, each with the reason.
    paused: workers take no new job, because a person said so.
    gpus: NVIDIA GPUs of the service's computer, with their memory and use.
    software: versions of Python and of the libraries that results depend on.
    """

    status: HealthStatus
    version: str
    results_version: int
    started_at: datetime
    provider: str
    database: DatabaseHealth
    admission: AdmissionHealth
    archives: tuple[ArchiveHealth, ...]
    workers: tuple[WorkerHealth, ...]
    models: tuple[ModelHealth, ...]
    counts: dict[JobState, int]
    deliveries: dict[JobState, int]
    stuck: tuple[str, ...]
    retrying: tuple[str, ...]
    paused: bool
    disk: DiskHealth
    gpus: tuple[str, ...]
    software: dict[str, str] = Field(default_factory=dict)
