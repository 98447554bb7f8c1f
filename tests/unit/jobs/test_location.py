"""The record of a location in the job database."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.job import StageOutcome, StageView
from orthanc_plugin.errors import ModelError
from orthanc_plugin.jobs.record import Summary
from tests.support.cases.location_case import CHEST, NOWHERE


def outcome(location: BodyLocation | None) -> StageOutcome:
    return StageOutcome(StageView("locate bpr", 1.5, 300.0, "cpu", notes=("a note",), location=location))


class TestRecord:
    @pytest.mark.parametrize("location", [CHEST, NOWHERE, None])
    def test_a_location_survives_its_way_through_the_database(self, location: BodyLocation | None) -> None:
        said = outcome(location)
        assert StageOutcome.from_json(said.to_json()) == said
        summary = Summary((said.stage,))
        assert Summary.from_json(summary.to_json()) == summary

    def test_scores_and_places_are_rounded_once(self) -> None:
        fine = replace(CHEST, scores=(None, *(score + 0.00123 for score in CHEST.scores[1:] if score is not None)))
        assert fine.recorded == CHEST
        assert fine.recorded.recorded == fine.recorded

    def test_regions_with_gaps_come_back(self) -> None:
        gaps = replace(CHEST, regions={Region.CHEST: (0, 1, 2, 7, 9, 10), Region.HEAD: (11,)})
        assert gaps.recorded.regions == gaps.regions

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_a_score_that_is_no_number_never_reaches_the_database(self, number: float) -> None:
        landmark = replace(CHEST.landmarks[0], sd_mm=number)
        for broken in ({"scores": (number,)}, {"slope_ratio": number}, {"landmarks": (landmark,)}):
            with pytest.raises(ModelError, match="not a number"):
                replace(CHEST, **broken)  # type: ignore[arg-type]

    def test_a_thousand_slices_take_little_space(self) -> None:
        indices = range(1000)
        many = replace(
            CHEST,
            scores=tuple(index / 9 for index in indices),
            raw_scores=tuple(index / 9 for index in indices),
            z_mm=tuple(-300 + index * 0.7 for index in indices),
            regions={region: tuple(indices) for region in Region},
        )
        assert len(outcome(many).to_json()) < 32_000

    def test_a_record_of_before_is_read(self) -> None:
        raw = json.loads(outcome(None).to_json())
        del raw["stage"]["location"]
        assert StageOutcome.from_json(json.dumps(raw)) == outcome(None)
