"""Sessions of jobs, on the archives and settings of a configuration.

The pipeline knows neither archives nor configuration; it gets loader, store and settings from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial

from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.archive.orthanc import Feed, open_feed
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.archive.removal import OrthancRemoval, open_removal
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.plan import Output, PlannedModel
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, InputError, ModelError, Refusal
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.jobs.masks import ArchiveMasks
from orthanc_plugin.jobs.memory import give_back, memory_here, needed_bytes, wait_for_room
from orthanc_plugin.jobs.promises import Promises
from orthanc_plugin.jobs.source import GuardedStore, Names, NoNames, Predecessors, Source, no_predecessors
from orthanc_plugin.jobs.withdrawal import Rejecting
from orthanc_plugin.pipeline import Context, ReadBack
from orthanc_plugin.pipeline.engines import Engines
from orthanc_plugin.pipeline.memory import Models
from orthanc_plugin.pipeline.session import Session
from orthanc_plugin.results.headers import check_identity
from orthanc_plugin.results.provenance import MANUFACTURER
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
    room: waits before that until the job fits into memory. leave: is called when the job has ended.
    feeds, removals: index of each archive that is an Orthanc, and how to remove results there.
    names: where the objects are named that a job stores.
    predecessors: the earlier reports of one kind that a job supersedes and that stay.
    """

    configuration: Configuration
    archives: Mapping[str, Archive]
    models: Models
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    load: Callable[[Archive, EnrichJob], CtSeries] = load_series
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    removals: Mapping[str, OrthancRemoval] = field(default_factory=dict)
    room: Callable[[EnrichJob], None] = lambda job: None
    leave: Callable[[], None] = lambda: None
    names: Names = field(default=NoNames())
    predecessors: Predecessors = no_predecessors

    @property
    def rejecting(self) -> Rejecting:
        """The archives that honour a rejection note and are no Orthanc."""
        settings = self.configuration.archives
        names = (name for name, s in settings.items() if s.rejection_notes and name not in self.removals)
        return Rejecting({name: self.archives[name] for name in names if name in self.archives}, self.clock)

    def open(self, job: EnrichJob, deaths: int = 0) -> Session:
        """Open the session of a job; nothing is read before its first stage runs.

        Parameters
        ----------
        job : EnrichJob
        deaths : int
            Workers that died in this job: the next one uses less memory.
        """
        source = cache(lambda: Source(job, self._archive(job.archive), self.feeds.get(job.archive), self.load))
        return Session(
            job,
            self.models,
            lambda: self._read(job, source()),
            lambda kept: self._context(job, source(), kept, deaths),
            deaths,
        )

    def _read(self, job: EnrichJob, source: Source) -> CtSeries:
        self.room(job)
        return source.read()

    def _context(self, job: EnrichJob, source: Source, read_back: ReadBack, deaths: int) -> Context:
        plan, configuration = job.plan, self.configuration
        return Context(
            fingerprint=job.fingerprint,
            store=self._store(job, source),
            clock=self.clock,
            title=configuration.report_title.code,
            read_back=read_back,
            seg=plan.seg,
            radiomics=plan.radiomics,
            image_library=plan.image_library,
            hold_back=plan.hold_back,
            contours=plan.contours,
            processes=1 if deaths else configuration.processes_for_radiomics,
            memory_mib=configuration.radiomics_memory_mib,
            masks_of_others=ArchiveMasks(self._archive(job.archive)),
        )

    def _store(self, job: EnrichJob, source: Source) -> GuardedStore:
        home = job.plan.home_archive
        removal = self.removals.get(home)
        remove = partial(_remove, removal) if removal is not None else None
        return GuardedStore(self._archive(home), source, remove, self.names, partial(self.predecessors, job))

    def _archive(self, name: str) -> Archive:
        archive = self.archives.get(name)
        if archive is None:
            raise ConfigError(f"this worker's configuration has no archive {name}")
        return archive


def warm_sessions(
    configuration: Configuration,
    archives: Mapping[str, Archive],
    tell: Callable[[str], None] = lambda text: None,
    promises: Promises | None = None,
) -> Sessions:
    """Make the sessions of a process, with models that stay loaded from job to job.

    Parameters
    ----------
    configuration : Configuration
    archives : mapping
        By name.
    tell : callable
        Is told what a job waits for that does not fit into memory.
    promises : Promises, optional
        What is promised to jobs of other workers on this computer.
    """
    engines = Engines(configuration.models_directory, Provider(configuration.provider))
    settings = configuration.archives.items()
    feeds = {name: feed for name, s in settings if (feed := open_feed(name, s)) is not None}
    removals = {name: removal for name, s in settings if (removal := open_removal(name, s)) is not None}

    def room(job: EnrichJob) -> None:
        plan = job.plan
        models = (*plan.models, *([plan.location.model] if plan.location and plan.location.model else []))
        weigh = partial(_needed, job, engines)
        with suppress(ModelError, OSError):  # the stage that needs the model says what is wrong with it
            needed = weigh(models)
            with suppress(ModelError):
                needed = _with_shadow(needed, weigh((*models, *plan.shadow)))
            if promises is None:
                wait_for_room(needed, tell)
            else:
                wait_for_room(needed, tell, partial(promises.ask, needed))

    waits = room if configuration.wait_for_memory else (lambda job: None)

    def leave() -> None:
        give_back()
        if promises is not None:
            promises.end()

    return Sessions(configuration, archives, engines, feeds=feeds, removals=removals, room=waits, leave=leave)


def _needed(job: EnrichJob, engines: Engines, models: Iterable[PlannedModel]) -> int:
    weighed = Output.PROBABILITIES in job.plan.outputs
    return needed_bytes(job.voxels, map(engines.card, models), job.extent_mm, probabilities=weighed)


def _with_shadow(needed: int, more: int) -> int:
    """Count what a shadow model needs, unless the job could then never run."""
    return more if more <= memory_here().total else needed


def _remove(removal: OrthancRemoval, ds: Dataset) -> bool:
    return removal.remove(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, MANUFACTURER)
