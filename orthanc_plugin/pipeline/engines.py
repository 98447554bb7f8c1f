"""What a process keeps from one job to the next: models that are loaded, and their cards."""

from __future__ import annotations

import threading
from pathlib import Path

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.plan import PlannedModel
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.engine import SegmentationEngine, open_engine, open_locator
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.pipeline.location import Locator


class Engines:
    """Models of one process, each loaded at its first use and then kept; sessions in several threads may share them.

    Parameters
    ----------
    models_directory : Path or None
        Folder of the installed models; None for the built-in ones only.
    provider : Provider
        Execution provider that runs the models.
    """

    def __init__(self, models_directory: Path | None, provider: Provider) -> None:
        self._models_directory, self._provider = models_directory, provider
        self._lock = threading.Lock()
        self._segmenters: dict[str, SegmentationEngine] = {}
        self._locators: dict[str, Locator] = {}

    def card(self, model: PlannedModel) -> ModelCard:
        """Return the card of a model, without loading the model.

        Raises
        ------
        ModelError
            If the model is not installed, or has another digest than the plan asks for.
        """
        loaded = self._segmenters.get(model.digest) or self._locators.get(model.digest)
        if loaded is not None:
            return loaded.card
        card = find_model(model.name, self._models_directory)
        if card.digest != model.digest:
            raise ModelError(f"model {model.name} is {card.digest[:12]} here, the job asks for {model.digest[:12]}")
        return card

    def on_cpu(self) -> Engines | None:
        """Let go of what is loaded and return models that run on the CPU; None if these do so already."""
        ran_on = {each.provider for each in self._segmenters.values()} | {e.provider for e in self._locators.values()}
        if self._provider is Provider.CPU or ran_on == {Provider.CPU.value}:
            return None
        with self._lock:
            self._segmenters, self._locators = {}, {}
        return Engines(self._models_directory, Provider.CPU)

    def segmenter(self, model: PlannedModel) -> SegmentationEngine:
        """Return a model that finds organs; raise as `card` and `inference.engine.open_engine`."""
        with self._lock:
            if model.digest not in self._segmenters:
                self._segmenters[model.digest] = open_engine(self.card(model), self._provider)
            return self._segmenters[model.digest]

    def locator(self, model: PlannedModel) -> Locator:
        """Return a body part regression; raise as `card` and `inference.engine.open_locator`."""
        with self._lock:
            if model.digest not in self._locators:
                self._locators[model.digest] = open_locator(self.card(model), self._provider)
            return self._locators[model.digest]
