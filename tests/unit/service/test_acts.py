"""What an operator sees and does about jobs and deliveries that wait, failed or are stuck: API, dashboard, commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli.desk import EXIT_DONE
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs import ledger
from orthanc_plugin.jobs.engine import ENRICH
from orthanc_plugin.jobs.webhooks import Webhooks, subject_of
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

API = "/enrichment/api/v1"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[FrontDoor]:
    with front_door(tmp_path) as door:
        yield door


def fail(door: FrontDoor, job_id: str, detail: str) -> None:
    finish(door.queue, job_id, JobState.FAILED, detail=detail)
    door.queue._client.cancel_workflow(job_id)  # no worker runs here to end the engine's part


def begin(door: FrontDoor, job_id: str, ago: timedelta) -> None:
    """Let the ledger say that the job began some time ago; no worker runs here."""
    assert door.queue.ledger.start(job_id)
    began = (datetime.now(UTC) - ago).isoformat(timespec="milliseconds")
    with door.queue.ledger.begin() as connection:
        connection.execute(sa.update(ledger._decisions).values(started_at=began))


def test_an_open_job_is_cancelled_once_and_can_be_retried(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.100")
    answer = door.ask(f"{API}/jobs/{job_id}/cancel", "POST")
    assert (answer.status_code, answer.json()["state"], answer.json()["error"]) == (
        200, "cancelled", "cancelled by a person"
    )  # fmt: skip
    assert door.ask(f"{API}/jobs/{job_id}/cancel", "POST").status_code == 409
    assert f'data-act="jobs/{job_id}/retry"' in door.ask("/enrichment/").text
    assert door.ask(f"{API}/jobs/{job_id}/retry", "POST").json()["state"] == "queued"


def test_all_jobs_of_a_reason_are_retried(door: FrontDoor) -> None:
    away, refused, done = (enqueue(door.queue, f"1.2.{number}") for number in range(3))
    fail(door, away, "TransientError: archive local: ConnectionError")
    fail(door, refused, "StoreError: archive local answered 507")
    finish(door.queue, done)
    answer = door.ask(f"{API}/retry?reason=failed&text=ConnectionError", "POST")
    assert answer.json() == {"jobs": [away]}
    assert door.ask(f"{API}/retry", "POST").json() == {"jobs": [refused]}
    assert door.queue.show(done).state is JobState.DONE


def test_a_job_that_nobody_works_on_is_stuck_and_goes_on_when_retried(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.100")
    begin(door, job_id, timedelta(minutes=1))
    assert door.ask(f"{API}/health").json()["stuck"] == []
    assert door.ask(f"{API}/jobs/{job_id}/retry", "POST").status_code == 409
    begin(door, job_id, timedelta(minutes=5))
    health = door.ask(f"{API}/health").json()
    assert (health["stuck"], health["status"]) == ([job_id], "degraded")
    assert door.ask(f"{API}/jobs").json()["jobs"][0]["stuck"]
    assert '<strong class="bad">stuck</strong>' in door.ask("/enrichment/").text
    assert door.ask(f"{API}/jobs/{job_id}/retry", "POST").status_code == 200
    assert door.ask(f"{API}/jobs/{job_id}/cancel", "POST").json()["state"] == "cancelled"


def test_a_job_that_a_living_worker_works_on_is_not_stuck(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.100")
    begin(door, job_id, timedelta(hours=5))
    door.queue.heartbeats.beat("worker-0", "steps-1", [job_id])
    assert door.queue.stuck() == frozenset()


def test_a_paused_queue_stays_paused_for_every_new_process(door: FrontDoor) -> None:
    assert door.ask(f"{API}/pause", "POST").json() == {"paused": True}
    health = door.ask(f"{API}/health").json()
    assert (health["paused"], health["status"]) == (True, "ok")
    door.queue._register_jobs()  # as each process does that opens the database
    queue = door.queue._client.retrieve_queue(ENRICH)
    assert queue is not None
    assert queue.worker_concurrency == 0
    assert 'data-act="resume"' in door.ask("/enrichment/").text
    assert door.ask(f"{API}/resume", "POST").json() == {"paused": False}
    assert queue.worker_concurrency == 1


def test_a_database_that_cannot_be_written_makes_health_degraded(
    door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(key: str, value: str) -> None:
        raise sa.exc.OperationalError("UPDATE", {}, Exception("database or disk is full"))

    monkeypatch.setattr(door.queue.ledger, "keep_note", full)
    health = door.ask(f"{API}/health").json()
    assert (health["status"], health["database"]["ok"]) == ("degraded", False)
    assert "cannot be written" in health["database"]["problem"]


def test_deliveries_are_listed_counted_cancelled_and_retried(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.100")
    door.queue.deliveries.add(job_id, "far", "{}")
    (listed,) = door.ask(f"{API}/deliveries?state=queued").json()["deliveries"]
    assert (listed["job_id"], listed["destination"], listed["kind"]) == (job_id, "far", "deliver")
    assert door.ask(f"{API}/health").json()["deliveries"] == {"queued": 1}
    address = f"{API}/jobs/{job_id}/deliveries/far"
    assert door.ask(f"{address}/retry", "POST").status_code == 409
    assert f'data-act="deliveries/{job_id}/far/cancel"' in door.ask("/enrichment/deliveries?state=queued").text
    assert listed["try_again"] == ""
    (cancelled,) = door.ask(f"{address}/cancel", "POST").json()["deliveries"]
    assert (cancelled["state"], cancelled["try_again"]) == ("cancelled", f"deliveries/{job_id}/far/retry")
    page = door.ask("/enrichment/deliveries?state=cancelled").text
    assert f'data-act="{cancelled["try_again"]}"' in page
    assert "Nothing tries it again by itself. Once the cause is repaired, try again." in page
    (again,) = door.ask(f"{API}/{cancelled['try_again']}", "POST").json()["deliveries"]
    assert (again["state"], again["try_again"]) == ("queued", "")


def test_the_notice_of_a_skip_is_retried_and_leads_to_its_series(door: FrontDoor) -> None:
    row = skipped("1.2.200")
    door.queue.enqueue(row)
    settings = {"far": {"Url": "http://127.0.0.1:1", "Secret": "a secret of many characters"}}
    Webhooks(parse_section({"Webhooks": settings}, {}).webhooks).tell(door.queue.deliveries, row)
    address = f"deliveries/{subject_of(row)}/@far".replace("@", "%40")
    (cancelled,) = door.ask(f"{API}/{address}/cancel", "POST").json()["deliveries"]
    assert cancelled["state"] == "cancelled"
    assert door.ask(f"{API}/{address}/cancel", "POST").status_code == 409
    listed = door.ask("/enrichment/deliveries?state=cancelled").text
    assert f'data-act="{address.replace("%40", "@")}/retry"' in listed.replace("%40", "@")
    assert 'href="/enrichment/series/1.2.200?archive=local"' in listed
    page = door.ask("/enrichment/series/1.2.200").text
    assert "webhook" in page
    assert "Decide again" in page
    (again,) = door.ask(f"{API}/{address}/retry", "POST").json()["deliveries"]
    assert (again["state"], again["kind"]) == ("queued", "notify")
    assert door.ask(f"{API}/deliveries/{'0' * 64}/far/retry", "POST").status_code == 404


def test_the_commands_do_the_same(
    door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path))
    job_id = enqueue(door.queue, "1.2.100")
    door.queue.deliveries.add(job_id, "far", "{}")
    row = skipped("1.2.200")
    door.queue.deliveries.add(subject_of(row), "@hook", "{}", "notify")
    acts = (["pause"], ["resume"], ["cancel", job_id], ["cancel", job_id, "--to", "far"])
    for arguments in (*acts, *([act, subject_of(row), "--to", "@hook"] for act in ("cancel", "retry"))):
        assert cli.main(["jobs", *arguments, "--json"]) == EXIT_DONE
    capsys.readouterr()
    assert cli.main(["jobs", "deliveries", "--state", "cancelled", "--json"]) == EXIT_DONE
    assert [row["destination"] for row in json.loads(capsys.readouterr().out)] == ["far"]
    assert cli.main(["jobs", "deliveries", "--state", "cancelled"]) == EXIT_DONE
    assert f"try again: orthanc-enrich jobs retry {job_id} --to far\n" in capsys.readouterr().out
    assert cli.main(["jobs", "retry", job_id, "--to", "far"]) == EXIT_DONE
    capsys.readouterr()
    assert cli.main(["jobs", "retry-all", "--reason", "cancelled", "--json"]) == EXIT_DONE
    assert json.loads(capsys.readouterr().out) == {"retried": [job_id]}


def test_a_password_that_others_can_read_is_told_where_a_person_looks(tmp_path: Path) -> None:
    login = {"User": "ai", "Password": "s3cr3t-pa55"}
    with front_door(tmp_path, archives={"far": {"Url": "http://0.0.0.0:1/dicom-web"} | login}) as door:
        health = door.ask(f"{API}/health").json()
        page = door.ask("/enrichment/system").text
    warnings = {archive["name"]: archive["warning"] for archive in health["archives"]}
    assert warnings["local"].startswith("Orthanc 1.10.1 has published holes (CVE-2023-33466 and 10 more)")
    assert warnings["far"].startswith("User and Password go to 0.0.0.0 without encryption")
    assert f"Warning: {warnings['far']}" in page
    assert "s3cr3t-pa55" not in page


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.DONE])
def test_what_a_job_left_is_withdrawn_from_the_dashboard_after_a_question(door: FrontDoor, state: JobState) -> None:
    job_id = enqueue(door.queue, "1.2.100")
    finish(door.queue, job_id, state, detail="refused" if state is JobState.FAILED else "")
    page, address = door.ask("/enrichment/").text, f"jobs/{job_id}/withdraw"
    assert (f'data-act="{address}" data-confirm="Withdraw the 1 results' in page) is (state is JobState.FAILED)
    script = door.ask("/enrichment/static/acts.js").text
    assert "if (name && question && !confirm(question)) return;" in script
    foreign = door.ask(f"{API}/{address}", "POST", headers={"Origin": "http://elsewhere"})
    assert (foreign.status_code, door.queue.deliveries.list()) == (403, ())
    own = door.ask(f"{API}/{address}", "POST", headers={"Origin": door.url})
    kinds = [delivery.kind for delivery in door.queue.deliveries.list()]
    assert (own.status_code, kinds) == ((200, ["withdraw"]) if state is JobState.FAILED else (409, []))


def test_series_that_cannot_be_looked_at_are_told_where_a_person_looks(door: FrontDoor) -> None:
    said = "1 series: archive far is away"
    assert door.ask(f"{API}/health").json()["admission"]["held_up"] == [said]
    assert f'<strong class="bad">{said}</strong>' in door.ask("/enrichment/system").text
    assert 'hx-get="/enrichment/system" hx-trigger="load' in door.ask("/enrichment/").text
    assert f"<li>{said}.</li>" in door.ask("/enrichment/system", headers={"HX-Request": "true"}).text
