"""The result page shows what people made of the segmentations, beside the result of the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cases.expert_case import by_ohif, drawn_seg, ellipsoid
from tests.support.cases.results_case import LUNG_LEFT, LUNG_RIGHT, ellipsoids
from tests.support.cases.shown_job import ShownJob, shown_job
from tests.support.fakes.hand_job import SERIES


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[ShownJob]:
    with shown_job(tmp_path) as job:
        yield job


def corrections(shown: ShownJob) -> str:
    answer = shown.client.get(f"{shown.page}/corrections", headers={"hx-request": "true"})
    assert answer.status_code == 200
    return answer.text


def test_an_edit_stands_beside_the_result_and_changes_nothing_of_it(shown: ShownJob) -> None:
    assert f'hx-get="{shown.page}/corrections"' in shown.client.get(shown.page).text
    assert "Nobody has stored a correction" in corrections(shown)
    before = dict(shown.archive.instances.items())
    found = ellipsoids(SERIES)
    masks = {label.key: found.labels == label.number for label in (LUNG_LEFT, LUNG_RIGHT)}
    masks["lung_left"][8:] = False
    edit = by_ohif(SERIES, masks)
    shown.archive.put(edit)
    part = corrections(shown)
    assert "OHIF Editor" in part
    assert "Lung_L" in part
    assert '<td class="number">1.000</td>' in part
    assert corrections(shown) == part
    assert {key: shown.archive.instances[key] for key in before} == before
    assert len(shown.archive.instances) == len(before) + 1


def test_what_others_drew_is_counted_and_an_archive_that_is_away_is_said(shown: ShownJob) -> None:
    shown.archive.put(drawn_seg(SERIES, {"Left lung": ellipsoid(SERIES, (0.05, 0, 0.48), (0.68, 0.52, 0.31))}))
    assert "1 more objects of this series were drawn independently" in corrections(shown)
    shown.archive.away = True
    assert 'class="bad"' in corrections(shown)


def test_text_of_others_is_escaped(shown: ShownJob) -> None:
    found = ellipsoids(SERIES)
    hostile = drawn_seg(SERIES, {"<script>alert(1)</script>": found.labels == LUNG_LEFT.number}, maker="<b>bold</b>")
    shown.archive.put(hostile)
    part = corrections(shown)
    assert "&lt;script&gt;" in part
    assert "<script" not in part
    assert "<b>" not in part
