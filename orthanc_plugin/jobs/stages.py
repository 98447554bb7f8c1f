"""The stages of a job on `pipeline`, and their order; whoever runs them says how (a worker by steps, the CLI at once).

Each stage ends when its object is stored in the plan's home archive. The series is kept in memory between the stages;
after a crash it is read again, and only used if it still has the content of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from orthanc_plugin import identity, pipeline
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model, verify_model
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import BODY_OUTPUTS, Location, Output, PlannedModel, StoredObject
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.errors import ConfigError, EncodingError, InputError, ModelError, Refusal, StoreError
from orthanc_plugin.inference.engine import SegmentationEngine, open_engine, open_locator
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.jobs.guards import check_location
from orthanc_plugin.jobs.record import EnrichJob, JobState, StageOutcome
from orthanc_plugin.jobs.stage import Found
from orthanc_plugin.results.headers import check_identity
from orthanc_plugin.series.read import read_series

_Report = Callable[[CtSeries, ModelCard, StoredObject, str, pipeline.Context], pipeline.ReportResult]


class RememberingEngine:
    """An engine that keeps its last result: an archive that refuses the SEG is tried again without new inference."""

    def __init__(self, engine: SegmentationEngine) -> None:
        self._engine = engine
        self._last: tuple[Volume, Segmentation] | None = None

    @property
    def card(self) -> ModelCard:
        """Of the engine."""
        return self._engine.card

    @property
    def provider(self) -> str:
        """Of the engine."""
        return self._engine.provider

    def segment(self, volume: Volume) -> Segmentation:
        """The engine's result, or the one it gave for this very volume before."""
        if self._last is None or self._last[0] is not volume:
            self._last = volume, self._engine.segment(volume)
        return self._last[1]

    def forget(self) -> None:
        """Let volume and result go."""
        self._last = None


