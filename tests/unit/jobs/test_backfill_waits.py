"""Orders on archives that are slow, or do not give what they list: each series ends in a row and frees its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.errors import EnrichError, IncompleteError, NothingSentError, Refusal
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.orders import OrderState
from tests.support.cases.backfill_site import QUERY, Site
from tests.support.fakes.memory_archive import ct_series

MISSING_AET = "archive local: it does not know the destination of the C-MOVE: register ENRICHMENT, port 4242, there"


def failing(site: Site, error: Callable[[], EnrichError], *studies: str) -> Callable[[str, str], tuple[Dataset, ...]]:
    """Return `headers` of the archive, which fails for some studies."""
    whole = site.archive.headers

    def headers(study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        if study_uid in studies:
            raise error()
        return whole(study_uid, series_uid)

    return headers


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Site]:
    """A site of five studies without an index, with room for two series."""
    site = Site(tmp_path, 5, feed=False, Lead=2)
    yield site
    site.queue.close()


def work(site: Site, turns: int = 60) -> None:
    for _ in range(turns):
        site.turn()
        site.work()


def test_series_of_which_nothing_comes_end_in_a_row_that_says_what_to_do(
    slow: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow.archive, "headers", failing(slow, lambda: NothingSentError(MISSING_AET), "1.1", "1.2"))
    placed = slow.orders.place_query("local", QUERY)
    slow.turn(6)
    assert slow.order(placed).problem == f"2 series wait: {MISSING_AET}"
    work(slow)
    order = slow.order(placed)
    assert (order.state, order.jobs, order.unreadable) == (OrderState.DONE, 3, 2)
    assert order.unread == ("series 1.1.3: not-sent", "series 1.2.3: not-sent")
    (row,) = slow.queue.ledger.of_series("local", "1.1.3")
    assert (row.reason, row.detail.startswith(MISSING_AET)) == (Refusal.NOT_SENT, True)
    assert "orthanc-enrich jobs decide-again --archive local --reason not-sent" in row.detail


def test_what_was_not_sent_is_named_again_and_asked_for_by_the_next_order(
    slow: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = slow.archive.headers
    monkeypatch.setattr(slow.archive, "headers", failing(slow, lambda: NothingSentError(MISSING_AET), "1.1"))
    slow.orders.place_query("local", QUERY)
    work(slow)
    second = slow.orders.place_query("local", QUERY)
    work(slow)
    assert (slow.order(second).known, slow.order(second).unread) == (4, ("series 1.1.3: not-sent",))
    monkeypatch.setattr(slow.archive, "headers", whole)
    third = slow.orders.place_query("local", QUERY)
    work(slow)
    assert (slow.order(third).known, slow.order(third).jobs, slow.order(third).unreadable) == (4, 1, 0)
    assert slow.queue.ledger.of_series("local", "1.1.3")[0].superseded_by


def test_deciding_again_reaches_what_was_not_sent(slow: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = slow.archive.headers
    monkeypatch.setattr(slow.archive, "headers", failing(slow, lambda: NothingSentError(MISSING_AET), "1.1", "1.4"))
    slow.orders.place_query("local", QUERY)
    work(slow)
    monkeypatch.setattr(slow.archive, "headers", whole)
    placed = slow.orders.place_again("local", "not-sent")
    work(slow)
    assert (slow.order(placed).state, slow.order(placed).jobs) == (OrderState.DONE, 2)
    assert slow.states()["done"] == 5


def test_an_archive_that_was_away_for_long_is_not_believed_sooner(slow: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = slow.archive.headers
    slow.orders.place_list("local", [("1.1", "1.1.3")], "a list")
    slow.turn(3)
    slow.archive.away = True
    slow.turn(40)
    assert slow.admission.held_up == ("1 series: archive local is away",)
    slow.archive.away = False
    monkeypatch.setattr(slow.archive, "headers", failing(slow, lambda: NothingSentError(MISSING_AET), "1.1"))
    slow.turn(15)
    assert slow.states() == {}
    monkeypatch.setattr(slow.archive, "headers", whole)
    slow.turn(20)
    assert (slow.states(), slow.admission.held_up) == ({"queued": 1}, ())


def test_series_that_are_never_sent_whole_end_in_a_row_and_free_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, 5, feed=False, Lead=2)
    whole = site.archive.headers

    def headers(study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        if study_uid in ("1.1", "1.2"):
            raise IncompleteError("archive local: the retrieval ended with status 0xB000")
        return whole(study_uid, series_uid)

    monkeypatch.setattr(site.archive, "headers", headers)
    placed = site.orders.place_query("local", QUERY)
    for _ in range(60):
        site.turn()
        site.work()
    order = site.order(placed)
    assert (order.state, order.jobs, order.unreadable) == (OrderState.DONE, 3, 2)
    (row,) = site.queue.ledger.of_series("local", "1.1.3")
    assert (row.reason, "0xB000" in row.detail) == (Refusal.ARCHIVE_REFUSED, True)
    site.queue.close()


def test_a_series_that_just_arrives_is_awaited_where_no_index_tells_that_it_grew(tmp_path: Path) -> None:
    site = Site(tmp_path, 0, feed=False)
    whole = ct_series(study="1.1", series="1.1.3", patient="P1")
    site.archive.put(*whole[:10])
    placed = site.orders.place_list("local", [("1.1", "1.1.3")], "a list")
    site.turn(2)
    assert site.states() == {}
    site.archive.put(*whole[10:])
    site.turn(8)
    assert (site.order(placed).state, site.states()) == (OrderState.DONE, {"queued": 1})
    (row,) = site.queue.ledger.of_series("local", "1.1.3")
    assert EnrichJob.from_json(row.argument).voxels == 20 * 64
    site.queue.close()


def test_new_series_come_in_between_the_looks_of_a_slow_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, 5, feed=False)
    whole, looked_at = site.archive.headers, list[str]()

    def slow(study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        looked_at.append(study_uid)
        if study_uid != "1.10":
            clock.append(clock[-1] + 30.0)
        return whole(study_uid, series_uid)

    clock = [1000.0]
    site.orders.place_query("local", QUERY)
    site.turn(2)
    monkeypatch.setattr("orthanc_plugin.jobs.admission.time.monotonic", lambda: clock[-1])
    monkeypatch.setattr(site.archive, "headers", slow)
    site.admission.tick(site.now + 0.1)
    site.admission.tick(site.now + 0.2)
    assert len(set(looked_at)) == 2
    site.archive.put(*ct_series(study="1.10", series="1.10.3"))
    site.admission.hint(Hint("local", "1.10", "1.10.3", stable=True))
    looked_at.clear()
    site.admission.tick(site.now + 0.3)
    assert looked_at[0] == "1.10"
    assert len(set(looked_at)) == 2
    site.queue.close()
