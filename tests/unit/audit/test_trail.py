"""The audit log: whatever is changed, removed, moved or cut off shows, and what is old can go."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from orthanc_plugin.audit.event import Event, Outcome, What
from orthanc_plugin.audit.trail import Head, Trail

START = datetime(2026, 1, 30, 12, tzinfo=UTC)
KEY = "k" * 24


def event(number: int, **more: object) -> Event:
    return Event(START + timedelta(hours=12 * number), What.VIEW, f"user{number}", series=(f"1.2.{number}",), **more)  # type: ignore[arg-type]


@pytest.fixture(params=["", KEY], ids=["plain", "keyed"])
def trail(tmp_path: Path, request: pytest.FixtureRequest) -> Trail:
    """Eight lines over two months."""
    trail = Trail(tmp_path, request.param)
    for number in range(8):
        trail.append(event(number))
    return trail


def lines(trail: Trail) -> list[tuple[Path, str]]:
    return [(file, line) for file in trail.files() for line in file.read_text().splitlines()]


def write(trail: Trail, content: list[tuple[Path, str]]) -> None:
    for file in trail.files():
        file.write_text("".join(f"{line}\n" for at, line in content if at == file))


def test_an_untouched_log_is_good_and_reads_back(trail: Trail) -> None:
    verdict = trail.verify()
    assert (verdict.entries, verdict.head.number, verdict.problems) == (8, 8, ())
    assert [entry.event.who for entry in trail.entries()] == [f"user{number}" for number in range(8)]
    assert [entry.head.number for entry in trail.entries(after=5)] == [6, 7, 8]
    assert [file.name for file in trail.files()] == ["audit-2026-01.log", "audit-2026-02.log"]
    assert {file.stat().st_mode & 0o777 for file in trail.files()} == {0o600}


def test_an_empty_log_is_good(tmp_path: Path) -> None:
    assert Trail(tmp_path).verify().problems == ()
    assert Trail(tmp_path).verify(Head(3, "a" * 64)).problems != ()


Change = Callable[[list[tuple[Path, str]]], None]


def _changed(content: list[tuple[Path, str]]) -> None:
    content[3] = (content[3][0], content[3][1].replace("user3", "user9"))


def _removed(content: list[tuple[Path, str]]) -> None:
    del content[4]


def _first_removed(content: list[tuple[Path, str]]) -> None:
    del content[0]


def _moved(content: list[tuple[Path, str]]) -> None:
    content[4], content[5] = content[5], content[4]


def _cut_off(content: list[tuple[Path, str]]) -> None:
    del content[-2:]


def _all_gone(content: list[tuple[Path, str]]) -> None:
    content.clear()


def _added(content: list[tuple[Path, str]]) -> None:
    content.append((content[-1][0], content[-1][1]))


def _half(content: list[tuple[Path, str]]) -> None:
    content[-1] = (content[-1][0], content[-1][1][:40])


def _field_added(content: list[tuple[Path, str]]) -> None:
    record = json.loads(content[2][1]) | {"note": "harmless"}
    content[2] = (content[2][0], json.dumps(record))


@pytest.mark.parametrize(
    "change", [_changed, _removed, _first_removed, _moved, _cut_off, _all_gone, _added, _half, _field_added]
)
def test_what_somebody_changes_shows(trail: Trail, change: Change) -> None:
    content = lines(trail)
    change(content)
    write(trail, content)
    assert trail.verify().problems != ()


def test_a_file_that_is_removed_shows(trail: Trail) -> None:
    trail.files()[0].unlink()
    assert trail.verify().problems != ()


def test_a_head_that_is_removed_or_set_back_shows(trail: Trail, tmp_path: Path) -> None:
    head = tmp_path / "audit.head"
    head.unlink()
    assert trail.verify().problems == ("audit.head is missing: lines at the end may be, too",)


def _forged(trail: Trail, tmp_path: Path) -> None:
    """Cut two lines off and write the head that fits, as somebody who can write the folder would."""
    content = lines(trail)
    last = json.loads(content[-3][1])
    write(trail, content[:-2])
    head = tmp_path / "audit.head"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"last": [last["n"], last["digest"]]}))


def test_a_head_kept_elsewhere_shows_even_a_forged_one(trail: Trail, tmp_path: Path) -> None:
    known, early = trail.verify().head, Head(2, json.loads(lines(trail)[1][1])["digest"])
    _forged(trail, tmp_path)
    assert trail.verify().problems == ()
    assert trail.verify(early).problems == ()
    assert trail.verify(known).problems == (f"line {known.number}, which was known, is missing",)
    assert "is not the line that was known" in trail.verify(Head(2, "a" * 64)).problems[0]


def test_nobody_rewrites_a_keyed_log_without_the_key(tmp_path: Path) -> None:
    Trail(tmp_path, KEY).append(event(0), event(1))
    Trail(tmp_path, "").append(event(2))
    assert len(Trail(tmp_path, KEY).verify().problems) == 1
    assert len(Trail(tmp_path, "x" * 24).verify().problems) == 3


def test_a_crash_between_line_and_head_loses_nothing(trail: Trail, tmp_path: Path) -> None:
    head = tmp_path / "audit.head"
    before = head.read_text()
    trail.append(event(8))
    head.write_text(before)
    assert "its head is line 8" in trail.verify().problems[0]
    trail.append(event(9))
    assert trail.verify().problems == ()
    assert trail.verify().entries == 10


def test_many_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [Trail(tmp_path).append(event(n)) for _ in range(10)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = Trail(tmp_path).verify()
    assert (verdict.entries, verdict.problems) == (40, ())


def test_old_months_go_and_the_rest_can_still_be_checked(trail: Trail) -> None:
    assert trail.forget_before(date(2026, 1, 31)) == 0
    assert trail.forget_before(date(2026, 2, 1)) == 1
    verdict = trail.verify()
    assert (verdict.problems, verdict.head.number) == ((), 8)
    assert 0 < verdict.entries < 8
    trail.append(event(9))
    assert trail.verify().problems == ()
    trail.files()[0].write_text("")
    assert trail.verify().problems != ()


def test_odd_texts_stay_what_they_are(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    odd = event(0, detail='"\n\u2028\x00 {"n":1}', outcome=Outcome.FAILURE, study="1.2")
    trail.append(odd)
    assert next(trail.entries()).event == odd
    assert trail.verify().problems == ()
