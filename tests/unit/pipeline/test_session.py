"""What a job holds and what its process keeps: sessions side by side, and models that are loaded once."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.job import EnrichJob, StageOutcome
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Location, Output, PlannedModel
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.pipeline.engines import Engines
from orthanc_plugin.pipeline.order import stages_of
from orthanc_plugin.pipeline.session import RememberingEngine
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD, small_series
from tests.support.fakes.hand_job import BPR, ORGANS, HandProcess, job, run, run_session, step

ONE = job(Location(BPR, crop=Region.ABDOMEN), Output.LANDMARKS, Output.CHECKS)
OTHER_UID = "2.25.201"
OTHER = replace(ONE, series_instance_uid=OTHER_UID, fingerprint="e" * 64)


class CountingEngine:
    provider = "cpu"

    def __init__(self) -> None:
        self.card: ModelCard = find_model("chest_structures", None)
        self.runs = 0

    def segment(self, volume: Volume) -> Segmentation:
        self.runs += 1
        return Segmentation(np.zeros(volume.voxels_hu.shape, np.uint8), ())


def volume() -> Volume:
    return Volume(np.zeros((2, 2, 2), np.float32), (1.0, 1.0, 1.0), np.eye(4))


def process_of_two_series() -> HandProcess:
    process = HandProcess(CHEST)
    other = small_series(SeriesInstanceUID=OTHER_UID, PatientName="Roe^Richard")
    process.series[OTHER_UID] = replace(other, identity=replace(other.identity, series_instance_uid=OTHER_UID))
    return process


def untimed(outcomes: dict[str, StageOutcome]) -> list[StageOutcome]:
    return [replace(o, stage=replace(o.stage, seconds=0.0, peak_mib=0.0)) for o in outcomes.values()]


def test_the_same_volume_is_inferred_once() -> None:
    counting = CountingEngine()
    engine, one, other = RememberingEngine(counting), volume(), volume()
    assert engine.segment(one) is engine.segment(one)
    assert counting.runs == 1
    engine.segment(other)
    assert counting.runs == 2


def test_a_closed_session_forgets_the_results_of_its_job() -> None:
    process = HandProcess(CHEST)
    with closing(process.sessions.open(ONE)) as session:
        located = run_session(session)["locate bpr"]
        process.archive.instances.clear()
        session.segment(ORGANS, located)
        assert len(process.engine.seen) == 1
    process.archive.instances.clear()
    run(process, ONE)
    assert len(process.engine.seen) == 2


def test_two_sessions_live_in_one_process_and_keep_apart_what_they_hold() -> None:
    alone = [run(process_of_two_series(), what) for what in (ONE, OTHER)]
    process = process_of_two_series()
    together: list[dict[str, StageOutcome]] = [{}, {}]
    with closing(process.sessions.open(ONE)) as one, closing(process.sessions.open(OTHER)) as other:
        for outcomes in zip(stages_of(one, partial(step, {})), stages_of(other, partial(step, {})), strict=True):
            for found, outcome in zip(together, outcomes, strict=True):
                found[outcome.stage.name] = outcome
    assert [untimed(outcomes) for outcomes in together] == [untimed(outcomes) for outcomes in alone]
    assert {str(ds.PatientName) for ds in process.stored.values()} == {"Doe^Jane", "Roe^Richard"}
    assert len(process.engine.seen) == 2


def test_a_session_goes_on_when_its_neighbour_is_closed() -> None:
    process = process_of_two_series()
    with closing(process.sessions.open(OTHER)) as other:
        stages = stages_of(other, partial(step, {}))
        begun = [next(stages), next(stages)]
        run(process, ONE)
        ended = [*begun, *stages]
    expected = untimed(run(process_of_two_series(), OTHER))
    assert untimed({outcome.stage.name: outcome for outcome in ended}) == expected


@pytest.mark.parametrize("what", [ONE, OTHER])
def test_a_session_reads_its_series_once(what: EnrichJob) -> None:
    process, reads = process_of_two_series(), []
    load = process.sessions.load
    counting = replace(process.sessions, load=lambda archive, told: (reads.append(told), load(archive, told))[1])
    with closing(counting.open(what)) as session:
        assert not reads
        run_session(session)
    assert reads == [what]


class TestEngines:
    def test_a_model_is_loaded_once_and_its_card_comes_with_it(self) -> None:
        card = find_model("chest_structures", None)
        engines, planned = Engines(None, Provider.CPU), PlannedModel(card.name, card.digest)
        engine = engines.segmenter(planned)
        assert engines.segmenter(planned) is engine
        assert engines.card(planned) is engine.card

    @pytest.mark.parametrize("ask", ["card", "segmenter", "locator"])
    def test_a_model_that_was_altered_is_refused(self, ask: str) -> None:
        engines = Engines(None, Provider.CPU)
        with pytest.raises(ModelError, match="the job asks for 000000000000"):
            getattr(engines, ask)(PlannedModel("chest_structures", "0" * 64))

    def test_a_model_that_is_not_installed_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError):
            Engines(tmp_path, Provider.CPU).card(PlannedModel(CARD.name, CARD.digest))
