"""A job that ended, with its results in an archive in memory, behind the routes that show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.jobs.corrected import Corrections
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.numbers import StoredResults
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.jobs.scans import Scans
from orthanc_plugin.service.api import ROOT
from orthanc_plugin.service.findings import Cards
from orthanc_plugin.service.job_page import JobPage
from orthanc_plugin.service.pages import HERE
from orthanc_plugin.service.picture_routes import PictureRoutes
from orthanc_plugin.service.routes import http_problem
from tests.support.cases.location_case import CHEST
from tests.support.fakes.hand_job import ABSENT, SERIES, HandProcess, job, run
from tests.support.fakes.memory_archive import MemoryArchive
from tests.support.servers.asgi_server import serving
from tests.support.servers.front_door import SEEN

ARCHIVES = parse_section({"Archives": {"local": {"Url": "http://pacs"}}}, {}).archives


@dataclass(frozen=True)
class ShownJob:
    id: str
    archive: MemoryArchive
    queue: JobQueue
    client: httpx.Client
    scans: Scans

    @property
    def page(self) -> str:
        return f"/enrichment/jobs/{self.id}"

    @property
    def api(self) -> str:
        return f"{ROOT}/jobs/{self.id}"


@contextmanager
def shown_job(directory: Path, *, assets: bool = False) -> Iterator[ShownJob]:
    """Run a job by hand, write its end as a worker does, and serve its page and pictures; with scripts and styles."""
    process, what = HandProcess(CHEST), job(ABSENT, Output.RADIOMICS, Output.LANDMARKS, Output.CHECKS)
    outcomes = run(process, what)
    job_id = "ab" * 32
    with closing(JobQueue(f"sqlite:///{directory / 'jobs.db'}")) as queue:
        decision = Decision(
            "local", what.study_instance_uid, what.series_instance_uid, what.fingerprint, 0, "", SEEN, Verdict.ENRICH,
            JobState.QUEUED, job_id=job_id, rule="default", argument=what.to_json(),
        )  # fmt: skip
        assert queue.enqueue(decision, what)
        assert queue.ledger.start(job_id)
        objects = tuple(o.stored for o in outcomes.values() if o.stored is not None)
        summary = Summary(tuple(o.stage for o in outcomes.values()), objects)
        queue.ledger.end(job_id, JobState.DONE, "", "", summary)

        def opened(name: str, settings: ArchiveSettings) -> MemoryArchive:
            return process.archive

        results = StoredResults(queue, ARCHIVES, opened)
        scans = Scans(queue, ARCHIVES, opened, lambda archive, job: _away(process.archive) or SERIES)
        corrections = Corrections(queue, ARCHIVES, opened, lambda archive, job: _away(process.archive) or SERIES)
        page = JobPage(queue, results, scans, Cards(None), corrections)
        routes = [*page.routes(), *PictureRoutes(queue, scans).routes(ROOT)]
        if assets:
            routes.append(Mount("/enrichment/static", StaticFiles(directory=HERE / "static")))  # type: ignore[arg-type]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_problem})
        with serving(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            yield ShownJob(job_id, process.archive, queue, client, scans)


def _away(archive: MemoryArchive) -> None:
    archive._answer()
