"""After a rule changed, what was decided on before gets a decision by the new rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin.domain.job import JobState, Priority
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.engine import QUEUE_PRIORITY
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.orders import Order, OrderState
from tests.support.cases.backfill_site import QUERY, Site
from tests.support.fakes.memory_archive import ct_series


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, 5)
    yield made
    made.queue.close()


def again(site: Site, reason: str = "") -> Order:
    placed = site.orders.place_again("local", reason)
    site.turn(10)
    return site.order(placed)


def test_skips_get_jobs_by_the_new_rule(site: Site) -> None:
    site.start({"Name": "thick", "Match": {"Spacing": {"Min": 3}}})
    site.orders.place_query("local", QUERY)
    site.turn(8)
    site.start({"Name": "all"})
    order = again(site, "no-rule")
    assert (order.jobs, order.state, site.states()) == (5, OrderState.DONE, {"queued": 5})
    workflows = site.queue._client.list_workflows(status="ENQUEUED", load_input=False)
    assert {w.workflow_id for w in workflows} == {job.id for job in site.queue.list()}
    assert all(len(site.queue.ledger.of_series("local", f"1.{n}.3")) == 1 for n in range(1, 6))


def test_what_is_done_by_the_same_plan_is_not_repeated(site: Site) -> None:
    site.orders.place_query("local", QUERY)
    site.turn(8)
    site.work()
    order = again(site)
    assert (order.jobs, order.unchanged, site.states()) == (0, 5, {"done": 5})


def test_another_plan_takes_the_place_and_keeps_what_is_stored(site: Site) -> None:
    site.orders.place_query("local", {"StudyInstanceUID": "1.1"})
    site.turn(8)
    site.work()
    (before,) = site.queue.ledger.of_series("local", "1.1.3")
    site.start({"Name": "default", "Models": ["chest_structures", "other"]})
    assert again(site).jobs == 1
    (after,) = site.queue.ledger.of_series("local", "1.1.3")
    assert (after.state, after.fingerprint, after.job_id == before.job_id) == (
        JobState.QUEUED, before.fingerprint, False
    )  # fmt: skip


def test_a_failed_job_runs_again_and_a_plan_that_comes_back_too(site: Site) -> None:
    site.orders.place_query("local", {"StudyInstanceUID": "1.1"})
    site.turn(8)
    site.work(JobState.FAILED)
    assert (again(site, "failed").jobs, site.states()) == (1, {"queued": 1})
    site.start({"Name": "default", "Models": ["other"]})
    assert again(site).jobs == 1
    site.work(JobState.FAILED)
    site.start({"Name": "default"})
    assert again(site).jobs == 1
    (job,) = site.queue.list()
    (workflow,) = site.queue._client.list_workflows(workflow_ids=[job.id], load_input=False)
    assert (job.state, workflow.status) == (JobState.QUEUED, "ENQUEUED")


def test_a_rule_that_no_longer_takes_the_series_ends_what_waits_and_keeps_what_is_done(site: Site) -> None:
    site.orders.place_query("local", {"StudyInstanceUID": "1.1"})
    site.turn(8)
    site.work()
    site.orders.place_query("local", {"StudyInstanceUID": "1.2"})
    site.turn(8)
    site.start({"Name": "thick", "Match": {"Spacing": {"Min": 3}}})
    order = again(site)
    assert (order.skips, order.unchanged, site.states()) == (1, 1, {"done": 1, "skipped": 1})


@pytest.mark.parametrize("priority", [Priority.URGENT, Priority.NORMAL])
def test_a_new_scan_that_waits_keeps_its_priority(site: Site, priority: Priority) -> None:
    site.start({"Name": "default", "Priority": priority.value})
    site.archive.put(*ct_series(study="1.10", series="1.10.3"))
    site.admission.hint(Hint("local", "1.10", "1.10.3", stable=True))
    site.turn(4)
    site.start({"Name": "default", "Models": ["other"]})
    assert again(site).jobs == 1
    (row,) = site.queue.ledger.open_jobs()
    (workflow,) = site.queue._client.list_workflows(workflow_ids=[row.job_id], load_input=False)
    assert (row.priority, workflow.priority) == (priority, QUEUE_PRIORITY[priority])


@pytest.mark.parametrize("rule", [{"Name": "default"}, {"Name": "default", "Models": ["other"]}])
def test_a_job_that_a_person_cancelled_runs_again_only_if_that_is_asked_for(
    site: Site, rule: dict[str, object]
) -> None:
    site.orders.place_query("local", {"StudyInstanceUID": "1.1"})
    site.turn(8)
    (job,) = site.queue.list()
    site.queue.cancel(job.id)
    site.start(rule)
    assert (again(site).unchanged, site.states()) == (1, {"cancelled": 1})
    placed = site.orders.place_query("local", QUERY, again=True)
    site.turn(8)
    assert (site.order(placed).jobs, site.states()) == (4, {"cancelled": 1, "queued": 4})
    assert again(site, "cancelled").jobs == 1
    assert site.states() == {"queued": 5}


def test_a_job_that_runs_is_left_alone(site: Site) -> None:
    site.orders.place_query("local", {"StudyInstanceUID": "1.1"})
    site.turn(8)
    (job,) = site.queue.list()
    assert site.queue.ledger.start(job.id)
    with pytest.raises(EnrichError, match="nothing to do"):
        site.orders.place_again("local")


def test_without_an_index_of_the_archive_it_is_the_same(tmp_path: Path) -> None:
    site = Site(tmp_path, 2, feed=False)
    site.start({"Name": "thick", "Match": {"Spacing": {"Min": 3}}})
    site.orders.place_query("local", QUERY)
    site.turn(8)
    site.start({"Name": "all"})
    assert (again(site).jobs, site.states()) == (2, {"queued": 2})
    site.queue.close()


def test_a_series_that_just_waits_for_its_decision_is_decided_on_again_too(site: Site) -> None:
    site.orders.place_query("local", {"StudyInstanceUID": "1.1"})
    site.turn(8)
    site.work()
    site.start({"Name": "default", "Models": ["other"]})
    orthanc_id = site.archive.lookup("1.1", "1.1.3")
    site.admission.hint(Hint("local", "1.1", "1.1.3", orthanc_series_id=orthanc_id))
    order = again(site)
    assert (order.jobs, order.known, site.states()) == (1, 0, {"queued": 1})
