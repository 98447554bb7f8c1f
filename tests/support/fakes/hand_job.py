"""A job on a series, a locator and an engine made by hand: the real stages and the real record of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin import pipeline
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Location, Output, Plan, PlannedModel
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.errors import InputError
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.jobs.record import EnrichJob, StageOutcome
from orthanc_plugin.jobs.stage import Found, run_stage
from orthanc_plugin.jobs.stages import RememberingEngine, Stages, stages_of
from tests.support.cases import bpr_case
from tests.support.cases.results_case import CARD, ellipsoids, small_series
from tests.support.fakes.memory_archive import MemoryArchive

BPR, ORGANS = PlannedModel("bpr", "0" * 64), PlannedModel(CARD.name, CARD.digest)
BPR_CARD = bpr_case.card(Path())
SERIES = small_series()
ABSENT = Location(absent="no body part regression model is installed")


@dataclass
class HandLocator:
    """Says what it is told, and counts how often it is asked."""

    says: BodyLocation | InputError
    card: ModelCard = BPR_CARD
    provider: str = "cpu"
    runs: int = 0

    def locate(self, volume: Volume) -> BodyLocation:
        self.runs += 1
        if isinstance(self.says, InputError):
            raise self.says
        return self.says


class EllipsoidEngine:
    """Finds the ellipsoids of the whole series in whatever part of it is shown; keeps what it saw."""

    card, provider = CARD, "cpu"

    def __init__(self) -> None:
        self.seen: list[Volume] = []
        self.finds_nothing = False

    def segment(self, volume: Volume) -> Segmentation:
        self.seen.append(volume)
        found = ellipsoids(SERIES)
        first = round((volume.affine[2, 3] - SERIES.volume.affine[2, 3]) / 5.0)
        part = found.labels[first : first + len(volume.voxels_hu)]
        if self.finds_nothing:
            return Segmentation(np.zeros_like(part), ())
        return replace(found, labels=part)


class HandStages(Stages):
    """The stages on a series, a locator and an engine made by hand."""

    def __init__(self, says: BodyLocation | InputError) -> None:
        self.archive = MemoryArchive()
        super().__init__(parse_section({}, {}), {"local": self.archive})
        self.locator, self.engine = HandLocator(says), EllipsoidEngine()
        self.remembering = RememberingEngine(self.engine)

    def _series(self, job: EnrichJob) -> CtSeries:
        return SERIES

    def _engine(self, model: PlannedModel) -> SegmentationEngine:
        return self.remembering

    def _locator(self, model: PlannedModel) -> pipeline.Locator:
        return self.locator

    def _card(self, model: PlannedModel) -> ModelCard:
        return self.locator.card if model == BPR else CARD

    @property
    def stored(self) -> dict[str, Dataset]:
        return {str(ds.SOPInstanceUID): ds for ds in self.archive.instances.values()}


def job(location: Location | None, *more: Output) -> EnrichJob:
    plan = Plan("default", (ORGANS,), (Output.SEG, *more), "local", location=location)
    return EnrichJob("local", "2.25.100", "2.25.200", "f" * 64, 0, plan)


def run(
    stages: HandStages, what: EnrichJob, records: Mapping[str, StageOutcome] | None = None
) -> dict[str, StageOutcome]:
    """Each stage by name; those that are recorded are not run again, as in a worker after a crash."""

    def step(name: str, body: Callable[[], Found]) -> StageOutcome:
        if records and name in records:
            return records[name]
        return StageOutcome.from_json(run_stage(name, body, last_try=True).to_json())

    return {outcome.stage.name: outcome for outcome in stages_of(stages, what, step)}
