"""A part of the mutations in every run of the suite; `make fuzz` runs 10,000."""

from __future__ import annotations

import pytest

from tests.faults.fuzzing.campaign import campaign, table
from tests.faults.fuzzing.reading import read_case
from tests.support.cases.realct import real_ct

FOUND = (
    (0, 26, "phantom"),
    (0, 110, "chest"),
    (0, 215, "rle"),
    (0, 567, "chest"),
    (0, 622, "rle"),
    (0, 2330, "JPEGProcess14TransferSyntax"),
    (0, 2848, "rle"),
    (2026, 933, "JPEGProcess14TransferSyntax"),
    (2026, 4283, "rle"),
    (20261130, 852, "chest"),
    (20261130, 1151, "tilted"),
)
"""Seed, number and source of cases that once ended in an untyped error or took the process with them."""


@pytest.mark.timeout(300)
def test_mutated_series_end_in_a_reason_or_the_same_volume() -> None:
    reads = [*campaign(250, seed=1, real=False, jobs=2)]
    assert [read for read in reads if read.faults] == []
    assert len(reads) == 250
    assert "| all | 250 |" in table(reads)


@pytest.mark.real_ct
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("seed", "number", "source"), FOUND)
def test_cases_that_once_failed(seed: int, number: int, source: str) -> None:
    real_ct(".")
    assert read_case(number, seed, real=True, source=source).faults == ()
