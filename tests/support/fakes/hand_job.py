"""Jobs on a hand-made series, locator and engine, with the real stages and the real record of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin import pipeline
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.job import EnrichJob, Found, StageOutcome
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Location, Output, Plan, PlannedModel
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.errors import InputError
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.jobs.sessions import Sessions
from orthanc_plugin.jobs.stage import run_stage
from orthanc_plugin.pipeline.memory import Models
from orthanc_plugin.pipeline.order import stages_of
from orthanc_plugin.pipeline.session import Session
from tests.support.cases import bpr_case
from tests.support.cases.results_case import CARD, ellipsoids, small_series
from tests.support.fakes.memory_archive import MemoryArchive

BPR, ORGANS = PlannedModel("bpr", "0" * 64), PlannedModel(CARD.name, CARD.digest)
BPR_CARD = bpr_case.card(Path())
SERIES = small_series()
ABSENT = Location(absent="no body part regression model is installed")


@dataclass
class HandLocator:
    """Returns a given location, and counts its calls."""

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
    """Finds the ellipsoids in any part of the series, and keeps the volumes that it saw."""

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


class HandProcess:
    """A worker process with an archive in memory and hand-made models; jobs read `SERIES` or an entry of `series`."""

    def __init__(self, says: BodyLocation | InputError) -> None:
        self.archive = MemoryArchive()
        self.hand_locator, self.engine = HandLocator(says), EllipsoidEngine()
        self.series: dict[str, CtSeries] = {}
        self.sessions = Sessions(parse_section({}, {}), {"local": self.archive}, models=self, load=self._load)

    def card(self, model: PlannedModel) -> ModelCard:
        return self.hand_locator.card if model == BPR else CARD

    def segmenter(self, model: PlannedModel) -> SegmentationEngine:
        return self.engine

    def on_cpu(self) -> Models | None:
        return None

    def locator(self, model: PlannedModel) -> pipeline.Locator:
        return self.hand_locator

    def _load(self, archive: Archive, what: EnrichJob) -> CtSeries:
        return self.series.get(what.series_instance_uid, SERIES)

    @property
    def stored(self) -> dict[str, Dataset]:
        return {str(ds.SOPInstanceUID): ds for ds in self.archive.instances.values()}


def job(location: Location | None, *more: Output) -> EnrichJob:
    plan = Plan("default", (ORGANS,), (Output.SEG, *more), "local", location=location)
    return EnrichJob("local", "2.25.100", "2.25.200", "f" * 64, 0, plan)


def run(
    process: HandProcess, what: EnrichJob, records: Mapping[str, StageOutcome] | None = None
) -> dict[str, StageOutcome]:
    """Run a job in a session of its own; stages in `records` are not run again, as after a crash."""
    with closing(process.sessions.open(what)) as session:
        return run_session(session, records)


def run_session(session: Session, records: Mapping[str, StageOutcome] | None = None) -> dict[str, StageOutcome]:
    """Run the stages of a session; return the outcome of each by name."""
    return {outcome.stage.name: outcome for outcome in stages_of(session, partial(step, records or {}))}


def step(records: Mapping[str, StageOutcome], name: str, body: Callable[[], Found]) -> StageOutcome:
    """Run one stage, unless it is recorded, and read its outcome from the text that the database would keep."""
    if name in records:
        return records[name]
    return StageOutcome.from_json(run_stage(name, body, last_try=True).to_json())
