"""One series per study: who waits for whom, what is chosen, and what a series that comes later changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import EnrichJob, JobState
from orthanc_plugin.errors import InputError, NothingSentError, Refusal
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.study import LOOK_AGAIN_S
from tests.support.fakes.memory_archive import ct_series, ct_slice
from tests.unit.jobs.test_admission import RECONCILE_S, STABLE_AGE_S, House

BEST: dict[str, Any] = {"Name": "chest", "SeriesPerStudy": "best"}
SOFT, SHARP, THICK, SCOUT = "1.2.11", "1.2.12", "1.2.13", "1.2.14"


def series_of(uid: str, *, kernel: str = "Br40", step_mm: float = 1.0, slices: int = 60) -> list[Dataset]:
    made = ct_series(slices, series=uid)
    for number, ds in enumerate(made):
        ds.ConvolutionKernel, ds.SliceThickness = kernel, step_mm
        ds.ImagePositionPatient = [0, 0, number * step_mm]
    return made


def four_series() -> dict[str, list[Dataset]]:
    """Soft and thin, sharp and thin, soft and thick, and a scout."""
    scout = series_of(SCOUT, slices=2)
    for ds in scout:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return {
        SOFT: series_of(SOFT),
        SHARP: series_of(SHARP, kernel="Br64"),
        THICK: series_of(THICK, step_mm=3.0, slices=20),
        SCOUT: scout,
    }


class Ward(House):
    """A house whose rules are given, with the states of several series."""

    def with_rules(self, *rules: dict[str, Any]) -> None:
        archives = {"local": {"Url": "http://pacs/dicom-web", "OrthancUrl": "http://pacs"}}
        parsed = parse_section({"Archives": archives, "Rules": list(rules)}, {})
        self.configuration = self.configuration.model_copy(update={"rules": parsed.rules})
        self.start()
        self.admission.tick(0.0)

    def states(self, *series: str) -> dict[str, tuple[str, str]]:
        rows = {uid: self.rows(uid) for uid in series}
        return {uid: (found[-1].state, found[-1].reason) for uid, found in rows.items() if found}


QUEUED, BETTER = (JobState.QUEUED, ""), (JobState.SKIPPED, Refusal.BETTER_SERIES)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Ward]:
    made = Ward(tmp_path)
    made.with_rules(BEST)
    yield made
    made.queue.close()


def test_of_four_series_one_is_enriched_and_three_are_skipped_with_reasons(house: Ward) -> None:
    study = four_series()
    for instances in study.values():
        house.archive.put(*instances)
    for uid in study:
        house.admission.hint(Hint("local", "1.2", uid, stable=True))
    house.admission.tick(1.0)
    house.admission.tick(1.0 + LOOK_AGAIN_S)
    assert house.states(*study) == {
        SOFT: QUEUED,
        SHARP: BETTER,
        THICK: BETTER,
        SCOUT: (JobState.SKIPPED, Refusal.TOO_FEW_SLICES),
    }
    details = {uid: house.rows(uid)[0].detail for uid in (SHARP, THICK)}
    assert details == {
        SHARP: f"rule chest: better series chosen: {SOFT} (kernel Br40 (soft), not Br64 (sharp))",
        THICK: f"rule chest: better series chosen: {SOFT} (slice thickness 1 mm, not 3 mm)",
    }
    assert house.admission.waiting == 0


def test_a_complete_series_waits_for_one_that_still_arrives(house: Ward) -> None:
    house.archive.put(*series_of(SHARP, kernel="Br64"), *series_of(SOFT, slices=30))
    house.hint(series=SHARP, now=1.0)
    assert house.rows(SHARP) == ()
    house.archive.put(*series_of(SOFT)[30:])
    house.admission.tick(1.0 + LOOK_AGAIN_S)
    assert house.states(SOFT, SHARP) == {}
    house.admission.tick(2.0 + LOOK_AGAIN_S + STABLE_AGE_S)
    house.admission.tick(2.0 + 2 * LOOK_AGAIN_S + STABLE_AGE_S)
    assert house.states(SOFT, SHARP) == {SOFT: QUEUED, SHARP: BETTER}


def test_a_series_that_changes_while_it_waits_must_be_complete_again(house: Ward) -> None:
    house.archive.put(*series_of(SOFT, slices=30), *series_of(THICK, step_mm=3.0, slices=20))
    house.hint(series=SOFT, now=1.0)
    house.archive.put(*series_of(SOFT)[30:])
    house.hint(series=THICK, now=2.0)
    assert house.states(SOFT, THICK) == {}
    for now in range(3, 200):
        house.admission.tick(float(now))
    assert house.states(SOFT, THICK) == {SOFT: QUEUED, THICK: BETTER}
    assert len(house.rows(SOFT)) == 1


def test_what_only_orthanc_knows_counts_for_the_other_series_too(house: Ward) -> None:
    house.with_rules({**BEST, "Match": {"RemoteAET": ["CT1"]}})
    house.archive.put(*series_of(SOFT), *series_of(SHARP, kernel="Br64"))
    for uid in (SHARP, SOFT):
        house.admission.hint(Hint("local", "1.2", uid, stable=True))
    for now in range(1, 100, 3):
        house.admission.tick(float(now))
    assert house.states(SOFT, SHARP) == {SOFT: QUEUED, SHARP: BETTER}


def test_series_of_an_ordinary_rule_wait_for_nobody(house: Ward) -> None:
    house.with_rules({"Name": "soft", "Match": {"ConvolutionKernel": "Br40"}}, BEST)
    house.archive.put(*series_of(SOFT), *series_of(SHARP, kernel="Br64"))
    house.hint(series=SOFT)
    assert house.states(SOFT) == {SOFT: QUEUED}
    house.hint(series=SHARP, now=2.0)
    assert house.states(SHARP) == {SHARP: QUEUED}


def test_by_default_every_series_is_enriched_and_nothing_more_is_asked_of_the_archive(house: Ward) -> None:
    house.with_rules({"Name": "chest"})
    house.archive.put(*series_of(SOFT), *series_of(THICK, step_mm=3.0, slices=20))
    before = house.archive.asked
    house.hint(series=SOFT)
    assert house.archive.asked - before == 6
    house.hint(series=THICK, now=2.0)
    assert house.states(SOFT, THICK) == {SOFT: QUEUED, THICK: QUEUED}


def test_the_job_of_the_chosen_series_is_that_of_an_ordinary_rule(house: Ward) -> None:
    house.archive.put(*series_of(SOFT))
    house.hint(series=SOFT)
    (best,) = house.rows(SOFT)
    house.with_rules({"Name": "chest"})
    house.archive.put(*series_of(THICK, step_mm=3.0, slices=20))
    house.hint(series=THICK, now=2.0)
    (ordinary,) = house.rows(THICK)
    assert EnrichJob.from_json(best.argument).plan == EnrichJob.from_json(ordinary.argument).plan


def choose_thick_first(house: Ward) -> str:
    house.archive.put(*series_of(THICK, step_mm=3.0, slices=20))
    house.hint(series=THICK, now=1.0)
    assert house.states(THICK) == {THICK: QUEUED}
    house.archive.put(*series_of(SOFT))
    return house.rows(THICK)[0].job_id


def test_a_later_better_series_takes_the_place_of_a_job_that_has_not_begun(house: Ward) -> None:
    job_id = choose_thick_first(house)
    house.hint(series=SOFT, now=2.0)
    assert house.states(SOFT, THICK) == {SOFT: QUEUED, THICK: BETTER}
    assert SOFT in house.rows(THICK)[0].detail
    assert not house.queue.ledger.start(job_id)
    house.queue.settle()
    assert house.states(THICK) == {THICK: BETTER}


@pytest.mark.parametrize("ended", [False, True])
def test_a_later_better_series_leaves_alone_what_runs_or_is_stored(house: Ward, ended: bool) -> None:
    job_id = choose_thick_first(house)
    house.queue.ledger.start(job_id)
    if ended:
        house.queue.ledger.end(job_id, JobState.DONE, "", "")
    house.hint(series=SOFT, now=2.0)
    state = JobState.DONE if ended else JobState.RUNNING
    assert house.states(SOFT, THICK) == {SOFT: QUEUED, THICK: (state, "")}


def test_a_later_worse_series_is_skipped(house: Ward) -> None:
    house.archive.put(*series_of(SOFT))
    house.hint(series=SOFT)
    house.archive.put(*series_of(SHARP, kernel="B70f"))
    house.hint(series=SHARP, now=2.0)
    assert house.states(SOFT, SHARP) == {SOFT: QUEUED, SHARP: BETTER}


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.SKIPPED])
def test_a_series_that_gave_nothing_does_not_keep_out_a_later_one(house: Ward, state: JobState) -> None:
    house.archive.put(*series_of(SOFT))
    house.hint(series=SOFT)
    job_id = house.rows(SOFT)[0].job_id
    house.queue.ledger.start(job_id)
    house.queue.ledger.end(job_id, state, "gantry-tilt", "")
    house.archive.put(*series_of(SHARP, kernel="B70f"))
    house.hint(series=SHARP, now=2.0)
    assert house.states(SHARP) == {SHARP: QUEUED}


def test_a_chosen_series_that_a_worker_refuses_leaves_its_place_to_the_next(house: Ward) -> None:
    study = four_series()
    for instances in study.values():
        house.archive.put(*instances)
    for uid in study:
        house.admission.hint(Hint("local", "1.2", uid, stable=True))
    for now in range(20):
        house.admission.tick(float(now))
    refuse(house, SOFT)
    for now in range(0, 100, 5):
        house.admission.tick(RECONCILE_S + now)
    assert house.states(SOFT, THICK, SHARP) == {
        SOFT: (JobState.SKIPPED, Refusal.MISSING_SLICE),
        THICK: QUEUED,
        SHARP: BETTER,
    }
    assert THICK in house.rows(SHARP)[-1].detail
    refuse(house, THICK)
    for now in range(0, 100, 5):
        house.admission.tick(2 * RECONCILE_S + now)
    assert house.states(THICK, SHARP) == {THICK: (JobState.SKIPPED, Refusal.MISSING_SLICE), SHARP: QUEUED}
    rows = [len(house.rows(uid)) for uid in study]
    for now in range(20):
        house.admission.tick(4 * RECONCILE_S + now * RECONCILE_S)
    assert [len(house.rows(uid)) for uid in study] == rows  # nothing is decided again and again


@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED])
def test_a_choice_that_stands_or_can_be_retried_keeps_its_place(house: Ward, state: JobState) -> None:
    house.archive.put(*series_of(SOFT), *series_of(SHARP, kernel="B70f"))
    for uid in (SOFT, SHARP):
        house.admission.hint(Hint("local", "1.2", uid, stable=True))
    for now in range(20):
        house.admission.tick(float(now))
    job_id = house.rows(SOFT)[0].job_id
    house.queue.ledger.start(job_id)
    house.queue.ledger.end(job_id, state, "", "")
    for now in range(3):
        house.admission.tick(RECONCILE_S * (1 + now))
    assert house.states(SHARP) == {SHARP: BETTER}
    assert len(house.rows(SHARP)) == 1


def refuse(house: Ward, uid: str) -> None:
    """End the job of a series as a worker does that finds it unusable."""
    job_id = house.rows(uid)[-1].job_id
    assert house.queue.ledger.start(job_id)
    house.queue.ledger.end(job_id, JobState.SKIPPED, Refusal.MISSING_SLICE, "a slice is missing")


def test_series_from_before_the_first_start_neither_hold_up_nor_count(house: Ward) -> None:
    house.archive.put(*series_of(SOFT))
    house.queue.ledger.keep_note("changes:local", str(len(house.archive.rows)))
    house.archive.put(*series_of(SHARP, kernel="B70f"))
    house.hint(series=SHARP, now=1.0)
    house.admission.tick(1.0 + LOOK_AGAIN_S)
    assert house.states(SOFT, SHARP) == {SHARP: QUEUED}


def test_a_series_that_cannot_be_looked_at_holds_up_its_study_only_for_a_while(
    house: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(series_uid: str) -> tuple[tuple[str, str], ...]:
        if series_uid == SOFT:
            raise InputError(Refusal.UNREADABLE)
        return studies(series_uid)

    studies = house.archive.same_series_studies
    monkeypatch.setattr(house.archive, "same_series_studies", ask)
    house.archive.put(*series_of(SOFT), *series_of(SHARP, kernel="B70f"))
    house.hint(series=SOFT, now=1.0)
    house.hint(series=SHARP, now=1.0)
    assert house.states(SHARP) == {}
    for now in range(2, 100):
        house.admission.tick(float(now))
    assert house.states(SOFT, SHARP) == {SHARP: QUEUED}


def test_a_series_of_two_patients_or_without_headers_is_no_rival(house: Ward) -> None:
    house.archive.put(*series_of(SOFT), *series_of(SHARP, kernel="B70f"))
    stranger = ct_slice(99, series=SOFT, study="1.7", patient="P2")
    house.archive.put(stranger)
    house.hint(series=SOFT, now=1.0)
    house.hint(series=SHARP, now=2.0)
    assert house.states(SOFT, SHARP) == {SOFT: (JobState.SKIPPED, Refusal.TWO_PATIENTS), SHARP: QUEUED}


def test_an_archive_that_is_away_loses_no_choice(house: Ward) -> None:
    house.archive.put(*series_of(SOFT), *series_of(SHARP, kernel="B70f"))
    house.hint(series=SHARP, now=1.0)
    house.archive.away = True
    house.hint(series=SOFT, now=2.0)
    house.archive.away = False
    house.start()
    for now in range(0, 100, 5):
        house.admission.tick(RECONCILE_S + now)
    assert house.states(SOFT, SHARP) == {SOFT: QUEUED, SHARP: BETTER}


def test_archives_without_changes_rank_what_was_announced(house: Ward) -> None:
    house.start(feed=False)
    study = four_series()
    for instances in study.values():
        house.archive.put(*instances)
    for uid in study:
        house.admission.hint(Hint("local", "1.2", uid, stable=True))
    for now in range(1, 20):
        house.admission.tick(float(now))
    assert house.states(SOFT, SHARP, THICK) == {SOFT: QUEUED, SHARP: BETTER, THICK: BETTER}


@pytest.mark.parametrize("announced", [True, False])
def test_a_series_that_the_archive_does_not_send_holds_up_no_other(
    house: Ward, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    def headers(study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        if series_uid == SHARP:
            raise NothingSentError("archive local sends nothing")
        return whole(study_uid, series_uid)

    whole = house.archive.headers
    monkeypatch.setattr(house.archive, "headers", headers)
    house.start(feed=False)
    for uid in (SOFT, SHARP):
        house.archive.put(*four_series()[uid])
        if announced or uid == SOFT:
            house.admission.hint(Hint("local", "1.2", uid, stable=True))
    for now in range(0, 1000, 5):
        house.admission.tick(float(now))
    expected = {SOFT: QUEUED, SHARP: (JobState.SKIPPED, Refusal.NOT_SENT)}
    assert house.states(SOFT, SHARP) == (expected if announced else {SOFT: QUEUED})
    assert house.admission.waiting == 0