class Stages:
    """The stages, with what a process keeps warm: engines, and the series of its job.

    Parameters
    ----------
    configuration : Configuration
        Models, provider, report title.
    archives : mapping
        By name.
    clock : callable
        Time of results.
    """

    def __init__(
        self,
        configuration: Configuration,
        archives: Mapping[str, Archive],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._configuration, self._archives, self._clock = configuration, archives, clock
        self._engines: dict[str, RememberingEngine] = {}
        self._locators: dict[str, pipeline.Locator] = {}
        self._held: tuple[str, CtSeries] | None = None
        self._crop: pipeline.Crop | None = None
        self._read_back: dict[str, pipeline.StoredMasks] = {}

    def retrieve(self, job: EnrichJob) -> Found:
        """Read the series and vouch for it."""
        return Found(notes=self._series(job).notes)

    def locate(self, job: EnrichJob, model: PlannedModel) -> Found:
        """Find the place of the series in the body."""
        result = pipeline.locate(self._series(job), self._locator(model))
        return Found(provider=result.provider, notes=result.notes, location=result.location.recorded)

    def guard(self, wanted: Location, found: BodyLocation) -> Found:
        """Refuse a series that does not show what its rule asks for."""
        check_location(wanted, found)
        return Found()

    def report_location(self, job: EnrichJob, model: PlannedModel, kind: Output, located: StageOutcome) -> Found:
        """Landmarks or regions of the body."""
        provider, context = located.stage.provider, self._context(job)
        result = pipeline.report_location(
            kind, self._series(job), self._card(model), _location(located), provider, context
        )
        return Found(result.stored, notes=result.notes)

    def segment(self, job: EnrichJob, model: PlannedModel, located: StageOutcome | None = None) -> Found:
        """Find and store the structures of one model."""
        crop = self._cropped(job, located)
        result = pipeline.segment(self._series(job), self._engine(model), self._context(job), crop)
        volumes_ml = {key: round(volume_ml, 3) for key, volume_ml in result.volumes_ml.items()}
        missed = crop is None and job.plan.location is not None and job.plan.location.crop is not None
        notes = ("not cropped: where the scan lies in the body is not known",) if missed else ()
        return Found(
            result.seg, result.provider, volumes_ml, (*notes, *result.notes),
            checks=result.held_back, held_back=bool(result.held_back),
        )  # fmt: skip

    def measure(self, job: EnrichJob, model: PlannedModel, segmented: StageOutcome) -> Found:
        """Radiomics of the stored SEG."""
        return self._reported(pipeline.measure, job, model, segmented)

    def report(
        self, job: EnrichJob, model: PlannedModel, segmented: StageOutcome, located: StageOutcome | None = None
    ) -> Found:
        """Landmarks of the stored SEG; the note says where they stand in for those of body part regression."""
        found = self._reported(partial(pipeline.report, crop=self._cropped(job, located)), job, model, segmented)
        absent = job.plan.location.absent if job.plan.location is not None else ""
        if found.stored is None or not absent:
            return found
        return replace(found, notes=(f"{absent}: landmarks of the lung masks stand in", *found.notes))

    def check(
        self,
        job: EnrichJob,
        segmented: Sequence[tuple[PlannedModel, StageOutcome]],
        located: StageOutcome | None = None,
    ) -> Found:
        """Ask the quality checks of all stored SEGs."""
        found = [(self._card(model), _seg(outcome)) for model, outcome in segmented]
        provider = segmented[0][1].stage.provider
        searched = pipeline.searched_slices(self._cropped(job, located))
        checked = pipeline.check(self._series(job), found, provider, self._context(job), searched)
        failed = [f"{r.check} of {r.key} failed: {r.detail}" for r in checked.results if not r.passed]
        return Found(checked.report.stored, notes=(*checked.report.notes, *failed), checks=checked.results)

    def export(self, kind: Output, job: EnrichJob, model: PlannedModel, segmented: StageOutcome) -> Found:
        """The stored SEG in another form."""
        return self._reported(partial(pipeline.export, kind), job, model, segmented)

    def release(self) -> None:
        """Let the series go."""
        self._held, self._crop = None, None
        self._read_back = {}
        for engine in self._engines.values():
            engine.forget()

    def _reported(self, make: _Report, job: EnrichJob, model: PlannedModel, segmented: StageOutcome) -> Found:
        provider = segmented.stage.provider
        result = make(self._series(job), self._card(model), _seg(segmented), provider, self._context(job))
        return Found(result.stored, notes=result.notes)

    def _series(self, job: EnrichJob) -> CtSeries:
        if self._held is not None and self._held[0] == job.fingerprint:
            return self._held[1]
        self.release()  # the last series goes before the next one comes: one in memory at a time
        archive = self._archive(job.archive)
        series = read_series(archive.retrieve(job.study_instance_uid, job.series_instance_uid))
        if identity.fingerprint(series.identity, job.generation) != job.fingerprint:
            raise InputError(Refusal.GONE, "the series has changed since it was decided on; a new decision follows")
        check_identity(series)
        self._held = (job.fingerprint, series)
        return series

    def _engine(self, model: PlannedModel) -> SegmentationEngine:
        if model.digest not in self._engines:
            card = self._card(model)
            verify_model(card)
            engine = open_engine(card, Provider(self._configuration.provider))
            self._engines[model.digest] = RememberingEngine(engine)
        return self._engines[model.digest]

    def _locator(self, model: PlannedModel) -> pipeline.Locator:
        if model.digest not in self._locators:
            self._locators[model.digest] = open_locator(self._card(model), Provider(self._configuration.provider))
        return self._locators[model.digest]

    def _cropped(self, job: EnrichJob, located: StageOutcome | None) -> pipeline.Crop | None:
        """The slices that organ models see; the same view for each of them, and again where a stage is tried again."""
        wanted = job.plan.location
        if located is None or wanted is None or wanted.model is None or wanted.crop is None:
            return None
        if (found := _location(located)).reason:
            return None
        series = self._series(job)  # a new one lets the crop of the last one go
        if self._crop is None:
            self._crop = pipeline.crop_to(wanted.crop, series.volume, found, wanted.model.digest)
        return self._crop

    def _card(self, model: PlannedModel) -> ModelCard:
        if (engine := self._engines.get(model.digest) or self._locators.get(model.digest)) is not None:
            return engine.card
        card = find_model(model.name, self._configuration.models_directory)
        if card.digest != model.digest:
            raise ModelError(f"model {model.name} is {card.digest[:12]} here, the job asks for {model.digest[:12]}")
        return card

    def _context(self, job: EnrichJob) -> pipeline.Context:
        plan, configuration = job.plan, self._configuration
        return pipeline.Context(
            fingerprint=job.fingerprint,
            store=self._archive(plan.home_archive),
            clock=self._clock,
            title=configuration.report_title.code,
            seg=plan.seg,
            radiomics=plan.radiomics,
            image_library=plan.image_library,
            hold_back=plan.hold_back,
            processes=configuration.processes_for_radiomics,
            memory_mib=configuration.radiomics_memory_mib,
            read_back=self._read_back,
        )

    def _archive(self, name: str) -> Archive:
        archive = self._archives.get(name)
        if archive is None:
            raise ConfigError(f"this worker's configuration has no archive {name}")
        return archive


def _location(located: StageOutcome) -> BodyLocation:
    if located.stage.location is None:
        raise EncodingError("the stage that locates left no location")
    return located.stage.location


def _seg(segmented: StageOutcome) -> StoredObject:
    if segmented.stored is None:
        raise StoreError("no SEG was stored")
    return segmented.stored


Run = Callable[[str, Callable[[], Found]], StageOutcome]
"""Runs one stage, given its name and its body."""


def stages_of(stages: Stages, job: EnrichJob, run: Run) -> Iterator[StageOutcome]:
    """Each stage of the plan in order, up to the one that ends the job; the next one runs when it is asked for."""
    for outcome in _all_stages(stages, job, run):
        yield outcome
        if outcome.state is not JobState.RUNNING:
            return


def _all_stages(stages: Stages, job: EnrichJob, run: Run) -> Iterator[StageOutcome]:
    yield run("retrieve", partial(stages.retrieve, job))
    located: StageOutcome | None = None
    if (wanted := job.plan.location) is not None and (locator := wanted.model) is not None:
        yield (located := run(f"locate {locator.name}", partial(stages.locate, job, locator)))
        if wanted.is_guarded:
            yield run(f"guard {locator.name}", partial(stages.guard, wanted, _location(located)))
        for output in (kind for kind in BODY_OUTPUTS if kind in job.plan.outputs):
            yield run(f"report {output}", partial(stages.report_location, job, locator, output, located))
    segmented: list[StageOutcome] = []
    for model in job.plan.models:
        segmented.append(run(f"segment {model.name}", partial(stages.segment, job, model, located)))
        yield segmented[-1]
    found = [(model, seg) for model, seg in zip(job.plan.models, segmented, strict=True) if seg.stored is not None]
    for output, verb, stage in (
        (Output.RADIOMICS, "measure", stages.measure),
        (Output.LANDMARKS, "report", partial(stages.report, located=located)),
        (Output.RTSTRUCT, "outline", partial(stages.export, Output.RTSTRUCT)),
        (Output.PREVIEW, "preview", partial(stages.export, Output.PREVIEW)),
    ):
        for model, seg in found if output in job.plan.outputs else ():
            yield run(f"{verb} {model.name}", partial(stage, job, model, seg))
    if found and Output.CHECKS in job.plan.outputs:
        yield run("check", partial(stages.check, job, found, located))
