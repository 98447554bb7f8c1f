"""From hints and changes to one decision for each content: archive in memory, manual clock, real job database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.archive.orthanc import Mark
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import EnrichJob, JobState, Priority, StageOutcome, StageView
from orthanc_plugin.errors import EnrichError, InputError, Refusal
from orthanc_plugin.jobs.admission import Admission
from orthanc_plugin.jobs.decision import extent_mm
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.steps import Steps
from tests.support.fakes.memory_archive import MemoryArchive, ct_series, ct_slice

STABLE_AGE_S, RECONCILE_S = 60.0, 300.0
MODELS = {"chest_structures": "d" * 64, "head_neck_oar": "f" * 64}


class House:
    """Archive, queue and admission; `start` acts as a new service process on the same state."""

    def __init__(self, directory: Path) -> None:
        self.archive = MemoryArchive()
        self.configuration = Configuration(
            StateDirectory=directory,
            Archives={"local": ArchiveSettings(Url="http://127.0.0.1:1/dicom-web")},
            StableAge=STABLE_AGE_S,
            ReconcileSeconds=RECONCILE_S,
        )
        self.queue = JobQueue(self.configuration.database)
        self.start()
        self.admission.tick(0.0)  # sets the watermark

    def start(self, *, feed: bool = True) -> None:
        feeds = {"local": self.archive} if feed else {}
        self.admission = Admission(
            self.configuration, self.queue, {"local": self.archive}, feeds, MODELS,
            clock=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        )  # fmt: skip

    def hint(self, *, stable: bool = True, series: str = "1.2.3", study: str = "1.2", now: float = 1.0) -> None:
        self.admission.hint(Hint("local", study, series, stable=stable))
        self.admission.tick(now)

    def rows(self, series: str = "1.2.3") -> tuple[Decision, ...]:
        return self.queue.ledger.of_series("local", series)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.queue.close()


def test_a_stable_series_becomes_a_job(house: House) -> None:
    house.archive.put(*ct_series())
    house.hint()
    (row,) = house.rows()
    (job,) = house.queue.list()
    assert (row.decision, row.state, row.rule, job.id) == (Verdict.ENRICH, JobState.QUEUED, "default", row.job_id)
    told = EnrichJob.from_json(row.argument)
    assert (told.fingerprint, told.plan.models[0].digest, told.plan.home_archive) == (
        row.fingerprint,
        "d" * 64,
        "local",
    )
    assert house.admission.waiting == 0


def test_a_hundred_hints_make_one_job(house: House) -> None:
    house.archive.put(*ct_series())
    for _ in range(100):
        house.hint()
    assert len(house.rows()) == len(house.queue.list()) == 1


def test_sent_twice_it_is_one_job(house: House) -> None:
    house.archive.put(*ct_series())
    house.hint()
    house.archive.seconds = 100
    house.archive.put(*ct_series())
    house.hint()
    assert len(house.rows()) == 1


def test_deleted_and_sent_again_it_is_a_new_job(house: House) -> None:
    house.archive.put(*ct_series())
    house.hint()
    house.archive.delete("1.2.3")
    house.archive.seconds = 100
    house.archive.put(*ct_series())
    house.hint()
    house.hint()
    first, second = house.rows()
    assert (first.generation, second.generation) == (0, 1)
    assert first.job_id != second.job_id
    assert (first.state, first.superseded_by) == (JobState.SUPERSEDED, second.fingerprint)


def test_late_slice_makes_a_new_job(house: House) -> None:
    house.archive.put(*ct_series(20))
    house.hint()
    house.archive.put(ct_slice(21))
    house.hint()
    old, new = house.rows()
    assert (old.state, old.superseded_by) == (JobState.SUPERSEDED, new.fingerprint)
    assert new.state is JobState.QUEUED


def test_a_content_that_returns_after_another_one_is_made_again(house: House) -> None:
    for slices in (20, 21, 20, 20):  # its own results may be withdrawn; nothing was received again
        house.archive.delete("1.2.3")
        house.archive.put(*ct_series(slices))
        house.hint()
    assert [row.generation for row in house.rows()] == [0, 0, 1]
    assert house.rows()[2].state is JobState.QUEUED


def test_another_patient_under_the_same_uid_is_another_content(house: House) -> None:
    for patient in ("P1", "P2", "P1"):
        house.archive.delete("1.2.3")
        house.archive.seconds += 10
        house.archive.put(*ct_series(patient=patient))
        house.hint()
    assert [row.generation for row in house.rows()] == [0, 0, 1]
    assert len({row.fingerprint for row in house.rows()}) == 3


def test_one_series_uid_under_two_patients_is_refused(house: House) -> None:
    house.archive.put(*ct_series(patient="P1"))
    house.hint()
    house.archive.put(*ct_series(patient="P2", study="1.7"))
    house.hint(study="1.7")
    house.hint(study="1.2")
    first, conflict = house.rows()
    assert first.state is JobState.SUPERSEDED
    assert (conflict.decision, conflict.reason) == (Verdict.SKIP, Refusal.TWO_PATIENTS)


@pytest.mark.parametrize("modality", ["SEG", "SR", "RTSTRUCT", "OT"])
def test_results_that_become_stable_start_nothing(house: House, modality: str) -> None:
    house.archive.put(*ct_series(1, modality=modality))
    house.hint()
    house.start(feed=False)
    house.hint()
    assert house.rows() == ()
    assert house.admission.waiting == 0


def test_a_test_model_is_skipped_on_a_patient_and_runs_on_a_phantom(house: House) -> None:
    house.admission = Admission(
        house.configuration, house.queue, {"local": house.archive}, {"local": house.archive}, MODELS,
        test_models=frozenset(MODELS),
    )  # fmt: skip
    phantom = ct_series(series="1.2.4")
    for ds in phantom:
        ds.QualityControlImage = "YES"
    house.archive.put(*ct_series(), *phantom)
    house.hint()
    house.hint(series="1.2.4")
    (patient_row,), (phantom_row,) = house.rows(), house.rows("1.2.4")
    assert (patient_row.state, patient_row.reason) == (JobState.SKIPPED, Refusal.TEST_MODEL)
    assert "AllowTestModels" in patient_row.detail
    assert (phantom_row.state, phantom_row.decision) == (JobState.QUEUED, Verdict.ENRICH)


@pytest.mark.parametrize(
    ("slices", "modality", "reason"), [(20, "MR", Refusal.NOT_CT), (2, "CT", Refusal.TOO_FEW_SLICES)]
)
def test_what_no_rule_takes_is_skipped_with_a_reason(house: House, slices: int, modality: str, reason: Refusal) -> None:
    house.archive.put(*ct_series(slices, modality=modality))
    house.hint()
    (row,) = house.rows()
    assert (row.decision, row.state, row.reason, row.job_id) == (Verdict.SKIP, JobState.SKIPPED, reason, "")
    assert row.detail
    assert house.queue.list() == ()


def test_no_row_holds_patient_data(house: House) -> None:
    series = ct_series(2)
    for ds in series:
        ds.PatientID, ds.PatientName, ds.SeriesDescription = "SECRET-ID", "SECRET^NAME", "SECRET-TEXT"
    house.archive.put(*series)
    house.hint()
    assert "SECRET" not in repr(house.rows())


def test_an_unstable_hint_waits_until_the_series_is_unchanged(house: House) -> None:
    house.archive.put(*ct_series(20))
    house.hint(stable=False, now=0.0)
    house.archive.put(ct_slice(21))
    house.admission.tick(STABLE_AGE_S)
    house.admission.tick(2 * STABLE_AGE_S - 1)
    assert house.rows() == ()
    house.admission.tick(2 * STABLE_AGE_S)
    assert len(house.rows()) == 1


def test_a_lost_stable_event_is_made_good_by_reconcile(house: House) -> None:
    house.archive.put(*ct_series())
    house.admission.tick(RECONCILE_S)
    assert house.rows() == ()
    house.admission.tick(RECONCILE_S + STABLE_AGE_S)
    assert [row.state for row in house.rows()] == [JobState.QUEUED]


def test_what_was_there_before_the_first_start_is_left_alone(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.archive.put(*ct_series(series="1.2.4"))
    house.queue.ledger.drop_note("changes:local")
    house.start()
    for now in (0.0, RECONCILE_S, 2 * RECONCILE_S):
        house.admission.tick(now)
    assert house.rows("1.2.4") == ()
    house.queue.close()


def test_a_series_that_waits_survives_a_restart(house: House) -> None:
    house.archive.put(*ct_series())
    house.admission.tick(RECONCILE_S)
    house.start()
    house.admission.tick(0.0)
    house.admission.tick(STABLE_AGE_S)
    assert len(house.rows()) == 1


def test_an_archive_that_is_away_loses_nothing(house: House) -> None:
    house.archive.put(*ct_series())
    house.archive.away = True
    house.hint(now=RECONCILE_S)
    assert house.admission.waiting == 1
    house.archive.away = False
    house.start()
    house.admission.tick(0.0)
    assert len(house.rows()) == 1


def test_a_series_deleted_while_it_waits_is_forgotten(house: House) -> None:
    house.archive.put(*ct_series())
    house.admission.tick(RECONCILE_S)
    house.archive.delete("1.2.3")
    house.admission.tick(RECONCILE_S + STABLE_AGE_S)
    assert house.rows() == ()
    assert house.admission.waiting == 0


def test_an_index_that_counts_anew_is_read_from_its_beginning(house: House) -> None:
    house.queue.ledger.keep_note("changes:local", "5000")
    house.archive.put(*ct_series())
    house.admission.reconcile(0.0)
    assert house.admission.waiting == 1
    assert house.queue.ledger.note("changes:local") == "20"


def test_decided_series_cost_nothing_until_they_change(house: House) -> None:
    house.archive.put(*ct_series())
    house.hint()
    house.admission.reconcile(2.0)
    house.admission.tick(3.0 + STABLE_AGE_S)
    house.admission.tick(4.0 + 2 * STABLE_AGE_S)
    asked = house.archive.asked
    for now in range(5, 250):
        house.admission.tick(float(now) + 1.0)
    assert house.archive.asked == asked


def test_a_rule_whose_model_is_not_installed_waits_for_the_operator(house: House) -> None:
    house.archive.put(*ct_series())
    house.admission = Admission(house.configuration, house.queue, {"local": house.archive}, {}, {})
    house.hint(now=1.0)
    assert house.rows() == ()
    house.start()
    house.admission.tick(0.0)
    assert len(house.rows()) == 1


def test_a_series_of_an_archive_that_left_the_configuration_holds_nobody_up(house: House) -> None:
    house.queue.ledger.keep_note("waiting:gone:1", Hint("gone", "1.2", "1.2.9").to_json())
    house.archive.put(*ct_series())
    house.start()
    house.hint()
    assert len(house.rows()) == 1
    assert house.queue.ledger.note("waiting:gone:1") is not None


@pytest.mark.parametrize("error", [InputError(Refusal.UNREADABLE), KeyError("P^ATIENT"), ValueError("P^ATIENT")])
def test_a_series_that_nobody_foresaw_waits_alone(
    house: House, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(series_uid: str) -> tuple[tuple[str, str], ...]:
        if series_uid == "1.2.2":
            raise error
        return studies(series_uid)

    studies = house.archive.same_series_studies
    monkeypatch.setattr(house.archive, "same_series_studies", ask)
    house.archive.put(*ct_series(series="1.2.2"), *ct_series())
    house.hint(series="1.2.2")
    house.hint()
    assert (len(house.rows()), len(house.rows("1.2.2")), house.admission.waiting) == (1, 0, 1)
    assert "P^ATIENT" not in caplog.text
    monkeypatch.undo()
    house.admission.tick(10.0)
    assert len(house.rows("1.2.2")) == 1


def test_a_late_slice_that_is_deleted_again_leaves_a_job_for_what_is_there(house: House) -> None:
    house.start(feed=False)
    house.archive.put(*ct_series(20))
    house.hint()
    house.archive.put(ct_slice(21))
    house.hint()
    house.archive.delete("1.2.3")
    house.archive.put(*ct_series(20))
    house.hint()
    assert [row.state for row in house.rows()] == [JobState.SUPERSEDED, JobState.SUPERSEDED, JobState.QUEUED]


def test_a_series_sent_again_after_the_clock_was_set_back_is_a_new_job(house: House) -> None:
    house.archive.seconds = 100
    house.archive.put(*ct_series())
    house.hint()
    house.archive.delete("1.2.3")
    house.archive.seconds = 50
    house.archive.put(*ct_series())
    house.hint()
    assert [row.generation for row in house.rows()] == [0, 1]


def test_a_slice_that_comes_while_it_is_decided_makes_no_second_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def headers(study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        house.archive.seconds = 100
        house.archive.put(ct_slice(21))
        return read(study_uid, series_uid)

    read = house.archive.headers
    house.archive.put(*ct_series(20))
    monkeypatch.setattr(house.archive, "headers", headers)
    house.hint()
    house.hint(now=2.0)  # the stable event of the late slice
    house.admission.tick(2.0 + STABLE_AGE_S)
    (row,) = house.rows()
    assert row.received.endswith("100")


def test_a_series_that_lost_a_slice_before_its_job_began_is_decided_anew(house: House) -> None:
    house.archive.put(*ct_series(21))
    house.hint()
    (row,) = house.rows()
    house.admission.reconcile(2.0)
    house.admission.tick(2.0)  # takes up what reconcile found
    del house.archive.instances[("P1", "1.2", "1.2.3", "1.2.3.21")]
    gone = StageOutcome(StageView("retrieve", 0.1, 1.0), None, JobState.SKIPPED, Refusal.GONE, "changed")
    house.queue.ledger.start(row.job_id)
    Steps(house.queue).close(EnrichJob.from_json(row.argument), row.job_id, [gone])
    house.admission.tick(2.0 + RECONCILE_S)
    house.admission.tick(2.0 + RECONCILE_S + STABLE_AGE_S)
    assert [row.state for row in house.rows()] == [JobState.SKIPPED, JobState.QUEUED]


def test_a_hint_for_an_unknown_archive_is_refused(house: House) -> None:
    with pytest.raises(EnrichError, match="no archive elsewhere"):
        house.admission.hint(Hint("elsewhere", "1.2", "1.2.3"))


def test_archives_without_changes_take_hints(house: House) -> None:
    house.start(feed=False)
    house.archive.put(*ct_series())
    house.hint(stable=False, now=0.0)
    house.admission.tick(STABLE_AGE_S)
    assert len(house.rows()) == 1


def test_an_archive_without_an_index_is_believed_in_the_end_that_a_series_is_gone(house: House) -> None:
    house.start(feed=False)
    house.hint()
    for now in range(0, 400, 5):
        assert house.admission.waiting == (now <= 320)
        house.admission.tick(float(now))
    (row,) = house.rows()
    assert (row.state, row.reason) == (JobState.SKIPPED, Refusal.GONE)
    house.archive.put(*ct_series())
    house.hint(now=500.0)
    assert [row.state for row in house.rows()] == [JobState.SKIPPED, JobState.QUEUED]


def test_an_archive_that_refuses_every_search_ends_in_a_row(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(series_uid: str) -> tuple[tuple[str, str], ...]:
        raise InputError(Refusal.ARCHIVE_REFUSED, "archive local answered 400 Bad Request")

    monkeypatch.setattr(house.archive, "same_series_studies", refuse)
    house.archive.put(*ct_series())
    house.hint()
    for now in range(0, 400, 5):
        house.admission.tick(float(now))
    (row,) = house.rows()
    assert (row.state, row.reason) == (JobState.SKIPPED, Refusal.ARCHIVE_REFUSED)


def test_a_job_that_did_not_find_its_series_is_made_again_while_the_index_lists_it(house: House) -> None:
    """A worker with a wrong address: each job ends as gone. The sixth is not made."""
    house.archive.put(*ct_series())
    house.hint()
    for now in range(1, 20):
        if house.rows()[-1].state is JobState.QUEUED:
            row = house.rows()[-1]
            gone = StageOutcome(StageView("retrieve", 0.1, 1.0), None, JobState.SKIPPED, Refusal.GONE, "gone")
            house.queue.ledger.start(row.job_id)
            Steps(house.queue).close(EnrichJob.from_json(row.argument), row.job_id, [gone])
        house.admission.reconcile(now * 1000.0)
        house.admission.tick(now * 1000.0)
    assert [row.generation for row in house.rows()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("read_before", [False, True])
def test_the_first_start_begins_at_the_mark_that_the_plugin_keeps(
    tmp_path: Path, read_before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    house.queue.ledger.drop_note("changes:local")
    house.archive.put(*ct_series(series="1.2.4"))
    house.archive.kept_mark = Mark(len(house.archive.rows), read_before)
    house.archive.put(*ct_series())
    house.start()
    house.admission.tick(0.0)
    house.admission.tick(STABLE_AGE_S)
    assert (len(house.rows()), len(house.rows("1.2.4"))) == (1, 0)
    assert ("series received before are not looked at again" in caplog.text) is read_before
    house.queue.close()


def test_the_rule_decides_on_the_priority_and_not_on_the_plan(tmp_path: Path) -> None:
    rows = []
    for name, priority in (("a", "normal"), ("b", "urgent")):
        house = House(tmp_path / name)
        house.configuration = Configuration.model_validate(
            house.configuration.model_dump(by_alias=True) | {"Rules": [{"Name": "default", "Priority": priority}]}
        )
        house.start()
        house.archive.put(*ct_series())
        house.hint(now=400.0)
        rows += house.rows()
        house.queue.close()
    normal, urgent = rows
    assert (normal.priority, urgent.priority) == (Priority.NORMAL, Priority.URGENT)
    assert normal.job_id == urgent.job_id


def test_a_job_knows_how_many_voxels_it_will_read(house: House) -> None:
    house.archive.put(*ct_series())
    house.hint()
    (row,) = house.rows()
    job = EnrichJob.from_json(row.argument)
    assert (job.voxels, job.extent_mm) == (20 * 8 * 8, (20.0, 8.0, 8.0))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", None),
        ("PixelSpacing", [1e9, 1]),
        ("PixelSpacing", [1]),
        ("ImagePositionPatient", None),
        ("ImagePositionPatient", [0, 0]),
        ("Rows", None),
    ],
)
def test_headers_that_do_not_tell_the_size_of_the_ct_leave_it_unknown(keyword: str, value: object) -> None:
    headers = ct_series()
    for header in headers[7:]:
        setattr(header, keyword, value)
    assert extent_mm(headers) is None
    assert extent_mm(headers[:1]) is None  # the way from slice to slice is missing
    assert extent_mm([]) is None
