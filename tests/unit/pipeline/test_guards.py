"""Guards: the scans that a rule refuses because of what body part regression found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.plan import Guard, Location, PlannedModel
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.pipeline.guards import check_location
from tests.support.cases.location_case import CHEST, NOWHERE

WANTED = Location(PlannedModel("bpr", "d"))


def refusal(wanted: Location, found: BodyLocation) -> InputError:
    with pytest.raises(InputError) as caught:
        check_location(wanted, found)
    return caught.value


def test_enough_of_the_region_passes() -> None:
    check_location(replace(WANTED, min_coverage=((Region.CHEST, CHEST.coverage[Region.CHEST]),)), CHEST)


def test_too_little_is_refused_with_what_is_and_what_is_wanted() -> None:
    less = replace(CHEST, coverage={Region.CHEST: 0.43})
    error = refusal(replace(WANTED, min_coverage=((Region.CHEST, 0.8),)), less)
    assert (error.reason, str(error)) == (Refusal.NOT_COVERED, "chest 0.43 covered, 0.80 wanted")


def test_what_is_almost_enough_does_not_read_as_enough() -> None:
    almost = replace(CHEST, coverage={Region.CHEST: 0.7999})
    assert str(refusal(replace(WANTED, min_coverage=((Region.CHEST, 0.8),)), almost)).startswith("chest 0.79 cov")


def test_a_region_of_unknown_coverage_is_refused() -> None:
    error = refusal(replace(WANTED, min_coverage=((Region.LEGS, 0.1),)), CHEST)
    assert error.reason is Refusal.NOT_COVERED


@pytest.mark.parametrize("guard", [*Guard])
def test_reversed_scans_and_doubtful_spacing_are_refused_only_where_a_rule_says_so(guard: Guard) -> None:
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


def test_where_nothing_is_known_no_guard_passes_and_each_says_why() -> None:
    for wanted in (
        replace(WANTED, min_coverage=((Region.CHEST, 0.0),)),
        replace(WANTED, on_reversed=Guard.REFUSE),
        replace(WANTED, on_invalid_spacing=Guard.REFUSE),
    ):
        assert NOWHERE.reason in str(refusal(wanted, NOWHERE))
    check_location(WANTED, NOWHERE)
