"""Rules held against the models that are installed: each of the right kind, and none missing that a rule relies on."""

from __future__ import annotations

from typing import Any

import pytest

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.rules.installed import Installed, check_rules, installed_models

ORGANS = Installed({"chest_structures": "d1", "head_neck_oar": "d4"})
BOTH = Installed({**ORGANS.digests, "bpr": "d2"}, frozenset({"bpr"}))


def check(installed: Installed, **rule: Any) -> None:
    check_rules(parse_section({"Rules": [{"Name": "a", **rule}]}, {}), installed)


def problem(installed: Installed, **rule: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(installed, **rule)
    (line,) = str(caught.value).splitlines()
    return line


def test_built_in_models_are_found_and_the_default_rule_does_without_body_part_regression() -> None:
    installed = installed_models(None)
    assert "chest_structures" in installed.organ_models
    assert "bpr" not in installed.digests
    check(installed)


def test_installed_models_of_their_kind_pass() -> None:
    check(BOTH, MinCoverage={"chest": 0.8}, OnReversed="refuse", CropToRegion="chest")
    check(BOTH, Locate="")


def test_a_model_that_is_not_installed_is_refused_with_the_nearest_name() -> None:
    said = problem(ORGANS, Models=["chest_structure"])
    assert said == (
        'Enrichment.Rules[0].Models: "chest_structure" is not allowed, did you mean "chest_structures"?;'
        " allowed: installed models (chest_structures, head_neck_oar)"
    )


def test_models_and_locate_do_not_change_places() -> None:
    assert "it finds no organs: name it in Locate" in problem(BOTH, Models=["bpr"])
    assert "it is not a body part regression model" in problem(BOTH, Locate="chest_structures")


def test_another_locator_than_the_default_must_be_installed() -> None:
    assert problem(BOTH, Locate="bp") == (
        'Enrichment.Rules[0].Locate: "bp" is not allowed, did you mean "bpr"?;'
        " allowed: installed body part regression models (bpr), or empty"
    )


@pytest.mark.parametrize(
    ("rule", "key"),
    [({"MinCoverage": {"chest": 0.8}}, "MinCoverage"), ({"OnReversed": "refuse"}, "OnReversed"),
     ({"OnInvalidSpacing": "refuse"}, "OnInvalidSpacing"), ({"CropToRegion": "chest"}, "CropToRegion")],
)  # fmt: skip
def test_what_only_body_part_regression_can_answer_stops_the_start_without_it(rule: dict[str, Any], key: str) -> None:
    said = problem(ORGANS, **rule)
    assert said.startswith(f"Enrichment.Rules[0].{key}: needs a body part regression")
    assert "orthanc-enrich models install bpr" in said
    assert "name one in Locate" in problem(BOTH, Locate="", **rule)
