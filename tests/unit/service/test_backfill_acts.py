"""How an operator orders backfills and new decisions, follows them and stops them: API, dashboard, commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orthanc_plugin.cli import backfill as command
from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli.desk import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED
from orthanc_plugin.domain.job import Priority
from orthanc_plugin.jobs.orders import Order, Orders, OrderState
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

API = "/enrichment/api/v1"
QUERY = "StudyDate=20200101-20201231,ModalitiesInStudy=CT"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[FrontDoor]:
    with front_door(tmp_path) as door:
        yield door


@pytest.fixture
def orders(door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orders:
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(command, "FOLLOW_S", 0.01)
    return Orders(door.queue.ledger)


def test_a_backfill_is_placed_listed_and_stopped(door: FrontDoor) -> None:
    answer = door.ask(f"{API}/backfills", "POST", json={"archive": "local", "query": QUERY, "limit": 5})
    placed = answer.json()
    assert (answer.status_code, placed["state"], placed["limit"]) == (202, "listing", 5)
    (listed,) = door.ask(f"{API}/backfills").json()["backfills"]
    assert (listed["id"], listed["asked"]) == (placed["id"], "StudyDate=20200101-20201231, ModalitiesInStudy=CT")
    assert f'data-act="backfills/{placed["id"]}/stop"' in door.ask("/enrichment/backfill").text
    assert door.ask(f"{API}/backfills/{placed['id']}/stop", "POST").json()["state"] == "stopped"
    assert door.ask(f"{API}/backfills/{placed['id']}/stop", "POST").status_code == 409
    assert door.ask(f"{API}/backfills/none/stop", "POST").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"archive": "nowhere", "query": QUERY},
        {"archive": "local"},
        {"archive": "local", "query": "PatientID=4711"},
        {"archive": "local", "query": QUERY, "studies": ["1.2"]},
        {"archive": "local", "studies": ["x?_method=DELETE"]},
        {"archive": "local", "query": QUERY, "limit": -1},
        {"archive": "local", "query": QUERY, "more": 1},
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused(door: FrontDoor, body: dict[str, object]) -> None:
    answer = door.ask(f"{API}/backfills", "POST", json=body)
    assert answer.status_code == 400
    assert "4711" not in answer.text
    assert door.ask(f"{API}/backfills").json() == {"backfills": []}


def test_an_order_that_is_too_large_is_refused(door: FrontDoor) -> None:
    assert door.ask(f"{API}/backfills", "POST", content=b" " * (4 * 1024 * 1024 + 1)).status_code == 413


def test_decisions_are_made_again_by_reason(door: FrontDoor) -> None:
    door.queue.enqueue(skipped("1.2.200"))
    door.queue.enqueue(skipped("1.2.201", reason="no-rule"))
    answer = door.ask(f"{API}/decide-again", "POST", json={"archive": "local", "reason": "no-rule"})
    assert (answer.status_code, answer.json()["listed"], answer.json()["again"]) == (202, 1, True)
    assert door.ask(f"{API}/decide-again", "POST", json={"archive": "local", "reason": "gone"}).status_code == 400
    assert "decisions with reason no-rule again" in door.ask("/enrichment/backfill").text


def test_the_page_says_what_an_order_waits_for_and_what_could_not_be_read(door: FrontDoor, orders: Orders) -> None:
    placed = orders.place_list("local", [("1.2", ""), ("1.3", "")], "a list")
    orders.save(replace(placed, looked_at=1, unreadable=1, unread=("study 1.2: <gone>",), busy_s=30.0, problem="time"))
    page = door.ask("/enrichment/backfill").text
    for text in ("1 of 2", "120 an hour", "30.0 s left", "waits: time", "study 1.2: &lt;gone&gt;"):
        assert text in page


def test_a_waiting_job_says_why_and_with_which_priority(door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.100")
    with door.queue.ledger.begin() as connection:
        connection.exec_driver_sql("UPDATE enrichment_decisions SET priority = 'backfill'")
    door.queue.hold_backfill("the hours of backfills, 20:00-06:00 (Backfill.Hours)")
    job = door.ask(f"{API}/jobs/{job_id}").json()
    assert (job["priority"], job["state"], "20:00" in job["waits_for"]) == (Priority.BACKFILL, "queued", True)
    assert "waits for the hours of backfills" in door.ask("/enrichment/").text
    door.ask(f"{API}/pause", "POST")
    assert door.ask(f"{API}/jobs").json()["jobs"][0]["waits_for"] == "a person who resumes the queue"


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_places_lists_and_stops(orders: Orders, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "backfill")[:2] == (EXIT_DONE, "no backfills\n")
    code, out, _ = say(capsys, "backfill", "--query", QUERY, "--limit", "3", "--no-wait", "--json")
    placed = json.loads(out)
    assert (code, placed["state"], placed["limit"], placed["again"]) == (EXIT_DONE, "listing", 3, False)
    assert "listing: 0 of 0 studies" in say(capsys, "backfill")[1]
    assert say(capsys, "backfill", "--stop", placed["id"])[0] == EXIT_DONE
    assert orders.get(placed["id"]).state is OrderState.STOPPED
    assert say(capsys, "backfill", "--stop", placed["id"])[0] == EXIT_FAILED
    assert say(capsys, "backfill", "--query", "PatientID=1")[0] == EXIT_FAILED
    assert say(capsys, "backfill", "--archive", "nowhere", "--query", QUERY)[0] == EXIT_CONFIG


def test_the_command_reads_a_list(orders: Orders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "studies.txt"
    file.write_text("# old ones\n1.2.3\n1.2.4 1.2.4.5\n\n1.2.3\n")
    code, out, _ = say(capsys, "backfill", "--list", str(file), "--again", "--no-wait", "--json")
    placed = orders.get(json.loads(out)["id"])
    assert (code, placed.listed, placed.again, orders.page(placed)) == (
        EXIT_DONE, 2, True, (("1.2.3", ""), ("1.2.4", "1.2.4.5"))
    )  # fmt: skip


def test_the_command_follows_until_the_end_and_its_exit_code_tells_of_the_unreadable(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([(10, 0), (60, 0), (100, 2)])

    def carried_out(placed: Order) -> None:
        looked_at, unreadable = next(looks)
        unread = tuple(f"study 1.{number}: unreadable" for number in range(unreadable))
        moved = replace(placed, listed=100, looked_at=looked_at, unreadable=unreadable, unread=unread, busy_s=looked_at,
                        state=OrderState.RUNNING, seen=datetime.now(UTC))  # fmt: skip
        orders.save(moved)
        if looked_at == 100:
            orders.end(moved, OrderState.DONE)

    whole = Orders.get

    def get(self: Orders, order_id: str) -> Order:
        carried_out(whole(self, order_id))
        return whole(self, order_id)

    monkeypatch.setattr(Orders, "get", get)
    code, out, told = say(capsys, "backfill", "--query", QUERY)
    assert code == EXIT_FAILED
    assert "running: 60 of 100 studies" in told
    assert "3600 studies an hour; about 40 s left" in told
    assert "done: 100 of 100 studies" in out
    assert "study 1.1: unreadable" in out


def test_ctrl_c_leaves_the_order_to_the_service(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupted)
    code, out, told = say(capsys, "backfill", "--query", QUERY, "--json")
    assert (code, json.loads(out)["state"]) == (EXIT_DONE, "listing")
    assert "The service goes on with it" in told
    again = json.loads(say(capsys, "backfill", "--query", QUERY, "--no-wait", "--json")[1])
    assert again["id"] == json.loads(out)["id"]


def test_the_command_says_that_no_service_runs(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SILENT_S", 0.05)
    code, _, told = say(capsys, "backfill", "--query", QUERY)
    assert code == EXIT_FAILED
    assert "no service has looked at backfill" in told


def test_the_command_does_not_say_so_while_the_service_is_busy(
    door: FrontDoor, orders: Orders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = list[float]()

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        door.queue.heartbeats.beat("worker-0", "", ())
        if len(turns) == 3:
            orders.end(orders.all()[0], OrderState.DONE)

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(command, "SILENT_S", -1.0)
    door.queue.heartbeats.beat("worker-0", "", ())
    code, _, told = say(capsys, "backfill", "--query", QUERY)
    assert (code, told.count("busy with one long look")) == (EXIT_DONE, 1)


def test_the_command_decides_again(door: FrontDoor, orders: Orders, capsys: pytest.CaptureFixture[str]) -> None:
    finish(door.queue, enqueue(door.queue, "1.2.100"))
    door.queue.enqueue(skipped("1.2.200"))
    code, out, _ = say(capsys, "jobs", "decide-again", "--reason", "too-few-slices", "--no-wait", "--json")
    placed = orders.get(json.loads(out)["id"])
    assert (code, placed.listed, orders.page(placed)) == (EXIT_DONE, 1, (("1.2.3", "1.2.200"),))
    whole = json.loads(say(capsys, "jobs", "decide-again", "--no-wait", "--json")[1])
    assert whole["listed"] == 2
    asked = json.loads(say(capsys, "jobs", "decide-again", "--query", QUERY, "--no-wait", "--json")[1])
    assert (asked["state"], asked["again"]) == ("listing", True)
    assert say(capsys, "jobs", "decide-again", "--archive", "nowhere")[0] == EXIT_CONFIG
