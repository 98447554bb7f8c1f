"""Where in the body a series lies: what a rule asks of it, and what its plan says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orthanc_plugin.config.rule import DEFAULT_RULE
from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.plan import (
    BODY_OUTPUTS,
    Guard,
    Location,
    Output,
    Plan,
    PlannedModel,
)
from orthanc_plugin.errors import ModelError, Refusal
from orthanc_plugin.rules.decide import Skip, decide
from tests.unit.rules.test_rules import CHEST, MODELS, NOT_INSTALLED, rule


class TestLocation:
    """Where a body part regression is installed a series is located; a rule that relies on it never does without."""

    WITH_BPR = {**MODELS, "bpr": "d3"}

    def plan(self, test_models: frozenset[str] = frozenset(), phantom: bool = False, **keys: Any) -> Plan:
        decided = decide([rule(**keys)], replace(CHEST, phantom=phantom), self.WITH_BPR, test_models)
        assert isinstance(decided, Plan)
        return decided

    def test_default_locates_and_reports_landmarks_and_regions(self) -> None:
        plan = self.plan()
        assert plan.location == Location(PlannedModel("bpr", "d3"))
        assert [output for output in plan.outputs if output in BODY_OUTPUTS] == [
            Output.BODY_LANDMARKS,
            Output.BODY_REGIONS,
        ]

    def test_rule_gives_guards_and_crop(self) -> None:
        coverage = {"pelvis": 0.5, "chest": 1}
        plan = self.plan(MinCoverage=coverage, OnReversed="refuse", OnInvalidSpacing="refuse", CropToRegion="chest")
        assert plan.location == Location(
            PlannedModel("bpr", "d3"),
            ((Region.CHEST, 1.0), (Region.PELVIS, 0.5)),
            Guard.REFUSE,
            Guard.REFUSE,
            Region.CHEST,
        )
        assert plan.location.is_guarded

    def test_an_empty_name_locates_nothing(self) -> None:
        plan = self.plan(Locate="", Outputs=["seg", "body-landmarks"])
        assert plan.location is None
        assert not {*plan.outputs} & {*BODY_OUTPUTS}

    def test_a_plan_that_locates_nothing_is_the_plan_of_before(self) -> None:
        without = self.plan(Locate="")
        plain = decide([DEFAULT_RULE], CHEST, MODELS)
        assert isinstance(plain, Plan)
        assert plain.location == NOT_INSTALLED
        assert plain.digest == without.digest != self.plan().digest

    def test_a_test_locator_is_passed_over_on_patients_and_taken_for_phantoms(self) -> None:
        barred = self.plan(frozenset({"bpr"}))
        assert barred.location is not None
        assert barred.location.model is None
        assert "test model" in barred.location.absent
        assert barred.digest == self.plan(Locate="").digest
        for plan in (self.plan(frozenset({"bpr"}), phantom=True), self.plan(frozenset({"bpr"}), AllowTestModels=True)):
            assert plan.location == Location(PlannedModel("bpr", "d3"))

    @pytest.mark.parametrize(
        "keys",
        [{"MinCoverage": {"chest": 0.8}}, {"CropToRegion": "chest"}, {"OnReversed": "refuse"},
         {"OnInvalidSpacing": "refuse"}],
    )  # fmt: skip
    def test_a_rule_that_relies_on_a_test_locator_refuses_patients(self, keys: dict[str, Any]) -> None:
        refused = decide([rule(**keys)], CHEST, self.WITH_BPR, {"bpr"})
        assert isinstance(refused, Skip)
        assert refused.reason is Refusal.TEST_MODEL

    def test_a_locator_that_went_away_is_missed_where_the_rule_relies_on_it(self) -> None:
        with pytest.raises(ModelError, match="model bpr is not installed"):
            decide([rule(MinCoverage={"chest": 0.8})], CHEST, MODELS)

    @pytest.mark.parametrize(
        "keys",
        [{"MinCoverage": {"thorax": 0.8}}, {"MinCoverage": {"chest": 1.1}}, {"MinCoverage": {"chest": -0.1}},
         {"OnReversed": "ignore"}, {"CropToRegion": "thorax"}, {"Outputs": ["body-regions"]}],
    )  # fmt: skip
    def test_what_is_no_region_part_or_guard_is_refused(self, keys: dict[str, Any]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            rule(**keys)
