"""Sessions of jobs, on the archives and settings of a configuration.

The pipeline knows neither archives nor configuration; it gets loader, store and settings from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from orthanc_plugin import identity
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, InputError, Refusal
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.pipeline import Context, ReadBack
from orthanc_plugin.pipeline.engines import Engines
from orthanc_plugin.pipeline.session import Models, Session
from orthanc_plugin.results.headers import check_identity
from orthanc_plugin.series.read import read_series


def load_series(archive: Archive, job: EnrichJob) -> CtSeries:
    """Read the series of a job and vouch for it.

    Raises
    ------
    InputError
        If the series cannot be used, or no longer has the content that was decided on.
    TransientError
        If the archive is away.
    """
    series = read_series(archive.retrieve(job.study_instance_uid, job.series_instance_uid), job.plan.reading)
    if identity.fingerprint(series.identity, job.generation) != job.fingerprint:
        raise InputError(Refusal.GONE, "the series has changed since it was decided on; a new decision follows")
    check_identity(series)
    return series


@dataclass(frozen=True, slots=True)
class Sessions:
    """Opens a session for each job of this process.

    archives: archives by name.
    models: models that the process keeps loaded.
    clock: time that results carry.
    load: reads the series of a job from its archive.
    """

    configuration: Configuration
    archives: Mapping[str, Archive]
    models: Models
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    load: Callable[[Archive, EnrichJob], CtSeries] = load_series

    def open(self, job: EnrichJob) -> Session:
        """Open the session of a job; nothing is read before its first stage runs."""
        return Session(job, self.models, partial(self._series, job), partial(self._context, job))

    def _series(self, job: EnrichJob) -> CtSeries:
        return self.load(self._archive(job.archive), job)

    def _context(self, job: EnrichJob, read_back: ReadBack) -> Context:
        plan, configuration = job.plan, self.configuration
        return Context(
            fingerprint=job.fingerprint,
            store=self._archive(plan.home_archive),
            clock=self.clock,
            title=configuration.report_title.code,
            read_back=read_back,
            seg=plan.seg,
            radiomics=plan.radiomics,
            image_library=plan.image_library,
            hold_back=plan.hold_back,
            processes=configuration.processes_for_radiomics,
            memory_mib=configuration.radiomics_memory_mib,
        )

    def _archive(self, name: str) -> Archive:
        archive = self.archives.get(name)
        if archive is None:
            raise ConfigError(f"this worker's configuration has no archive {name}")
        return archive


def warm_sessions(configuration: Configuration, archives: Mapping[str, Archive]) -> Sessions:
    """Make the sessions of a process, with models that stay loaded from job to job."""
    engines = Engines(configuration.models_directory, Provider(configuration.provider))
    return Sessions(configuration, archives, engines)
