"""Metrics for Prometheus: `GET /enrichment/metrics`, behind the same login as everything else.

They hold names of archives, stages and reasons, and numbers. No UID and no patient data is among them, so that their
number does not grow with the archive. docs/operations/metrics.md lists them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.jobs.figures import ended_since, kind_of_stage, last_end, queue_figures
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.service.health import HealthCheck
from orthanc_plugin.service.routes import guarded
from orthanc_plugin.service.schema_health import Health

PATH = "/enrichment/metrics"
PREFIX = "enrichment"
STAGE_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)
GIB, MIB = 2**30, 2**20


class Metrics:
    """The metrics of this service.

    Gauges are read when somebody asks. Jobs that end, and the seconds of their stages, are counted from the start of
    the service on; a service that starts again begins at 0, as Prometheus expects of counters.
    """

    def __init__(self, queue: JobQueue, health: HealthCheck) -> None:
        self._queue, self._health = queue, health
        self._registry = CollectorRegistry()
        ProcessCollector(namespace=PREFIX, registry=self._registry)
        self._jobs = Counter(
            "jobs_ended", "Jobs that ended, by state.", ["state"], namespace=PREFIX, registry=self._registry
        )
        self._stages = Histogram(
            "stage_seconds", "Seconds that a stage of a job took.", ["stage"],
            namespace=PREFIX, registry=self._registry, buckets=STAGE_BUCKETS_S,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._counted_to: tuple[str, str] | None = None

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(PATH, guarded(self.metrics))]

    def start(self) -> None:
        """Begin to count at the jobs that have ended by now."""
        with self._lock:
            if self._counted_to is None:
                self._counted_to = last_end(self._queue.ledger.engine)

    async def metrics(self, request: Request) -> Response:
        """Return all metrics in the text format of Prometheus."""
        health = await self._health.look()
        return Response(await run_in_threadpool(self.text, health), media_type=CONTENT_TYPE_LATEST)

    def text(self, health: Health) -> bytes:
        """Return all metrics; those of the job database are left out while it does not answer."""
        families = [*_of_health(health)]
        try:
            self._count()
            families += _of_queue(self._queue)
        except sa.exc.SQLAlchemyError:
            pass  # enrichment_database_up says so
        now = CollectorRegistry()
        now.register(_Given(families))
        return generate_latest(self._registry) + generate_latest(now)

    def _count(self) -> None:
        """Count the jobs that ended since the last time."""
        self.start()
        with self._lock:
            for job in ended_since(self._queue.ledger.engine, self._counted_to or ("", "")):
                self._jobs.labels(job.state.value).inc()
                for stage in job.stages:
                    self._stages.labels(kind_of_stage(stage.name)).observe(stage.seconds)
                self._counted_to = (job.at, job.job_id)


class _Given(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


Rows = dict[tuple[str, ...], float]
"""Numbers by the values of their labels."""


def _gauge(name: str, text: str, rows: Rows, *labels: str) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for values, number in rows.items():
        family.add_metric(values, number)
    return family


def _of_health(health: Health) -> Iterator[Metric]:
    said = (health.version, str(health.results_version), health.provider)
    yield _gauge("info", "The release that runs.", {said: 1}, "version", "results_version", "provider")
    yield _gauge("healthy", "1 if no part has a problem.", {(): health.status == "ok"})
    yield _gauge("database_up", "1 if the job database can be read and written.", {(): health.database.ok})
    yield _gauge("paused", "1 while a person keeps workers from new jobs.", {(): health.paused})
    yield _gauge("jobs", "Series decided on, by state.", {(s.value,): n for s, n in health.counts.items()}, "state")
    deliveries: Rows = {(state.value,): float(number) for state, number in health.deliveries.items()}
    yield _gauge("deliveries", "Deliveries that are not done, by state.", deliveries, "state")
    yield _gauge("jobs_stuck", "Running jobs that no worker works on.", {(): len(health.stuck)})
    admission = health.admission
    yield _gauge("waiting_series", "Series without a decision.", {(): admission.waiting_series})
    yield _gauge("admission_up", "1 if the last round of admission had no error.", {(): not admission.error})
    yield _gauge(
        "archive_up", "1 if the archive gives what is needed.",
        {(archive.name,): not archive.problem for archive in health.archives}, "archive",
    )  # fmt: skip
    yield _gauge(
        "archive_seconds", "Seconds that the archive took to answer just now.",
        {(archive.name,): archive.seconds for archive in health.archives}, "archive",
    )  # fmt: skip
    workers = {(str(worker.slot),): worker for worker in health.workers}
    yield _gauge("worker_up", "1 if the local worker runs.", {k: w.pid is not None for k, w in workers.items()}, "slot")
    yield _gauge(
        "worker_restarts", "Starts of a local worker but one.", {k: w.restarts for k, w in workers.items()}, "slot"
    )
    yield _gauge("disk_free_bytes", "Free on the disk of the state directory.", {(): health.disk.free_gib * GIB})
    yield _gauge("disk_size_bytes", "Size of the disk of the state directory.", {(): health.disk.total_gib * GIB})
    yield from _of_gpus(health.gpus)


def _of_gpus(lines: tuple[str, ...]) -> Iterator[Metric]:
    """Read `name, 1024 MiB, 81559 MiB, 12 %`, as the NVIDIA driver answers, without what it does not know."""
    used: Rows = {}
    size: Rows = {}
    busy: Rows = {}
    for number, line in enumerate(lines):
        name, *parts = (part.strip() for part in line.rsplit(",", 3))
        for values, part, unit in zip((used, size, busy), parts, (MIB, MIB, 0.01), strict=False):
            first = part.split(" ")[0]
            if first.isdigit():
                values[str(number), name] = int(first) * unit
    yield _gauge("gpu_memory_used_bytes", "Memory of a GPU in use.", used, "gpu", "name")
    yield _gauge("gpu_memory_bytes", "Memory of a GPU.", size, "gpu", "name")
    yield _gauge("gpu_busy_ratio", "Share of the time that a GPU computes.", busy, "gpu", "name")


def _of_queue(queue: JobQueue) -> list[Metric]:
    figures = queue_figures(queue.ledger.engine)
    beats, now = queue.heartbeats.all(), queue.heartbeats.now()
    alive = sum((now - beat.at).total_seconds() < ALIVE_S for beat in beats.values())
    return [
        _gauge("queue_oldest_seconds", "Age of the job that has waited longest.", {(): figures.oldest_s or 0.0}),
        _gauge("jobs_failed", "Failed jobs by error.", {(k,): n for k, n in figures.failed.items()}, "error"),
        _gauge("skipped", "Series without result by reason.", {(k,): n for k, n in figures.skipped.items()}, "reason"),
        _gauge("workers_alive", "Workers on any computer that gave a sign of life.", {(): alive}),
    ]


ALIVE_S = 60.0
