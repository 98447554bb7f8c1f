"""Health of everything that the service depends on, for the API and the dashboard."""

from __future__ import annotations

import asyncio
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from orthanc_plugin import RESULTS_VERSION, __version__
from orthanc_plugin.archive.holes import warning_of
from orthanc_plugin.archive.probe import find_problem, read_version
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.deleted import NOT_BELIEVED
from orthanc_plugin.jobs.engine import AGAIN
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.logs import describe
from orthanc_plugin.service.admitting import AdmissionState
from orthanc_plugin.service.readiness import Readiness
from orthanc_plugin.service.schema_health import (
    AdmissionHealth,
    ArchiveHealth,
    DatabaseHealth,
    DiskHealth,
    Health,
    HealthStatus,
    ModelHealth,
    WorkerHealth,
)
from orthanc_plugin.service.workers import WorkerState

_MOST_LOOKED_AT = 50
_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino", "pydicom", "highdicom", "pyradiomics", "dbos")


@dataclass(frozen=True, slots=True)
class _Work:
    """What the database says of the work (see `schema.Health`)."""

    counts: dict[JobState, int] = field(default_factory=dict)
    deliveries: dict[JobState, int] = field(default_factory=dict)
    stuck: tuple[str, ...] = ()
    retrying: tuple[str, ...] = ()
    paused: bool = False
    not_believed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Checks archives, database, workers and the admission loop."""

    archives: dict[str, ArchiveSettings]
    queue: JobQueue
    readiness: Readiness
    started_at: datetime
    admission: Callable[[], AdmissionState]
    workers: Callable[[], tuple[WorkerState, ...]]
    state_directory: Path

    async def look(self) -> Health:
        """Check everything now."""
        database, work = await run_in_threadpool(self._database)
        looks = [self._archive(name, settings, work.not_believed) for name, settings in self.archives.items()]
        archives = await asyncio.gather(*looks)
        admission = AdmissionHealth.model_validate(self.admission())
        workers = tuple(WorkerHealth.model_validate(worker) for worker in self.workers())
        healthy = (
            database.ok
            and not work.stuck
            and not admission.error
            and not any(archive.problem for archive in archives)
            and all(worker.pid is not None for worker in workers)
        )
        return Health(
            status=HealthStatus.OK if healthy else HealthStatus.DEGRADED,
            version=__version__,
            results_version=RESULTS_VERSION,
            started_at=self.started_at,
            provider=self.readiness.provider,
            database=database,
            admission=admission,
            archives=tuple(archives),
            workers=workers,
            models=tuple(ModelHealth.model_validate(card) for card in self.readiness.models),
            counts=work.counts,
            deliveries=work.deliveries,
            stuck=work.stuck,
            retrying=work.retrying,
            paused=work.paused,
            disk=_disk(self.state_directory),
            gpus=await run_in_threadpool(_gpus),
            software=software(),
        )

    async def _archive(self, name: str, settings: ArchiveSettings, not_believed: Mapping[str, str]) -> ArchiveHealth:
        began = time.monotonic()
        problem = await run_in_threadpool(find_problem, name, settings)
        seconds = round(time.monotonic() - began, 3)
        version = "" if problem else await run_in_threadpool(read_version, name, settings)
        return ArchiveHealth(
            name=name,
            reachable=not problem,
            problem=problem or not_believed.get(f"{NOT_BELIEVED}{name}", ""),
            warning="; ".join(filter(None, (settings.readable_login, warning_of(version)))),
            seconds=seconds,
            version=version,
        )

    def _database(self) -> tuple[DatabaseHealth, _Work]:
        queue, kind = self.queue, self.queue.ledger.engine.dialect.name
        try:
            stuck = tuple(sorted(queue.stuck()))
            not_believed = queue.ledger.notes(NOT_BELIEVED)
            retrying = tuple(_retrying(queue))
            counts = queue.ledger.counts(), queue.deliveries.counts()
            work = _Work(*counts, stuck, retrying, queue.paused, not_believed)
        except sa.exc.SQLAlchemyError as error:
            return DatabaseHealth(ok=False, kind=kind, problem=describe(error)), _Work()
        try:
            queue.ledger.check_writable()
        except sa.exc.SQLAlchemyError as error:
            return DatabaseHealth(ok=False, kind=kind, problem=f"cannot be written: {describe(error)}"), work
        return DatabaseHealth(ok=True, kind=kind, problem=""), work


def _retrying(queue: JobQueue) -> Iterator[str]:
    """Name the running jobs whose step failed and is tried again, with the reason."""
    for row in queue.ledger.open_jobs(JobState.RUNNING)[:_MOST_LOOKED_AT]:
        waits_for = queue.show(row.job_id).waits_for
        if waits_for.startswith(AGAIN):
            yield f"job {row.job_id}: {waits_for}"


def problems_of(health: Health) -> str:
    """Say in one line what needs a person; empty if nothing does."""
    archives = [f"archive {archive.name}: {archive.problem}" for archive in health.archives if archive.problem]
    database = [f"database: {health.database.problem}"] if not health.database.ok else []
    admission = [f"admission: {health.admission.error}"] if health.admission.error else []
    again = list(health.retrying[:1])
    stuck = [f"{len(health.stuck)} jobs are stuck"] if health.stuck else []
    ended = [f"worker {one.slot} does not run" for one in health.workers if one.pid is None]
    return "; ".join((*database, *archives, *admission, *again, *stuck, *ended))


def software() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on, as far as they are installed."""
    found = {"Python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _disk(directory: Path) -> DiskHealth:
    usage = shutil.disk_usage(directory)
    return DiskHealth(free_gib=usage.free / 2**30, total_gib=usage.total / 2**30)


def _gpus() -> tuple[str, ...]:
    """Ask the NVIDIA driver for its GPUs; none where there is no driver, or it does not answer."""
    if (program := shutil.which("nvidia-smi")) is None:
        return ()
    query = "--query-gpu=name,memory.used,memory.total,utilization.gpu"
    try:
        answer = subprocess.run([program, query, "--format=csv,noheader"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(answer.stdout.splitlines()) if answer.returncode == 0 else ()
