"""The rule tester: what rules say of series and files, and what a copy of the rules would change; nothing is stored."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.config.rule import DEFAULT_RULE, Rule
from orthanc_plugin.errors import TransientError
from orthanc_plugin.jobs.comparison import Comparer, Comparison
from orthanc_plugin.jobs.inspector import Inspector, Place
from orthanc_plugin.rules.tags import SeriesTags, series_tags
from orthanc_plugin.service.rule_tester import rules_text
from tests.support.fakes.memory_archive import MemoryArchive, ct_series
from tests.support.servers.front_door import FrontDoor, enqueue, front_door, skipped
from tests.support.servers.orthanc_server import wait_until

API = "/enrichment/api/v1"


@pytest.fixture(scope="module")
def archive() -> MemoryArchive:
    archive = MemoryArchive()
    archive.put(*ct_series(study="1.2.3"), *ct_series(5, series="1.2.5", study="1.2.3"))
    return archive


@pytest.fixture
def door(tmp_path: Path, archive: MemoryArchive, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrontDoor]:
    made = Inspector.__init__

    def with_archive(self: Inspector, configuration: object) -> None:
        made(self, configuration, lambda name, settings: archive)  # type: ignore[arg-type]

    monkeypatch.setattr(Inspector, "__init__", with_archive)
    monkeypatch.setattr(Inspector, "_known", lambda *_: None)
    with front_door(tmp_path) as door:
        yield door


def framed(*contents: bytes) -> bytes:
    return b"".join(len(content).to_bytes(4, "little") + content for content in contents)


def written(ds: Dataset) -> bytes:
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_a_series_shows_what_each_rule_wants_and_what_was_found(door: FrontDoor) -> None:
    taken = door.ask("/enrichment/rules/verdicts?study=1.2.3&series=1.2.3").text
    assert "takes the series: all criteria are met" in taken
    assert "retrieve, segment chest_structures" in taken.replace("locate bpr, ", "")
    refused = door.ask("/enrichment/rules/verdicts?study=1.2.3&series=1.2.5").text
    assert "<td>Slices</td><td>5</td><td>20 or more</td>" in refused
    assert "stages" not in refused
    assert "the archive has no such series" in door.ask("/enrichment/rules/verdicts?study=1.2.3&series=1.9").text
    assert '<p class="bad">' in door.ask("/enrichment/rules/verdicts?study=x&series=y").text


def test_dropped_files_are_judged_by_their_headers_alone(door: FrontDoor) -> None:
    files = [written(ds)[:900] for ds in ct_series()]
    shown = door.ask("/enrichment/rules/files", "POST", content=framed(*files, b"no DICOM")).text
    assert "1 file is not DICOM" in shown
    assert "20 files" in shown
    assert "takes the series" in shown


@pytest.mark.parametrize("body", [b"\xff\xff\xff\x7fabc", b"\x01"])
def test_a_body_that_is_cut_off_is_refused(door: FrontDoor, body: bytes) -> None:
    assert door.ask("/enrichment/rules/files", "POST", content=body).status_code == 400


def test_no_files_are_no_error(door: FrontDoor) -> None:
    assert "no DICOM series" in door.ask("/enrichment/rules/files", "POST", content=b"").text


def test_a_copy_of_the_rules_is_compared_and_nothing_is_changed(door: FrontDoor) -> None:
    enqueue(door.queue, "1.2.3")
    door.queue.enqueue(skipped("1.2.5"))
    door.queue.enqueue(skipped("1.2.99"))
    before = door.queue.ledger.decisions()
    copy = [{"Name": "short", "Match": {"Slices": {"Min": 3}}}]
    assert door.ask(f"{API}/rules/compare", "POST", json={"rules": copy}).status_code == 202

    def done() -> dict[str, object] | None:
        state: dict[str, object] = door.ask(f"{API}/rules/compare").json()
        return state if state["looked_at"] == state["total"] else None

    state = wait_until(done, 60, "the end of the comparison")
    assert state is not None
    assert (state["total"], state["unreadable"]) == (3, 1)
    assert dict(state["before"]) == {"rule default": 1, "too few slices": 1}  # type: ignore[call-overload]
    assert dict(state["after"]) == {"rule short": 2}  # type: ignore[call-overload]
    page = door.ask("/enrichment/rules/comparison").text
    assert "2 would change" in page
    assert "<td>too few slices</td><td>rule short</td>" in page
    assert door.queue.ledger.decisions() == before
    assert "<h1>Rule tester</h1>" in door.ask("/enrichment/rules").text


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([{"Name": "a", "Match": {"Slics": {}}}], "Slics"),
        ([{"Name": "a", "Models": ["nowhere"]}], "nowhere"),
        ([{"Name": "a", "Match": {"Slices": {"Min": 5, "Max": 2}}}], "Min must not be above Max"),
    ],
)
def test_a_copy_that_cannot_be_is_refused_with_the_reason(door: FrontDoor, rules: list[object], said: str) -> None:
    answer = door.ask(f"{API}/rules/compare", "POST", json={"rules": rules})
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (400, True), answer.text


def test_the_copy_begins_as_the_rules_in_use() -> None:
    rule = Rule.model_validate({"Name": "chest", "Match": {"BodyPartExamined": ["CHEST"]}, "Radiomics": False})
    assert [Rule.model_validate(one) for one in json.loads(rules_text([rule, DEFAULT_RULE]))] == [rule, DEFAULT_RULE]


def test_the_headers_of_a_series_are_read_once_for_several_copies() -> None:
    asked: list[str] = []

    def tags_of(place: Place) -> SeriesTags:
        asked.append(place.series_instance_uid)
        if place.series_instance_uid == "1.2.9":
            raise TransientError("away")
        return series_tags(ct_series(), None, archive="local", today=date(2026, 1, 2))

    rows = [skipped("1.2.3"), skipped("1.2.9")]
    comparer = Comparer(tags_of, (DEFAULT_RULE,), ())
    assert comparer.state() is None
    for _ in range(2):
        comparer.start(rows, (DEFAULT_RULE,))
        wait_until(lambda: (state := comparer.state()) is not None and state.looked_at == state.total, 30, "the end")
    state = comparer.state()
    assert isinstance(state, Comparison)
    assert (sorted(asked), state.differences, state.unreadable) == (["1.2.3", "1.2.9", "1.2.9"], (), 1)
