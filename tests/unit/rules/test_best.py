"""The best series of a study: each figure of the ranking, in its order, and the sentence that names the choice."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from orthanc_plugin.config.rule import DEFAULT_RULE, Rule, SeriesPerStudy
from orthanc_plugin.domain.plan import Plan
from orthanc_plugin.rules.best import Candidate, better_one, candidate_of, figures, is_ranked, ranked, why_better
from orthanc_plugin.rules.decide import decide
from orthanc_plugin.rules.kernels import Sharpness
from tests.unit.rules.test_rules import CHEST, MODELS

SOFT_THIN = Candidate("1.2.1", "chest", Sharpness.SOFT, "Br40", 1.0, 300, 300)


def other(**figures: Any) -> Candidate:
    return replace(SOFT_THIN, series_instance_uid="1.2.2", **figures)


UNKNOWN_KERNEL = other(sharpness=Sharpness.UNKNOWN, kernel="X1")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (SOFT_THIN, UNKNOWN_KERNEL),
        (UNKNOWN_KERNEL, replace(SOFT_THIN, sharpness=Sharpness.SHARP, kernel="Br64")),
        (SOFT_THIN, other(thickness_mm=1.25)),
        (SOFT_THIN, other(thickness_mm=0.6)),
        (other(thickness_mm=5.0), replace(SOFT_THIN, thickness_mm=0.99)),
        (other(thickness_mm=0.9), replace(SOFT_THIN, thickness_mm=0.6)),
        (other(thickness_mm=0.6), replace(SOFT_THIN, thickness_mm=None)),
        (other(coverage_mm=301), SOFT_THIN),
        (SOFT_THIN, other(coverage_mm=None)),
        (other(slices=301), SOFT_THIN),
        (SOFT_THIN, other()),
        # an earlier figure counts more than all later ones
        (SOFT_THIN, other(sharpness=Sharpness.SHARP, kernel="B70f", coverage_mm=900, slices=900)),
        (SOFT_THIN, other(thickness_mm=1.5, coverage_mm=900, slices=900)),
        (SOFT_THIN, other(coverage_mm=299, slices=900)),
    ],
)
def test_each_figure_ranks(better: Candidate, worse: Candidate) -> None:
    assert ranked([worse, better]) == ranked([better, worse]) == (better, worse)
    assert better_one(worse, [better]) == better
    assert better_one(better, [worse]) is None


def test_the_order_of_arrival_does_not_count() -> None:
    study = [SOFT_THIN, other(thickness_mm=0.5), UNKNOWN_KERNEL, replace(SOFT_THIN, series_instance_uid="1.2.3")]
    assert len({ranked(order) for order in permutations(study)}) == 1


def test_a_series_of_another_rule_is_no_rival() -> None:
    assert better_one(UNKNOWN_KERNEL, [replace(SOFT_THIN, rule="head")]) is None


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        (other(sharpness=Sharpness.SHARP, kernel="Br64"), "kernel Br40 (soft), not Br64 (sharp)"),
        (other(sharpness=Sharpness.UNKNOWN, kernel=""), "kernel Br40 (soft), not absent (unknown)"),
        (other(thickness_mm=5.0), "slice thickness 1 mm, not 5 mm"),
        (other(thickness_mm=None), "slice thickness 1 mm, not unknown"),
        (other(coverage_mm=100), "coverage 300 mm, not 100 mm"),
        (other(slices=20), "slices 300, not 20"),
        (other(), "equal in every figure, and first by its SeriesInstanceUID"),
    ],
)
def test_the_sentence_names_the_chosen_series_and_the_figure(worse: Candidate, said: str) -> None:
    assert why_better(SOFT_THIN, worse) == f"rule chest: better series chosen: 1.2.1 ({said})"


def test_the_figures_come_from_the_tags() -> None:
    tags = replace(CHEST, slice_thickness_mm=1.2500001, coverage_mm=299.6)
    made = candidate_of("chest", "1.2.1", tags)
    assert made == Candidate("1.2.1", "chest", Sharpness.SOFT, "Br40d\\3", 1.25, 300, 300)
    assert dict(figures(made)) == {
        "kernel": "Br40d\\3 (soft)",
        "slice thickness": "1.25 mm",
        "coverage": "300 mm",
        "slices": "300",
    }


def test_the_step_between_slices_stands_in_for_an_absent_thickness() -> None:
    assert candidate_of("chest", "1.2.1", replace(CHEST, slice_thickness_mm=None)).thickness_mm == 0.7
    assert candidate_of("chest", "1.2.1", replace(CHEST, slice_thickness_mm=None, spacing_mm=None)).thickness_mm is None


def test_a_rule_ranks_only_where_it_says_so_and_its_plan_stays_the_same() -> None:
    best = Rule.model_validate({"Name": "default", "SeriesPerStudy": "best"})
    assert DEFAULT_RULE.series_per_study is SeriesPerStudy.ALL
    assert (is_ranked([DEFAULT_RULE], "default"), is_ranked([best], "default"), is_ranked([best], "")) == (
        False,
        True,
        False,
    )
    plans = [decide([rule], CHEST, MODELS) for rule in (DEFAULT_RULE, best)]
    assert plans[0] == plans[1]
    assert isinstance(plans[0], Plan)
