"""What happens when memory runs out while a model runs: once more with smaller tiles, then on the CPU.

Smaller tiles are fewer slices at once, in networks that see slices. The patch of a 3-D network is part of its graph and
cannot be made smaller, so the CPU follows at once. Either way the arithmetic is the same up to rounding; labels may
differ in single voxels, and the result says how it was made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import PlannedModel
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import OutOfMemoryError
from orthanc_plugin.inference.engine import Probabilistic, SegmentationEngine
from orthanc_plugin.pipeline.location import Locator

_NOTHING = "no structure of the model was found"
_ROUNDING = "labels may differ in single voxels"

logger = logging.getLogger(__name__)


class Models(Protocol):
    """The models of a process."""

    def card(self, model: PlannedModel) -> ModelCard:
        """Return the card of a model."""

    def segmenter(self, model: PlannedModel) -> SegmentationEngine:
        """Return a model that finds organs."""

    def locator(self, model: PlannedModel) -> Locator:
        """Return a body part regression."""

    def on_cpu(self) -> Models | None:
        """Let go of what is loaded and return models that run on the CPU; None if these do so already."""


class Loaded(Protocol):
    """A loaded model of either kind."""

    @property
    def provider(self) -> str:
        """The execution provider that the model really runs on."""


@runtime_checkable
class Sparing(Protocol):
    """A model that can do with less memory."""

    def sparing(self) -> Any:
        """Return the same model with fewer slices at once; None if it cannot do with fewer."""


Model = TypeVar("Model", bound=Loaded)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ran(Generic[Result]):
    """A result. provider: what it ran on. note: how and why it ran otherwise than usual, or empty."""

    result: Result
    provider: str
    note: str


def within_memory(
    models: Models, opened: Callable[[Models], Model], run: Callable[[Model], Result], deaths: int = 0
) -> Ran[Result]:
    """Run a model; if memory runs out, once more with smaller tiles, then on the CPU.

    Parameters
    ----------
    models : Models
    opened : callable
        Opens the model.
    run : callable
        Runs it.
    deaths : int
        Workers that died in this job, perhaps for want of memory: after one, tiles are small from the start, after two
        the model runs on the CPU.

    Raises
    ------
    OutOfMemoryError
        If memory does not suffice on the CPU either.
    """
    why, failed = (f"{deaths} worker(s) died in this job", None) if deaths else ("", None)
    for how, ladder_model in _rungs(models, opened, deaths):
        try:
            model = ladder_model()
            if model is None:
                continue
            note = f"ran {how} ({_ROUNDING}): {why}" if why and how else ""
            return Ran(run(model), model.provider, note)
        except (OutOfMemoryError, MemoryError) as error:
            failed = error if isinstance(error, OutOfMemoryError) else OutOfMemoryError("out of memory")
            why = str(failed)
            logger.warning("%s%s", why, f", although it ran {how}" if how else "")
    raise failed or OutOfMemoryError()


def _rungs(
    models: Models, opened: Callable[[Models], Model], deaths: int
) -> Iterator[tuple[str, Callable[[], Model | None]]]:
    """Yield how to run the model, in words, and what opens it so; None if that is not possible."""

    def small() -> Model | None:
        model = opened(models)
        found: Model | None = model.sparing() if isinstance(model, Sparing) else None
        return found

    def on_cpu() -> Model | None:
        cpu = models.on_cpu()
        return None if cpu is None else opened(cpu)

    if deaths < 2:
        if deaths == 0:
            yield "", lambda: opened(models)
        yield "with fewer slices at once", small
        if deaths:
            yield "", lambda: opened(models)
        yield "on the CPU", on_cpu
        return
    yield "on the CPU", on_cpu
    yield "with fewer slices at once", small
    yield "", lambda: opened(models)


class SegmenterWithinMemory:
    """A model that finds organs, and that gives way when memory runs out (`within_memory`)."""

    def __init__(self, models: Models, model: PlannedModel, deaths: int = 0, *, probabilities: bool = False) -> None:
        self._models, self._model, self._deaths, self._probabilities = models, model, deaths, probabilities
        self._ran_on = ""

    @property
    def card(self) -> ModelCard:
        """The card of the model."""
        return self._models.card(self._model)

    @property
    def provider(self) -> str:
        """The execution provider of the last run; before the first, that of the loaded model."""
        return self._ran_on or self._models.segmenter(self._model).provider

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a volume (see `SegmentationEngine`); a note says if it ran otherwise than usual."""

        def opened(models: Models) -> SegmentationEngine:
            return models.segmenter(self._model)

        def run(engine: SegmentationEngine) -> Segmentation:
            if self._probabilities and isinstance(engine, Probabilistic):
                return engine.segment_with_probabilities(volume)
            return engine.segment(volume)

        ran: Ran[Segmentation] = within_memory(self._models, opened, run, self._deaths)
        self._ran_on, found = ran.provider, ran.result
        if not ran.note:
            return found
        notes = found.notes if found.segments or found.notes else (_NOTHING,)
        return replace(found, notes=(*notes, ran.note))
