"""The reduced campaign, and the table of the full one in docs/faults.md."""

from __future__ import annotations

import os

import pytest

from tests.faults.campaign.cases import CASES, MOST_FILES_A_JOB, MOST_MIB_A_JOB, Sample, growth
from tests.faults.campaign.site import Census
from tests.faults.campaign.table import PAGE, kept, section

ELSEWHERE = {
    "Orthanc restarted within StableAge": "tests/faults/test_main_job_survives.py",
    "a worker stopped past its heartbeat, then continued": "tests/faults/test_jobs_take_over.py",
    "a worker stopped past its heartbeat (PostgreSQL)": "tests/integration/test_postgresql.py",
}
"""Cases of which a test of their own runs one repetition in every run of the suite."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [name for name in CASES if name not in ELSEWHERE])
def test_nothing_is_lost_doubled_or_left_behind(case: str, orthanc_installed: None) -> None:
    if "disk full" in case and os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("only root may mount a small file system")
    outcome = CASES[case][1]()
    assert outcome.repetitions > 0
    assert outcome.census == Census(outcome.census.sent, lost=0, doubled=0, orphans=0), outcome.figures


def test_the_page_shows_the_results_that_are_kept() -> None:
    assert section(kept()) in PAGE.read_text()
    assert [line.case for line in kept()] == [*CASES]


def test_no_kept_result_lost_doubled_or_left_anything() -> None:
    assert [line for line in kept() if line.lost or line.doubled or line.orphans] == []


def test_growth_is_found() -> None:
    flat = [Sample(jobs, 300.0 + jobs % 7, 20) for jobs in range(100)]
    leak = [Sample(jobs, 300.0 + 0.2 * jobs, 20 + jobs // 10) for jobs in range(100)]
    assert growth(flat)[0] < MOST_MIB_A_JOB < growth(leak)[0]
    assert growth(flat)[1] < MOST_FILES_A_JOB < growth(leak)[1]
