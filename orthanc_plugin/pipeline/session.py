"""One job at work: its stages, and what they share until the session is closed.

Each stage ends when its object is stored in the plan's home archive. The series, the slices that organ models see and
the masks read back stay in memory between the stages. After a crash, a new session reads the series again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.input_quality import InputFigure
from orthanc_plugin.domain.job import EnrichJob, Found, StageOutcome
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import MaskObject, Output, PlannedModel, StoredObject
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.errors import EncodingError, MaskError, Refusal, StoreError
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.pipeline import closing, location, organs, scan, shadow
from orthanc_plugin.pipeline.context import Context, ReadBack, ReportResult
from orthanc_plugin.pipeline.field import NOT_SHOWN, head_and_neck
from orthanc_plugin.pipeline.foreign import measure_masks
from orthanc_plugin.pipeline.memory import Models, SegmenterWithinMemory, within_memory
from orthanc_plugin.quality.scan import measure_scan

_Report = Callable[[CtSeries, ModelCard, StoredObject, str, Context], ReportResult]


class RememberingEngine:
    """An engine that keeps its last result: an archive that refuses the SEG is tried again without new inference."""

    def __init__(self, engine: SegmentationEngine) -> None:
        self._engine = engine
        self._last: tuple[Volume, Segmentation] | None = None

    @property
    def card(self) -> ModelCard:
        """The card of the engine."""
        return self._engine.card

    @property
    def provider(self) -> str:
        """The execution provider of the engine."""
        return self._engine.provider

    def segment(self, volume: Volume) -> Segmentation:
        """Return the engine's result, or the one it gave for this very volume before."""
        if self._last is None or self._last[0] is not volume:
            self._last = volume, self._engine.segment(volume)
        return self._last[1]


