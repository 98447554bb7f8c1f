"""What the plugin keeps in Orthanc's own database: from which change series count, and which index it is."""

from __future__ import annotations

import pytest

from tests.support.cases.plugin_case import Load, report, with_changes
from tests.support.fakes.orthanc import ChangeType, FakeOrthanc

BEFORE, AFTER = "20200101T000000", "29990101T000000"


@pytest.mark.parametrize(
    ("dates", "since"),
    [
        ({number: BEFORE if number <= 30 else AFTER for number in range(1, 41)}, 30),
        ({number: BEFORE if number <= 30 else AFTER for number in range(1, 700)}, 30),
        ({number: BEFORE if number <= 5000 else AFTER for number in range(1, 5601)}, 5000),
        (dict.fromkeys(range(900000, 900400), AFTER), 0),
        ({7: BEFORE, 900_000: AFTER}, 7),
    ],
)
def test_series_count_from_the_load_on_however_many_arrived_since(
    load: Load, dates: dict[int, str], since: int
) -> None:
    _, orthanc = load()
    with_changes(orthanc, dates)
    assert orthanc.on_change is not None
    orthanc.on_change(ChangeType.ORTHANC_STARTED, 0, "")
    assert report(orthanc)["changes"] == {"since": since, "read_before": False}


def test_an_orthanc_that_keeps_no_mark_has_one_until_it_stops(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(property: int, value: str) -> None:
        raise orthanc.OrthancException("read-only")

    _, orthanc = load()
    monkeypatch.setattr(orthanc, "SetGlobalProperty", refuse)
    assert orthanc.on_change is not None
    orthanc.on_change(ChangeType.ORTHANC_STARTED, 0, "")
    assert report(orthanc)["changes"] == {"since": 0, "read_before": False}
    assert any("does not keep the change" in line for line in orthanc.log)


def test_a_mark_that_could_not_be_read_is_read_with_the_next_hint(load: Load) -> None:
    plugin, orthanc = load()
    answer = orthanc.answers.pop("/changes?last")
    assert orthanc.on_change is not None
    orthanc.on_change(ChangeType.ORTHANC_STARTED, 0, "")
    assert report(orthanc)["changes"] is None
    orthanc.answers["/changes?last"] = answer
    plugin.EDGE.mark.move(0)
    assert report(orthanc)["changes"] == {"since": 0, "read_before": False}


def started(orthanc: FakeOrthanc) -> object:
    assert orthanc.on_change is not None
    orthanc.on_change(ChangeType.ORTHANC_STARTED, 0, "")
    return report(orthanc)["index"]


def test_an_index_has_one_name_for_ever_and_no_other_has_it(load: Load) -> None:
    _, orthanc = load()
    first = started(orthanc)
    _, again = load()
    again.properties = orthanc.properties
    _, other = load()
    assert (len(str(first)), started(again)) == (32, first)
    assert started(other) != first


def test_a_name_that_orthanc_does_not_keep_is_not_told(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    _, orthanc = load()
    monkeypatch.setattr(orthanc, "SetGlobalProperty", lambda property, value: None)
    assert started(orthanc) == ""
