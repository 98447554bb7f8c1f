"""Results of a series that is deleted after its job are withdrawn; a series that is sent again is enriched again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from orthanc_plugin.archive.orthanc import Mark
from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, StageView
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs import deleted
from orthanc_plugin.jobs.engine import WITHDRAW
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.withdrawal import Withdrawal
from tests.support.fakes.memory_archive import ct_series
from tests.unit.jobs.test_admission import House

OBJECT = StoredObject(Output.SEG, "1.2.840.10008.5.1.4.1.1.66.4", "1.2", "2.25.7", "2.25.8", False)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.queue.close()


def enrich(house: House, series: str = "1.2.3", state: JobState = JobState.RUNNING) -> str:
    """Send a series and play the worker of its job."""
    house.archive.put(*ct_series(series=series))
    house.hint(series=series)
    row = house.rows(series)[-1]
    house.queue._client.cancel_workflow(row.job_id)
    assert house.queue.ledger.start(row.job_id)
    outcome = StageOutcome(StageView("segment", 0.1, 1.0), OBJECT, state, "failed" if state is JobState.FAILED else "")
    Steps(house.queue).close(EnrichJob.from_json(row.argument), row.job_id, [outcome])
    return row.job_id


def withdrawals(house: House, job_id: str) -> list[str]:
    return [d.destination for d in house.queue.deliveries.of_job(job_id) if d.kind == WITHDRAW]


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.FAILED])
def test_what_a_deleted_series_leaves_is_withdrawn(house: House, state: JobState) -> None:
    job_id, other = enrich(house, state=state), enrich(house, "1.2.4")
    house.archive.delete("1.2.3")
    house.admission.reconcile(10.0)
    assert withdrawals(house, job_id) == []  # the archive may have been away for a moment
    house.admission.reconcile(20.0)
    assert withdrawals(house, job_id) == ["local"]
    (row,) = house.rows()
    assert (row.state, row.reason) == (JobState.SKIPPED, Refusal.GONE)
    (workflow,) = house.queue._client.list_workflows(workflow_id_prefix=f"withdraw:{job_id}")
    assert workflow.input is not None
    assert Withdrawal.from_json(workflow.input["args"][0]) == Withdrawal("local", (OBJECT,), "1.2.3")
    for now in (30.0, 40.0):
        house.admission.reconcile(now)
    assert withdrawals(house, other) == []
    assert len(house.queue.deliveries.list()) == 1


def test_a_series_that_is_missed_once_keeps_its_results(house: House) -> None:
    job_id = enrich(house)
    instances = house.archive.instances
    house.archive.delete("1.2.3")
    house.admission.reconcile(10.0)
    house.archive.instances = instances
    for now in (20.0, 30.0):
        house.admission.reconcile(now)
    assert withdrawals(house, job_id) == []


def test_a_series_that_is_sent_again_is_enriched_again(house: House) -> None:
    first = enrich(house)
    house.archive.delete("1.2.3")
    for now in (10.0, 20.0):
        house.admission.reconcile(now)
    house.archive.seconds = 100
    second = enrich(house)
    assert [row.generation for row in house.rows()] == [0, 1]
    assert (first != second, house.queue.show(second).state) == (True, JobState.DONE)
    assert withdrawals(house, second) == []


def test_results_stay_if_the_settings_say_so(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.configuration = house.configuration.model_copy(update={"keep_without_source": True})
    house.start()
    job_id = enrich(house)
    house.archive.delete("1.2.3")
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
    assert withdrawals(house, job_id) == []
    house.queue.close()


def test_many_series_are_looked_at_in_turn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleted, "AT_ONCE", 2)
    monkeypatch.setattr(deleted, "A_REQUEST", 2)
    jobs = [enrich(house, f"1.2.{number}") for number in range(3, 8)]
    for number in (4, 7):
        house.archive.delete(f"1.2.{number}")
    for now in range(10, 60, 10):
        house.admission.reconcile(float(now))
    assert [withdrawals(house, job_id) for job_id in jobs] == [[], ["local"], [], [], ["local"]]


def test_a_crash_before_the_withdrawal_is_queued_loses_nothing(house: House) -> None:
    job_id = enrich(house)
    house.archive.delete("1.2.3")
    house.queue.ledger.keep_note(f"{deleted.DELETED}{job_id}", "local")
    assert house.queue.ledger.lose_source(job_id, "deleted")
    house.start()
    house.admission.reconcile(10.0)
    assert withdrawals(house, job_id) == ["local"]


def test_an_index_that_misses_most_series_is_not_believed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleted, "BELIEVED", 1)
    jobs = [enrich(house, f"1.2.{number}") for number in range(3, 6)]
    instances = dict(house.archive.instances)
    for number in (3, 4):
        house.archive.delete(f"1.2.{number}")
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
    assert [withdrawals(house, job_id) for job_id in jobs] == [[], [], []]
    (said,) = house.queue.ledger.notes(deleted.NOT_BELIEVED).values()
    assert "misses the series of 2 of 3 jobs" in said
    assert "OrthancUrl" in said
    house.archive.instances = instances
    house.admission.reconcile(40.0)
    assert house.queue.ledger.notes(deleted.NOT_BELIEVED) == {}


def test_a_page_that_is_not_believed_is_looked_at_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleted, "BELIEVED", 1)
    monkeypatch.setattr(deleted, "AT_ONCE", 2)
    for number in range(3, 7):
        enrich(house, f"1.2.{number}")
    for number in (3, 4):
        house.archive.delete(f"1.2.{number}")
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
        assert len(house.queue.ledger.notes(deleted.NOT_BELIEVED)) == 1


def test_the_setting_that_keeps_results_ends_the_doubt(house: House) -> None:
    house.queue.ledger.keep_note(f"{deleted.NOT_BELIEVED}local", "its index misses the series of 30 of 40 jobs")
    house.configuration = house.configuration.model_copy(update={"keep_without_source": True})
    house.start()
    assert house.queue.ledger.notes(deleted.NOT_BELIEVED) == {}


def test_an_index_that_begins_anew_proves_no_deletion(house: House) -> None:
    before = enrich(house)
    house.admission.reconcile(5.0)
    house.archive.instances, house.archive.rows = {}, []
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
    assert withdrawals(house, before) == []
    after = enrich(house, "1.2.4")
    house.archive.delete("1.2.4")
    for now in (40.0, 50.0):
        house.admission.reconcile(now)
    assert (withdrawals(house, before), withdrawals(house, after)) == ([], ["local"])


def said(house: House) -> str:
    return "; ".join(house.queue.ledger.notes(deleted.NOT_BELIEVED).values())


@pytest.mark.parametrize("count", [1, 3])
def test_another_orthanc_at_the_address_proves_no_deletion(house: House, count: int) -> None:
    jobs = [enrich(house, f"1.2.{number}") for number in range(3, 3 + count)]
    house.admission.reconcile(5.0)
    instances, house.archive.instances, house.archive.named = dict(house.archive.instances), {}, "another index"
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
    assert [withdrawals(house, job_id) for job_id in jobs] == [[]] * count
    assert "leads to another Orthanc" in said(house)
    house.archive.instances, house.archive.named = instances, "index of the memory"
    house.admission.reconcile(40.0)
    assert said(house) == ""
    house.archive.delete("1.2.3")
    for now in (50.0, 60.0):
        house.admission.reconcile(now)
    assert withdrawals(house, jobs[0]) == ["local"]


def test_an_index_without_a_name_that_misses_every_series_is_not_believed(house: House) -> None:
    house.archive.named = ""
    jobs = [enrich(house, f"1.2.{number}") for number in range(3, 6)]
    house.admission.reconcile(5.0)
    instances = dict(house.archive.instances)
    for number in range(3, 6):
        house.archive.delete(f"1.2.{number}")
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
    assert [withdrawals(house, job_id) for job_id in jobs] == [[], [], []]
    assert "none of the 3 series" in said(house)
    assert "KeepWithoutSource" in said(house)
    house.archive.instances = {key: ds for key, ds in instances.items() if key[2] == "1.2.5"}
    for now in (40.0, 50.0):
        house.admission.reconcile(now)
    assert (said(house), [withdrawals(house, job_id) for job_id in jobs]) == ("", [["local"], ["local"], []])


def test_an_orthanc_whose_plugin_is_gone_is_not_believed_either(house: House) -> None:
    job_id = enrich(house)
    house.admission.reconcile(5.0)
    house.archive.delete("1.2.3")
    house.archive.named = ""
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
    assert (withdrawals(house, job_id), "none of the 1 series" in said(house)) == ([], True)


def test_a_new_orthanc_to_which_the_series_came_is_followed_from_then_on(house: House) -> None:
    jobs = [enrich(house, f"1.2.{number}") for number in range(3, 6)]
    house.admission.reconcile(5.0)
    house.archive.named = "the new one"
    house.archive.delete("1.2.3")
    for now in (10.0, 20.0, 30.0):
        house.admission.reconcile(now)
    assert [withdrawals(house, job_id) for job_id in jobs] == [[], [], []]
    later = enrich(house, "1.2.9")
    house.admission.reconcile(40.0)
    house.archive.delete("1.2.9")
    for now in (50.0, 60.0):
        house.admission.reconcile(now)
    assert (withdrawals(house, later), said(house)) == (["local"], "")


def test_each_index_has_a_watermark_of_its_own(house: House) -> None:
    house.archive.put(*ct_series())
    house.admission.reconcile(5.0)
    instances, rows = dict(house.archive.instances), list(house.archive.rows)
    old = ct_series(series="1.2.77")
    house.archive.instances, house.archive.rows, house.archive.named = {}, [], "another index"
    house.archive.put(*old)
    house.archive.kept_mark = Mark(len(old), False)
    house.admission.reconcile(10.0)
    assert house.queue.ledger.note("changes:local") == str(len(old))
    house.archive.instances, house.archive.rows, house.archive.named = instances, rows, "index of the memory"
    house.admission.reconcile(20.0)
    assert house.queue.ledger.note("changes:local") == str(len(rows))
    assert house.rows("1.2.77") == ()


def test_an_orthanc_that_was_replaced_on_purpose_is_accepted_by_one_start(house: House) -> None:
    before = enrich(house)
    house.admission.reconcile(5.0)
    house.archive.instances, house.archive.named = {}, "the new one"
    house.admission.reconcile(10.0)
    assert "start once with KeepWithoutSource true" in said(house)
    asked = house.configuration
    for keep in (True, False):
        house.configuration = asked.model_copy(update={"keep_without_source": keep})
        house.start()
        for now in (20.0, 30.0):
            house.admission.reconcile(now)
    after = enrich(house, "1.2.4")
    house.admission.reconcile(40.0)
    house.archive.delete("1.2.4")
    for now in (50.0, 60.0):
        house.admission.reconcile(now)
    assert (said(house), withdrawals(house, before), withdrawals(house, after)) == ("", [], ["local"])


@pytest.mark.parametrize("delivered", [False, True])
def test_an_index_without_a_name_that_has_the_results_is_the_right_one(house: House, delivered: bool) -> None:
    """Unless they were delivered: then the address may lead to the destination, which has copies of them."""
    house.archive.named = ""
    job_id = enrich(house)
    if delivered:
        (row,) = house.rows()
        made = EnrichJob.from_json(row.argument)
        argument = replace(made, plan=replace(made.plan, destinations=("far",))).to_json()
        with house.queue.ledger.begin() as connection:
            connection.execute(sa.text("UPDATE enrichment_decisions SET argument = :it"), {"it": argument})
    house.archive.put(*ct_series(1, series=OBJECT.series_instance_uid, modality="SEG"))
    house.archive.delete("1.2.3")
    for now in (10.0, 20.0):
        house.admission.reconcile(now)
    assert bool(withdrawals(house, job_id)) is not delivered
