"""Orders on an archive in memory: what they hand over, in which bounds, and where they go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import time
from pathlib import Path

import pytest

from orthanc_plugin.archive.protocol import CutShort
from orthanc_plugin.config.sections import BackfillSettings
from orthanc_plugin.domain.job import JobState, Priority
from orthanc_plugin.errors import EnrichError, InputError, Refusal
from orthanc_plugin.jobs import orders as orders_module
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.orders import OrderState, items_of_lines, parse_query, parts_of
from tests.support.cases.backfill_site import QUERY, Site
from tests.support.fakes.memory_archive import ct_series


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, 5)
    yield made
    made.queue.close()


def test_studies_from_before_become_jobs_that_come_last(site: Site) -> None:
    assert site.states() == {}
    placed = site.orders.place_query("local", QUERY)
    site.turn(8)
    order = site.order(placed)
    assert (order.state, order.listed, order.looked_at, order.jobs) == (OrderState.DONE, 5, 5, 5)
    assert {row.priority for row in site.queue.ledger.open_jobs()} == {Priority.BACKFILL}


def test_an_urgent_rule_does_not_lift_a_backfill_above_new_series(site: Site) -> None:
    site.start({"Name": "trauma", "Priority": "urgent"})
    site.orders.place_query("local", QUERY)
    site.turn(8)
    assert {row.priority for row in site.queue.ledger.open_jobs()} == {Priority.BACKFILL}
    site.archive.put(*ct_series(study="1.10", series="1.10.3"))
    site.admission.hint(Hint("local", "1.10", "1.10.3", stable=True))
    site.turn()
    (row,) = site.queue.ledger.of_series("local", "1.10.3")
    assert row.priority is Priority.URGENT


def test_no_more_series_are_on_the_way_than_the_lead_allows(tmp_path: Path) -> None:
    site = Site(tmp_path, 7, Lead=3)
    placed = site.orders.place_query("local", QUERY)
    most, done = 0, 0
    for _ in range(40):
        site.turn()
        most = max(most, site.queue.ledger.queued_backfill())
        if site.order(placed).state is OrderState.DONE:
            break
        if site.queue.ledger.queued_backfill() == 3:
            assert "Backfill.Lead" in site.order(placed).problem
            done += site.work()
    assert (most, done + site.work()) == (3, 7)
    site.queue.close()


def test_it_goes_on_where_it_was_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "PAGE", 2)
    site = Site(tmp_path, 7, Lead=2)
    site.archive.most_listed = 3
    placed = site.orders.place_query("local", QUERY)
    for _ in range(60):
        site.turn()
        site.work()
        site.start()
        if site.order(placed).state is OrderState.DONE:
            break
    order = site.order(placed)
    assert (order.state, order.listed, order.looked_at, order.known) == (OrderState.DONE, 7, 7, 0)
    assert site.states() == {"done": 7}
    assert not site.queue.ledger.notes("backfill-page:")
    site.queue.close()


def test_what_was_decided_on_before_is_counted_and_left_alone(site: Site) -> None:
    site.orders.place_query("local", {"StudyInstanceUID": "1.2"})
    site.turn(6)
    site.work()
    asked = site.archive.asked
    second = site.orders.place_query("local", QUERY)
    site.turn(8)
    order = site.order(second)
    assert (order.known, order.jobs, order.state) == (1, 4, OrderState.DONE)
    assert site.archive.asked > asked


def test_the_same_order_is_not_placed_twice(site: Site) -> None:
    first = site.orders.place_query("local", QUERY)
    assert site.orders.place_query("local", QUERY).id == first.id
    site.turn(8)
    assert site.orders.place_query("local", QUERY).id != first.id


def test_the_same_list_follows_the_open_order(site: Site) -> None:
    def place(*lines: str, **choice: bool) -> str:
        return site.orders.place_list("local", items_of_lines(lines), f"{len(lines)} studies", **choice).id

    first = place("1.1", "1.2")
    assert place("1.1", "1.2") == first
    assert first not in (place("1.1", "1.3"), place("1.1", "1.2", again=True))
    site.turn(12)
    assert place("1.1", "1.2") != first


def test_deciding_again_for_one_reason_follows_the_open_order(site: Site) -> None:
    site.start({"Name": "thick", "Match": {"Spacing": {"Min": 3}}})
    site.orders.place_query("local", QUERY)
    site.turn(8)
    first = site.orders.place_again("local", "no-rule")
    assert site.orders.place_again("local", "no-rule").id == first.id
    assert site.orders.place_again("local").id != first.id
    assert site.orders.place_again("local", "no-rule", "e").id != first.id


def test_a_limit_counts_studies(site: Site) -> None:
    placed = site.orders.place_query("local", QUERY, limit=2)
    site.turn(8)
    assert (site.order(placed).looked_at, site.states()) == (2, {"queued": 2})


def test_skips_have_rows_with_their_reason(site: Site) -> None:
    site.start({"Name": "thick", "Match": {"Spacing": {"Min": 3}}})
    placed = site.orders.place_query("local", QUERY)
    site.turn(8)
    assert (site.order(placed).skips, site.states()) == (5, {"skipped": 5})


def test_a_study_that_cannot_be_read_is_named_and_the_others_go_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = site.archive.ct_series

    def damaged(study_uid: str) -> tuple[str, ...]:
        if study_uid == "1.3":
            raise InputError(Refusal.ARCHIVE_REFUSED, "archive local answered 400")
        return whole(study_uid)

    monkeypatch.setattr(site.archive, "ct_series", damaged)
    placed = site.orders.place_query("local", QUERY)
    listed = site.orders.place_list("local", items_of_lines(["1.77", "1.2 1.2.3  # one series"]), "a list")
    site.turn(12)
    assert (site.order(placed).unreadable, site.order(placed).unread) == (1, ("study 1.3: archive-refused",))
    assert site.order(placed).jobs + site.order(placed).known == 4
    assert site.order(listed).unread == ("study 1.77: the archive has no CT series of it",)
    assert site.order(listed).state is OrderState.DONE


@pytest.mark.parametrize("feed", [True, False])
def test_a_series_of_a_list_that_the_archive_lacks_is_named(tmp_path: Path, feed: bool) -> None:
    site = Site(tmp_path, 2, feed=feed)
    placed = site.orders.place_list("local", items_of_lines(["1.2 1.2.99", "1.9 1.9.3", "1.1 1.1.3"]), "a list")
    site.turn(20)
    order = site.order(placed)
    assert (order.state, order.jobs, order.unchanged, order.unreadable) == (OrderState.DONE, 1, 0, 2)
    assert ["1.2.99" in order.unread[0], "1.9.3" in order.unread[1]] == [True, True]
    site.queue.close()


def test_a_series_that_was_deleted_is_named_when_it_is_decided_on_again(site: Site) -> None:
    site.orders.place_list("local", items_of_lines(["1.1 1.1.3", "1.2 1.2.3"]), "a list")
    site.turn(8)
    site.work()
    site.archive.delete("1.1.3")
    placed = site.orders.place_again("local")
    site.turn(8)
    order = site.order(placed)
    assert (order.unchanged, order.unread) == (1, ("series 1.1.3: the archive does not have it",))


def test_an_archive_that_is_away_is_named_and_asked_again(site: Site) -> None:
    placed = site.orders.place_query("local", QUERY)
    site.archive.away = True
    site.turn(3)
    assert (site.order(placed).problem, site.order(placed).state) == ("archive local is away", OrderState.LISTING)
    site.archive.away = False
    site.turn(8)
    assert site.order(placed).jobs == 5


def test_an_archive_that_ignores_the_offset_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    every = site.archive.studies
    monkeypatch.setattr(site.archive, "studies", lambda query, offset: every(query, 0))
    placed = site.orders.place_query("local", QUERY)
    site.turn(8)
    assert (site.order(placed).state, site.order(placed).listed) == (OrderState.DONE, 5)


@pytest.mark.parametrize("offset", ["works", "is ignored", "is refused"])
def test_an_archive_that_says_that_it_leaves_out_studies_is_named_unless_it_lists_them_later(
    site: Site, monkeypatch: pytest.MonkeyPatch, offset: str
) -> None:
    every = site.archive.studies

    def capped(query: Mapping[str, str], start: int) -> tuple[str, ...]:
        if start and offset == "is refused":
            return ()
        found = every(query, start if offset == "works" else 0)
        return CutShort(found[:3]) if len(found) > 3 else found

    monkeypatch.setattr(site.archive, "studies", capped)
    placed = site.orders.place_query("local", {"ModalitiesInStudy": "CT"})
    site.turn(8)
    order = site.order(placed)
    named = (
        () if offset == "works" else ("studies of ModalitiesInStudy=CT: the archive left out some (HTTP Warning 299)",)
    )
    assert (order.state, order.jobs, order.unread) == (OrderState.DONE, 5 if offset == "works" else 3, named)


def test_a_study_some_of_whose_series_are_left_out_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.archive, "ct_series", lambda study_uid: CutShort([f"{study_uid}.3"]))
    placed = site.orders.place_list("local", [("1.1", "")], "a list")
    site.turn(8)
    assert (site.order(placed).jobs, site.order(placed).unreadable) == (1, 1)


def test_a_stopped_order_leaves_the_rest_alone(tmp_path: Path) -> None:
    site = Site(tmp_path, 5, Lead=2)
    placed = site.orders.place_query("local", QUERY)
    site.turn(4)
    assert site.orders.stop(placed.id).state is OrderState.STOPPED
    site.work()
    site.turn(4)
    assert site.order(placed).ended_at is not None
    assert site.states() == {"done": 2}
    with pytest.raises(EnrichError, match="only an open one"):
        site.orders.stop(placed.id)
    site.queue.close()


def test_outside_its_hours_it_rests_and_its_jobs_wait(tmp_path: Path) -> None:
    site = Site(tmp_path, 5, Lead=2, Hours="20:00-06:00")
    placed = site.orders.place_query("local", QUERY)
    site.turn(4)
    assert site.states() == {}
    assert "20:00-06:00" in site.order(placed).problem
    site.hour = 23
    site.turn(5)
    waiting = [job.id for job in site.queue.list()]
    assert len(waiting) == 2
    assert not site.queue.cancelled(frozenset(waiting))
    site.hour = 7
    site.turn()
    assert site.queue.cancelled(frozenset(waiting)) == frozenset(waiting)
    site.queue.settle()
    assert [(job.state, "20:00-06:00" in job.waits_for) for job in site.queue.list()] == [(JobState.QUEUED, True)] * 2
    assert site.queue.cancelled(frozenset(waiting)) == frozenset(waiting)
    site.hour = 5
    site.turn()
    assert not site.queue.cancelled(frozenset(waiting))
    assert [job.waits_for for job in site.queue.list()] == ["", ""]
    site.queue.close()


@pytest.mark.parametrize(
    ("hours", "open_at", "closed_at"),
    [
        ("20:00-06:00", ["20:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "19:59"]),
        ("01:30-02:30", ["01:30", "02:29"], ["02:30", "00:00", "01:29"]),
        ("", ["00:00", "12:00"], []),
    ],
)
def test_hours_may_go_over_midnight(hours: str, open_at: list[str], closed_at: list[str]) -> None:
    settings = BackfillSettings(Hours=hours)
    assert all(settings.is_open(time.fromisoformat(text)) for text in open_at)
    assert not any(settings.is_open(time.fromisoformat(text)) for text in closed_at)


def test_hours_that_are_no_hours_are_refused() -> None:
    for text in ("20:00", "25:00-06:00", "8-9", "20:00-06:00 "):
        with pytest.raises(ValueError, match="Hours"):
            BackfillSettings(Hours=text)


@pytest.mark.parametrize(
    "text", ["", "StudyDate", "StudyDate=", "=2020", "Nonsense=1", "PatientID=4711", "PatientName=A*",
             "ReferringPhysicianName=A*", "AccessionNumber=1", "StudyDate=20210101-20200101",
             "ModalitiesInStudy=CT,ModalitiesInStudy=MR"],
)  # fmt: skip
def test_a_query_that_cannot_be_used_is_refused(site: Site, text: str) -> None:
    with pytest.raises(EnrichError):
        site.orders.place_query("local", parse_query([text]))
    assert site.orders.all() == ()


def test_a_range_of_dates_is_asked_for_month_by_month() -> None:
    parts = parts_of({"StudyDate": "20201115-20210201", "ModalitiesInStudy": "CT"})
    assert [part["StudyDate"] for part in parts] == [
        "20201115-20201130", "20201201-20201231", "20210101-20210131", "20210201-20210201"
    ]  # fmt: skip
    assert {part["ModalitiesInStudy"] for part in parts} == {"CT"}
    for date in ("20200101-", "20200101", "20209901-20210101", "20210101-20200101"):
        assert len(parts_of({"StudyDate": date})) == (0 if date == "20210101-20200101" else 1)


def test_a_range_may_end_where_dates_end() -> None:
    assert parts_of({"StudyDate": "99991101-99991231"})[-1] == {"StudyDate": "99991201-99991231"}


def test_an_order_that_fails_unexpectedly_says_so_and_delays_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = site.archive.studies

    def odd(query: Mapping[str, str], offset: int) -> tuple[str, ...]:
        if query == {"StudyInstanceUID": "1.1"}:
            raise AttributeError("a text that may name a patient")
        return whole(query, offset)

    monkeypatch.setattr(site.archive, "studies", odd)
    poisoned = site.orders.place_query("local", {"StudyInstanceUID": "1.1"})
    placed = site.orders.place_query("local", QUERY)
    site.turn(8)
    assert (site.order(placed).jobs, site.order(placed).state) == (5, OrderState.DONE)
    assert "unexpected AttributeError" in site.order(poisoned).problem
    assert "patient" not in site.order(poisoned).problem


def test_another_limit_is_another_order(site: Site) -> None:
    few = site.orders.place_query("local", QUERY, limit=2)
    every = site.orders.place_query("local", QUERY)
    assert few.id != every.id
    site.turn(12)
    assert (site.order(every).looked_at, site.states()) == (5, {"queued": 5})


def test_a_list_that_cannot_be_used_is_refused(site: Site) -> None:
    for lines in ([], ["x?y"], ["1.2 1.3 1.4"], ["# nothing"]):
        with pytest.raises(EnrichError):
            site.orders.place_list("local", items_of_lines(lines), "a list")
    assert site.orders.all() == ()


def test_ended_orders_are_forgotten_one_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "ENDED_KEPT", 2)
    for number in range(5):
        site.orders.place_query("local", {"StudyInstanceUID": f"1.{number}"})
        site.turn(5)
    assert len(site.orders.all()) == 2
