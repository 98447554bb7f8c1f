"""A location in a job: its record, the guards, and the stages that follow from it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.plan import Guard, Location, PlannedModel
from orthanc_plugin.errors import InputError, ModelError, Refusal
from orthanc_plugin.jobs.guards import check_location
from orthanc_plugin.jobs.record import StageOutcome, StageView, Summary
from tests.support.cases.location_case import CHEST, NOWHERE

WANTED = Location(PlannedModel("bpr", "d"))


def outcome(location: BodyLocation | None) -> StageOutcome:
    return StageOutcome(StageView("locate bpr", 1.5, 300.0, "cpu", notes=("a note",), location=location))


def refusal(wanted: Location, found: BodyLocation) -> InputError:
    with pytest.raises(InputError) as caught:
        check_location(wanted, found)
    return caught.value


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


class TestGuards:
    def test_enough_of_the_region_passes(self) -> None:
        check_location(replace(WANTED, min_coverage=((Region.CHEST, CHEST.coverage[Region.CHEST]),)), CHEST)

    def test_too_little_is_refused_with_what_is_and_what_is_wanted(self) -> None:
        less = replace(CHEST, coverage={Region.CHEST: 0.43})
        error = refusal(replace(WANTED, min_coverage=((Region.CHEST, 0.8),)), less)
        assert (error.reason, str(error)) == (Refusal.NOT_COVERED, "chest 0.43 covered, 0.80 wanted")

    def test_what_is_almost_enough_does_not_read_as_enough(self) -> None:
        almost = replace(CHEST, coverage={Region.CHEST: 0.7999})
        assert str(refusal(replace(WANTED, min_coverage=((Region.CHEST, 0.8),)), almost)).startswith("chest 0.79 cov")

    def test_a_region_of_unknown_coverage_is_refused(self) -> None:
        error = refusal(replace(WANTED, min_coverage=((Region.LEGS, 0.1),)), CHEST)
        assert error.reason is Refusal.NOT_COVERED

    @pytest.mark.parametrize("guard", [*Guard])
    def test_reversed_scans_and_doubtful_spacing_are_refused_only_where_a_rule_says_so(self, guard: Guard) -> None:
        upside_down, doubtful = replace(CHEST, reversed=True), replace(CHEST, valid_spacing=False, slope_ratio=1.9)
        for wanted, found, reason in (
            (replace(WANTED, on_reversed=guard), upside_down, Refusal.REVERSED),
            (replace(WANTED, on_invalid_spacing=guard), doubtful, Refusal.INVALID_SPACING),
        ):
            check_location(wanted, CHEST)
            if guard is Guard.REFUSE:
                assert refusal(wanted, found).reason is reason
            else:
                check_location(wanted, found)

    def test_where_nothing_is_known_no_guard_passes_and_each_says_why(self) -> None:
        for wanted in (
            replace(WANTED, min_coverage=((Region.CHEST, 0.0),)),
            replace(WANTED, on_reversed=Guard.REFUSE),
            replace(WANTED, on_invalid_spacing=Guard.REFUSE),
        ):
            assert NOWHERE.reason in str(refusal(wanted, NOWHERE))
        check_location(WANTED, NOWHERE)