class Session:
    """The stages of one job; several sessions may live in a process at once.

    Parameters
    ----------
    job : EnrichJob
        The job, with its plan.
    models : Models
        The models of the process.
    load : callable
        Reads the series of the job and vouches for it.
    make_context : callable
        Makes the context of the stages around what they read back; called when the first result is looked for.
    deaths : int
        Workers that died in this job, perhaps for want of memory.
    """

    def __init__(
        self,
        job: EnrichJob,
        models: Models,
        load: Callable[[], CtSeries],
        make_context: Callable[[ReadBack], Context],
        deaths: int = 0,
    ) -> None:
        self.job, self._deaths = job, deaths
        self._models, self._load, self._make_context = models, load, make_context
        self._engines: dict[str, RememberingEngine] = {}
        self._crop: location.Crop | None = None
        self._fields: dict[str, location.Crop | None] = {}

    def close(self) -> None:
        """Let go of the series, the masks and the results of this job."""
        for held in ("_series", "_figures", "_context"):
            self.__dict__.pop(held, None)
        self._engines, self._crop, self._fields = {}, None, {}

    def retrieve(self) -> Found:
        """Read the series and vouch for it."""
        told = scan.told(scan.refuse_unfit(self._figures, self.job.plan.input_limits))
        return Found(notes=(*self._series.notes, *self._series.marks, *told))

    def locate(self, model: PlannedModel) -> Found:
        """Find the place of the series in the body."""
        ran = within_memory(
            self._models,
            lambda models: models.locator(model),
            lambda locator: location.locate(self._series, locator),
            self._deaths,
        )
        notes = (*ran.result.notes, *([ran.note] if ran.note else []))
        return Found(provider=ran.result.provider, notes=notes, location=ran.result.location.recorded)

    def report_location(self, model: PlannedModel, kind: Output, located: StageOutcome) -> Found:
        """Store the landmarks or regions of the body."""
        found, provider = location_of(located), located.stage.provider
        result = location.report_location(kind, self._series, self._models.card(model), found, provider, self._context)
        return Found(result.stored, notes=result.notes)

    def segment(self, model: PlannedModel, located: StageOutcome | None = None) -> Found:
        """Find and store the structures of one model."""
        if not self._is_shown(model, located):
            return Found(notes=(f"{model.name} {NOT_SHOWN}",))
        crop, wanted = self._seen(model, located), self.job.plan.location
        result = organs.segment(self._series, self._engine(model), self._context, crop)
        volumes_ml = {key: round(volume_ml, 3) for key, volume_ml in result.volumes_ml.items()}
        missed = crop is None and wanted is not None and wanted.crop is not None
        notes = ("not cropped: where the scan lies in the body is not known",) if missed else ()
        return Found(
            result.seg, result.provider, volumes_ml, (*notes, *result.notes),
            checks=result.held_back, held_back=bool(result.held_back), confidence=result.confidence,
        )  # fmt: skip

    def store_probabilities(
        self, model: PlannedModel, segmented: StageOutcome, located: StageOutcome | None = None
    ) -> Found:
        """Store the probabilities of a stored SEG; in the session that segmented, the model does not run again."""
        crop, engine = self._seen(model, located), self._engine(model)
        result = organs.store_probabilities(self._series, engine, _seg(segmented), self._context, crop)
        return Found(result.stored, notes=result.notes)

    def _engine(self, model: PlannedModel) -> RememberingEngine:
        if model.digest not in self._engines:
            wanted = Output.PROBABILITIES in self.job.plan.outputs
            engine = SegmenterWithinMemory(self._models, model, self._deaths, probabilities=wanted)
            self._engines[model.digest] = RememberingEngine(engine)
        return self._engines[model.digest]

    def measure(self, model: PlannedModel, segmented: StageOutcome) -> Found:
        """Store the radiomics of a stored SEG."""
        return self._reported(organs.measure, model, segmented)

    def report(self, model: PlannedModel, segmented: StageOutcome, located: StageOutcome | None = None) -> Found:
        """Store the landmarks of a stored SEG; a note says if they stand in for those of body part regression."""
        found = self._reported(partial(organs.report, crop=self._seen(model, located)), model, segmented)
        absent = self.job.plan.location.absent if self.job.plan.location is not None else ""
        if found.stored is None or not absent:
            return found
        return replace(found, notes=(f"{absent}: landmarks of the lung masks stand in", *found.notes))

    def check(
        self, segmented: Sequence[tuple[PlannedModel, StageOutcome]], located: StageOutcome | None = None
    ) -> Found:
        """Run the quality checks on all stored SEGs and store their results."""
        found = [
            closing.Checkable(
                self._models.card(model),
                _seg(outcome),
                organs.searched_slices(self._seen(model, located)),
                outcome.stage.confidence,
            )
            for model, outcome in segmented
        ]
        checked = closing.check(self._series, found, segmented[0][1].stage.provider, self._context)
        failed = [f"{r.check} of {r.key} failed: {r.detail}" for r in checked.results if not r.passed]
        return Found(checked.report.stored, notes=(*checked.report.notes, *failed), checks=checked.results)

    def shadow(
        self,
        model: PlannedModel,
        segmented: Sequence[tuple[PlannedModel, StageOutcome]],
        located: StageOutcome | None = None,
    ) -> Found:
        """Compare what a shadow model finds with the stored SEGs, and store nothing.

        It does not run where a worker died in this job: it may be the reason.
        """
        if self._deaths:
            return Found(notes=(f"not run: {self._deaths} worker(s) died in this job",))
        if not self._is_shown(model, located):
            return Found(notes=(f"{model.name} {NOT_SHOWN}",))
        engine = SegmenterWithinMemory(self._models, model)
        others = [(self._models.card(other), outcome.stored) for other, outcome in segmented]
        found, compared = shadow.compare(self._series, engine, others, self._context, self._seen(model, located))
        return Found(provider=engine.provider, notes=(*found.notes, *shadow.in_words(compared)), compared=compared)

    def find_masks(self) -> Found:
        """List the masks that others made of the series.

        Raises
        ------
        MaskError
            If there are none.
        """
        identity = self.job.study_instance_uid, self.job.series_instance_uid
        found = self._context.masks_of_others.list(*identity)
        if not found:
            raise MaskError(Refusal.NO_MASKS, "the study has no SEG and no RT structure set of others for this series")
        return Found(masks=found)

    def measure_masks(self, mask: MaskObject) -> Found:
        """Store the radiomics of the masks of one object; where they do not fit, a note says why."""
        try:
            ds = self._context.masks_of_others.read(mask)
            if ds is None:
                return Found(notes=("left out: these masks were made here",))
            result = measure_masks(self._series, ds, self._context)
        except MaskError as error:
            return Found(notes=(f"{error.reason}: {error}",))
        # The notes themselves name structures as somebody called them: such text stays in the archive.
        notes = (f"notes on the masks in the report: {len(result.notes)}",) if result.notes else ()
        return Found(result.stored, notes=notes)

    def require_a_report(self, measured: Sequence[StageOutcome]) -> Found:
        """End the job with the reasons if none of the masks could be measured.

        Raises
        ------
        MaskError
            If no report was stored.
        """
        if all(outcome.stored is None for outcome in measured):
            notes = (note for outcome in measured for note in outcome.stage.notes)
            raise MaskError(Refusal.NO_MASKS, "; ".join(dict.fromkeys(notes)))
        return Found()

    def export(self, kind: Output, model: PlannedModel, segmented: StageOutcome) -> Found:
        """Store a stored SEG in another form."""
        return self._reported(partial(closing.export, kind), model, segmented)

    def capture(self, model: PlannedModel, segmented: StageOutcome) -> Found:
        """Store the pictures of a stored SEG."""
        return self._reported(closing.capture, model, segmented)

    def summarise(
        self,
        model: PlannedModel,
        segmented: StageOutcome,
        checked: tuple[StageOutcome, Sequence[StageOutcome]] | None = None,
    ) -> Found:
        """Store the summary of a stored SEG; `checked` is the outcome of the quality checks, and what they checked."""
        results = None if checked is None else (checked[0].stage.checks, [_seg(outcome) for outcome in checked[1]])
        return self._reported(partial(closing.summarise, checked=results), model, segmented)

    def report_input(
        self, segmented: Sequence[tuple[PlannedModel, StageOutcome]], located: StageOutcome | None = None
    ) -> Found:
        """Store what the series is worth as input, with what the models of the job tell of it."""
        masks = [(self._models.card(model), _seg(outcome)) for model, outcome in segmented]
        place = location_of(located) if located is not None else None
        limits = self.job.plan.input_limits
        result, figures = scan.report(self._series, self._figures, limits, masks, place, self._context)
        return Found(result.stored, notes=(*result.notes, *scan.told(figures)))

    def _reported(self, make: _Report, model: PlannedModel, segmented: StageOutcome) -> Found:
        card, provider = self._models.card(model), segmented.stage.provider
        result = make(self._series, card, _seg(segmented), provider, self._context)
        return Found(result.stored, notes=result.notes, more=result.more)

    @cached_property
    def _series(self) -> CtSeries:
        return self._load()

    @cached_property
    def _figures(self) -> tuple[InputFigure, ...]:
        return measure_scan(self._series, self.job.plan.input_limits)

    @cached_property
    def _context(self) -> Context:
        context = self._make_context(ReadBack())
        return replace(context, begun=context.clock(), models=tuple(model.digest for model in self.job.plan.models))

    def _is_shown(self, model: PlannedModel, located: StageOutcome | None) -> bool:
        return self._models.card(model).field is None or self._seen(model, located) is not None

    def _seen(self, model: PlannedModel, located: StageOutcome | None) -> location.Crop | None:
        """Return the slices that a model sees; None for all of them, or for none if the model has a field."""
        if self._models.card(model).field is None:
            return self._cropped(located)
        if model.digest not in self._fields:
            place = None if located is None else location_of(located)
            self._fields[model.digest] = head_and_neck(self._series.volume, place)
        return self._fields[model.digest]

    def _cropped(self, located: StageOutcome | None) -> location.Crop | None:
        """Return the slices that organ models see: one view, so that a stage that is tried again infers nothing."""
        wanted = self.job.plan.location
        if located is None or wanted is None or wanted.model is None or wanted.crop is None:
            return None
        if (found := location_of(located)).reason:
            return None
        if self._crop is None:
            self._crop = location.crop_to(wanted.crop, self._series.volume, found, wanted.model.digest)
        return self._crop


def location_of(located: StageOutcome) -> BodyLocation:
    """Return the location that the stage `locate` found; raise EncodingError if it left none."""
    if located.stage.location is None:
        raise EncodingError("the stage `locate` left no location")
    return located.stage.location


def _seg(segmented: StageOutcome) -> StoredObject:
    if segmented.stored is None:
        raise StoreError("no SEG was stored")
    return segmented.stored
