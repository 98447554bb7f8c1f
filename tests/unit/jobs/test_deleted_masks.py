"""Reports on masks that others made go when their masks are deleted; reports on masks that stay do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin.config.rule import Rule
from orthanc_plugin.domain.job import FIND_MASKS, EnrichJob, JobState, StageOutcome, StageView, stage_of_mask
from orthanc_plugin.domain.plan import MaskObject, Output, StoredObject
from orthanc_plugin.errors import Refusal
from orthanc_plugin.jobs.engine import WITHDRAW
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.withdrawal import Withdrawal
from tests.support.fakes.memory_archive import ct_series
from tests.unit.jobs.test_admission import House

SR = "1.2.840.10008.5.1.4.1.1.88.34"
ONE, TWO = (MaskObject("1.2", f"2.25.5{number}", f"2.25.6{number}") for number in (1, 2))


def report_on(mask: MaskObject) -> StoredObject:
    return StoredObject(Output.RADIOMICS, SR, "1.2", f"{mask.series_instance_uid}7", f"{mask.sop_instance_uid}7", False)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    rule = Rule.model_validate({"Name": "drawn", "Measure": "expert"})
    made.configuration = made.configuration.model_copy(update={"rules": (rule,)})
    made.start()
    yield made
    made.queue.close()


def run(house: House, *masks: MaskObject, keep: bool = False) -> Decision:
    """Play the worker of the job, which finds these masks and measures them."""
    (row,) = house.rows()
    house.queue._client.cancel_workflow(row.job_id)
    assert house.queue.ledger.start(row.job_id)
    state, reason = (JobState.RUNNING, "") if masks else (JobState.SKIPPED, Refusal.NO_MASKS)
    outcomes = [StageOutcome(StageView(FIND_MASKS, 0.1, 1.0), None, state, reason, masks=masks)]
    outcomes += [StageOutcome(StageView(stage_of_mask(mask), 0.1, 1.0), report_on(mask)) for mask in masks]
    steps = Steps(house.queue, keep_without_source=keep)
    steps.close(EnrichJob.from_json(row.argument), row.job_id, outcomes)
    (row,) = house.rows()
    return row


def put(house: House, *masks: MaskObject) -> None:
    for mask in masks:
        for ds in ct_series(series=mask.series_instance_uid, study="1.2"):
            ds.Modality = "SEG"
            house.archive.put(ds)


def begin(house: House, *masks: MaskObject) -> None:
    house.archive.put(*ct_series())
    put(house, *masks)
    house.hint()


def withdrawn(house: House, job_id: str) -> list[Withdrawal]:
    found = house.queue._client.list_workflows(workflow_id_prefix=f"{WITHDRAW}:{job_id}")
    return [Withdrawal.from_json(one.input["args"][0]) for one in found if one.input is not None]


def look(house: House, *times: float) -> JobState:
    for now in times:
        house.admission.reconcile(now)
    return house.rows()[0].state


def test_a_job_whose_masks_are_deleted_runs_again_and_withdraws_their_report(house: House) -> None:
    begin(house, ONE, TWO)
    row = run(house, ONE, TWO)
    assert look(house, 10.0, 20.0, 30.0) is JobState.DONE
    house.archive.delete(ONE.series_instance_uid)
    assert look(house, 40.0) is JobState.DONE  # the archive may have been away for a moment
    assert look(house, 50.0) is JobState.QUEUED
    row = run(house, TWO)
    assert withdrawn(house, row.job_id) == [Withdrawal("local", (report_on(ONE),), of_masks=True)]
    assert (row.state, row.summary.objects) == (JobState.DONE, (report_on(TWO),))
    assert look(house, 60.0, 70.0, 80.0) is JobState.DONE


def test_without_any_masks_left_all_reports_go(house: House) -> None:
    begin(house, ONE)
    run(house, ONE)
    house.archive.delete(ONE.series_instance_uid)
    assert look(house, 10.0, 20.0) is JobState.QUEUED
    row = run(house)
    assert withdrawn(house, row.job_id) == [Withdrawal("local", (report_on(ONE),), of_masks=True)]
    assert (row.state, row.reason, row.summary.objects) == (JobState.SKIPPED, Refusal.NO_MASKS, ())
    assert look(house, 30.0, 40.0, 50.0) is JobState.SKIPPED


def test_reports_stay_if_the_settings_say_so(house: House) -> None:
    begin(house, ONE, TWO)
    run(house, ONE, TWO)
    house.queue.retry(house.rows()[0].job_id)
    row = run(house, TWO, keep=True)
    assert withdrawn(house, row.job_id) == []
    assert set(row.summary.objects) == {report_on(ONE), report_on(TWO)}


def test_a_run_that_ends_before_it_lists_the_masks_withdraws_nothing(house: House) -> None:
    begin(house, ONE)
    row = run(house, ONE)
    house.queue.retry(row.job_id)
    house.queue._client.cancel_workflow(row.job_id)
    assert house.queue.ledger.start(row.job_id)
    failed = StageOutcome(StageView("retrieve", 0.1, 1.0), None, JobState.FAILED, "failed", "away")
    Steps(house.queue).close(EnrichJob.from_json(row.argument), row.job_id, [failed])
    (row,) = house.rows()
    assert withdrawn(house, row.job_id) == []
    assert (row.summary.objects, len(row.summary.masks or ())) == ((report_on(ONE),), 1)


def test_summaries_of_earlier_versions_are_read_and_written_as_they_were() -> None:
    text = '{"objects": [], "stages": []}'
    assert Summary.from_json(text).masks is None
    assert Summary.from_json(text).to_json() == text
    assert "of_masks" not in Withdrawal("local", ()).to_json()


def test_the_copies_of_reports_that_stay_are_not_outdated(house: House) -> None:
    """The withdrawal counts as one of the run before, so that a copy of this run goes on."""
    begin(house, ONE, TWO)
    job_id = run(house, ONE, TWO).job_id
    house.queue.retry(job_id)
    row = run(house, TWO)
    deliveries = house.queue.deliveries
    deliveries.add(job_id, "local", "copy", run=row.started_at)
    (copy,) = (view for view in deliveries.of_job(job_id) if view.kind == "deliver")
    assert not deliveries.is_outdated(copy.workflow_id)
