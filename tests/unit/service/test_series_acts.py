"""What people do with series on the pages and by the API: act on several, give priorities, look patients up, listen."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orthanc_plugin.domain.job import EnrichJob, JobState, Priority, StageView
from orthanc_plugin.domain.plan import Location, Output, Plan, PlannedModel
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.orders import Orders
from orthanc_plugin.jobs.progress import progress_of, stages_planned
from orthanc_plugin.jobs.record import JobView
from orthanc_plugin.service import people
from orthanc_plugin.service.people import AUDIT
from tests.support.fakes.memory_archive import MemoryArchive, ct_series
from tests.support.servers.front_door import RIGHT, SEEN, USER, FrontDoor, enqueue, finish, front_door, skipped

API = "/enrichment/api/v1"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[FrontDoor]:
    with front_door(tmp_path) as door:
        yield door


def acted(door: FrontDoor, **body: object) -> httpx.Response:
    return door.ask(f"{API}/series/act", "POST", json=body)


class TestActing:
    def test_what_cannot_be_done_with_one_does_not_stop_the_others(self, door: FrontDoor) -> None:
        failed, done = enqueue(door.queue, "1.2.100"), enqueue(door.queue, "1.2.101")
        finish(door.queue, failed, JobState.FAILED, detail="StoreError: refused")
        finish(door.queue, done)
        door.queue.enqueue(skipped("1.2.102"))
        open_job = enqueue(door.queue, "1.2.103")
        names = [f"local/1.2.{number}" for number in (100, 102, 103, 999)]
        answer = acted(door, act="retry", series=names).json()
        assert (answer["done"], answer["not_done"]) == (1, 3)
        assert [problem["series_instance_uid"] for problem in answer["problems"]] == ["1.2.999", "1.2.102", "1.2.103"]
        assert "so it has no job" in answer["problems"][1]["message"]
        assert [door.queue.show(job).state for job in (failed, open_job)] == ["queued", "queued"]

    def test_a_search_acts_on_all_that_it_finds_and_never_on_everything(self, door: FrontDoor) -> None:
        jobs = [enqueue(door.queue, f"1.2.{number}", rule="head" if number < 3 else "chest") for number in range(5)]
        for body in ({}, {"rule": ""}, {"rule": "head", "colour": "red"}, {"state": "lost"}):
            assert acted(door, act="cancel", search=body).status_code == 400, body
        assert acted(door, act="cancel").status_code == 400
        assert acted(door, act="cancel", series=["local/1.2.0"], search={"rule": "head"}).status_code == 400
        assert acted(door, act="cancel", search={"rule": "head"}).json()["done"] == 3
        assert [door.queue.show(job).state for job in jobs] == ["cancelled"] * 3 + ["queued"] * 2

    def test_priorities_change_the_order_in_which_workers_take_jobs(self, door: FrontDoor) -> None:
        first, second = enqueue(door.queue, "1.2.100"), enqueue(door.queue, "1.2.101")
        assert acted(door, act="urgent", series=["local/1.2.101"]).json()["done"] == 1
        waiting = door.queue._client.list_queued_workflows(load_input=False)
        priorities = {workflow.workflow_id: workflow.priority for workflow in waiting}
        assert priorities == {first: 20, second: 10}
        assert door.queue.show(second).priority is Priority.URGENT
        assert door.queue.job(second).series_instance_uid == "1.2.101"
        finish(door.queue, first)
        with pytest.raises(EnrichError, match="only a job that waits"):
            door.queue.prioritise(first, Priority.URGENT)

    def test_a_job_that_is_queued_anew_is_there_once(self, door: FrontDoor) -> None:
        job = enqueue(door.queue, "1.2.100")
        for act in ("backfill", "normal", "urgent", "urgent"):
            assert acted(door, act=act, series=["local/1.2.100"]).json()["done"] == 1
        door.queue.settle()
        assert [w.workflow_id for w in door.queue._client.list_queued_workflows(load_input=False)] == [job]

    def test_deciding_again_is_an_order_for_these_series(self, door: FrontDoor) -> None:
        door.queue.enqueue(skipped("1.2.100"))
        door.queue.enqueue(skipped("1.2.101"))
        assert acted(door, act="decide-again", series=["local/1.2.100"]).json()["done"] == 1
        (order,) = Orders(door.queue.ledger).all()
        assert (order.listed, order.again) == (1, True)


class TestPeople:
    @pytest.fixture(autouse=True)
    def archive(self, monkeypatch: pytest.MonkeyPatch) -> MemoryArchive:
        archive = MemoryArchive()
        archive.put(*ct_series(2))
        monkeypatch.setattr(people.People, "_open", lambda self, name: archive)
        return archive

    def test_a_patient_is_shown_on_demand_and_the_log_says_to_whom(
        self, door: FrontDoor, caplog: pytest.LogCaptureFixture
    ) -> None:
        body = {"archive": "local", "study_instance_uid": "1.2", "series_instance_uid": "1.2.3"}
        with caplog.at_level(logging.INFO, AUDIT):
            answer = door.ask(f"{API}/patients", "POST", json=body)
        assert (answer.json()["patient_name"], answer.json()["patient_id"]) == ("A^B", "P1")
        assert [record.message for record in caplog.records if record.name == AUDIT] == [
            f"user {USER} looked up the patient of series 1.2.3"
        ]

    def test_a_search_by_patient_leads_to_an_address_without_patient(
        self, door: FrontDoor, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, AUDIT):
            answer = door.ask("/enrichment/find", "POST", data={"archive": "local", "patient_id": "P1"})
            found = door.ask(f"{API}/find", "POST", json={"archive": "local", "patient_id": "P1"}).json()
        assert (answer.status_code, answer.headers["location"]) == (303, "/enrichment/?study=1.2")
        assert found == {"studies": ["1.2"]}
        logged = [record.message for record in caplog.records if record.name == AUDIT]
        assert logged == [f"user {USER} looked studies up by PatientID: 1 found"] * 2

    @pytest.mark.parametrize("fields", [{}, {"archive": "local"}, {"archive": "local", "name": "Doe"}])
    def test_a_search_by_anything_else_is_refused(self, door: FrontDoor, fields: dict[str, str]) -> None:
        assert door.ask("/enrichment/find", "POST", data=fields).status_code == 400

    def test_no_page_names_a_patient(self, door: FrontDoor) -> None:
        job = enqueue(door.queue, "1.2.3")
        finish(door.queue, job)
        for address in ("", f"jobs/{job}", "series/1.2.3", "system", "deliveries"):
            assert "A^B" not in door.ask(f"/enrichment/{address}").text


class TestEvents:
    def test_listeners_hear_of_progress_and_of_changes(self, door: FrontDoor) -> None:
        job = enqueue(door.queue, "1.2.100")
        door.queue.ledger.start(job)
        with (
            httpx.Client(base_url=door.url, auth=RIGHT, trust_env=False, timeout=20) as client,
            client.stream("GET", f"{API}/events") as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            told = [next(lines) for _ in range(6)]
            assert told[0] == "event: progress"
            assert json.loads(told[1].removeprefix("data: "))["jobs"][0]["job"] == job
            assert told[3] == "event: changed"
            before = json.loads(told[4].removeprefix("data: "))
            door.queue.enqueue(skipped("1.2.101"))
            after = next(line for line in lines if line.startswith("data: ") and "counts" in line)
            assert json.loads(after.removeprefix("data: "))["last_row"] == before["last_row"] + 1


class TestProgress:
    PLAN = Plan(
        "r",
        (PlannedModel("a", "0" * 64), PlannedModel("b", "1" * 64)),
        (Output.SEG, Output.RADIOMICS, Output.BODY_LANDMARKS, Output.CHECKS),
        "local",
        location=Location(PlannedModel("bpr", "2" * 64)),
    )

    def test_the_stages_are_those_of_the_pipeline(self) -> None:
        assert stages_planned(self.PLAN.to_json()) == (
            "retrieve", "locate bpr", "report body-landmarks", "segment a", "segment b", "measure a", "measure b",
            "check",
        )  # fmt: skip

    def test_a_job_that_runs_is_never_done_to_a_hundred(self) -> None:
        job = EnrichJob("local", "1.2", "1.2.3", "f", 0, self.PLAN)
        planned = stages_planned(self.PLAN.to_json())
        percents = []
        for done in range(len(planned) + 1):
            stages = tuple(StageView(name, 1.0, 1.0) for name in planned[:done])
            percents.append(progress_of(view(stages), job).percent)
        assert percents == sorted(percents)
        assert (percents[0], percents[-1]) == (0, 99)


def view(stages: tuple[StageView, ...]) -> JobView:
    return JobView("j", JobState.RUNNING, "local", "1.2", "1.2.3", "r", SEEN, SEEN, None, "", stages, (), "check")
