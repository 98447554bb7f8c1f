"""The page of a job: its score curve as a picture, in words and as tables; and no picture without scores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from orthanc_plugin.domain.body import BodyLandmark, Region
from orthanc_plugin.service.score_plot import LEFT, RIGHT, WIDTH, ScorePlot, plot_scores, runs
from tests.support.cases.location_case import CHEST, NOWHERE
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        yield door


def plotted(location: object = CHEST) -> ScorePlot:
    plot = plot_scores(location)  # type: ignore[arg-type]
    assert plot is not None
    return plot


def picture(page: str) -> ElementTree.Element:
    found = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert found
    return ElementTree.fromstring(found[0])


class TestPlot:
    def test_curve_breaks_where_a_slice_has_no_score(self) -> None:
        scores = (None, 50.0, 51.0, None, None, 60.0, 61.0)
        plot = plotted(replace(CHEST, scores=scores, landmarks=(), regions={}))
        assert plot.curve.count("M") == 2
        assert plot.curve.count("L") == 2

    def test_scores_rise_upward_and_slices_to_the_right(self) -> None:
        points = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", plotted().curve)]
        assert points == sorted(points)
        heights = [y for _, y in points]
        assert heights == sorted(heights, reverse=True)
        assert all(LEFT <= x <= WIDTH - RIGHT and 92 <= y <= 392 for x, y in points)

    def test_landmarks_lie_on_the_curve_between_their_slices(self) -> None:
        th12, th8 = plotted().marks
        assert (th12.key, th8.key) == ("Th12", "Th8")
        places = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", plotted().curve)]
        (left, low), (right, high) = places[4], places[5]  # z -25+... slice 5 lies at 25 mm, slice 6 at 50 mm
        assert left < th8.x < right
        assert (th8.x - left) / (right - left) == pytest.approx((31.2 - 25) / 25, abs=0.01)
        assert high < th8.y < low

    def test_labels_of_close_landmarks_stand_apart_and_on_the_canvas(self) -> None:
        crowd = tuple(BodyLandmark(f"L{index}", 10, 150.0 + index / 10, 5.0) for index in range(20))
        marks = plotted(replace(CHEST, landmarks=crowd)).marks
        labels = [mark.label_x for mark in marks]
        assert all(later - earlier > 12.8 for earlier, later in pairwise(labels))
        assert max(labels) <= WIDTH - RIGHT

    def test_regions_are_lanes_from_head_to_legs_with_their_gaps(self) -> None:
        regions = {Region.ABDOMEN: (0, 1), Region.CHEST: (2, 3, 6, 7)}
        lanes = plotted(replace(CHEST, regions=regions)).lanes
        assert [(lane.region, [(b.first, b.last) for b in lane.bands]) for lane in lanes] == [
            (Region.CHEST, [(2, 3), (6, 7)]),
            (Region.ABDOMEN, [(0, 1)]),
        ]
        assert runs(()) == []

    def test_axes_have_few_round_numbers(self) -> None:
        many = replace(CHEST, scores=tuple(float(i % 90) for i in range(1234)), landmarks=(), regions={})
        for ticks in (plotted(many).slice_ticks, plotted(many).score_ticks, plotted().score_ticks):
            assert 3 <= len(ticks) <= 14

    def test_one_slice_and_equal_scores_are_drawn(self) -> None:
        one = replace(CHEST, raw_scores=(50.0,), scores=(50.0,), z_mm=(0.0,), landmarks=(), regions={})
        assert plotted(one).curve.startswith("M")

    def test_without_any_score_there_is_no_picture(self) -> None:
        assert plot_scores(replace(NOWHERE, raw_scores=(None,) * 3)) is None
        assert plot_scores(replace(NOWHERE, raw_scores=(), scores=(), z_mm=())) is None

    def test_words_say_what_the_picture_shows(self) -> None:
        assert plotted().text == (
            "Scores of 12 slices from the feet to the head, between 43 and 74. Landmarks: Th12 at slice 2, Th8 at slice"
            " 6. Regions: abdomen in slices 2 to 6, chest in slices 2 to 12."
        )


class TestPage:
    def test_dashboard_leads_to_a_picture_with_words_and_tables(self, door: FrontDoor) -> None:
        job_id = enqueue(door.queue, "1.2.100")
        finish(door.queue, job_id, location=CHEST)
        assert f'href="/enrichment/jobs/{job_id}"' in door.ask("/enrichment/").text
        answer = door.ask(f"/enrichment/jobs/{job_id}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        svg = picture(answer.text)
        assert svg.get("role") == "img"
        named = {element.get("id"): element.text for element in svg if element.tag in ("title", "desc")}
        assert [*named] == (svg.get("aria-labelledby") or "").split()
        assert "Th12 at slice 2" in (named["plot-text"] or "")
        assert [text.text for text in svg.iter("text") if text.get("class") == "landmark"] == ["Th12", "Th8"]
        assert len([rect for rect in svg.iter("rect") if (rect.get("class") or "").startswith("region")]) == 2
        assert "<td>Th8</td><td>6</td><td>31.2</td><td>20.0</td>" in answer.text
        assert "<td>0.97</td>" in answer.text

    def test_without_a_valid_region_the_reason_stands_there_and_nothing_else(self, door: FrontDoor) -> None:
        job_id = enqueue(door.queue, "1.2.101")
        finish(door.queue, job_id, location=NOWHERE)
        page = door.ask(f"/enrichment/jobs/{job_id}").text
        assert f"No valid region: {NOWHERE.reason}." in page
        assert "Landmarks</h2>" not in page
        assert "Regions</h2>" not in page

    def test_a_job_that_located_nothing_has_a_page(self, door: FrontDoor) -> None:
        job_id = enqueue(door.queue, "1.2.102")
        finish(door.queue, job_id)
        assert "No body part regression ran" in door.ask(f"/enrichment/jobs/{job_id}").text

    def test_an_unknown_job_is_not_found(self, door: FrontDoor) -> None:
        assert door.ask("/enrichment/jobs/none").status_code == 404

    def test_hostile_text_stays_text(self, door: FrontDoor) -> None:
        job_id = enqueue(door.queue, "1.2.103", rule=HOSTILE)
        landmark = BodyLandmark(HOSTILE, 3, -25.0, 1.0)
        finish(door.queue, job_id, location=replace(CHEST, landmarks=(landmark,), tag=HOSTILE, notes=(HOSTILE,)))
        page = door.ask(f"/enrichment/jobs/{job_id}").text
        assert page.count("&lt;script&gt;alert(1)") >= 5
        assert "<script>" not in page

    def test_page_needs_nothing_from_outside_and_no_inline_code(self, door: FrontDoor) -> None:
        job_id = enqueue(door.queue, "1.2.104")
        finish(door.queue, job_id, location=CHEST)
        page = door.ask(f"/enrichment/jobs/{job_id}").text
        assert all(link.startswith(("/", "#")) for link in re.findall(r'(?:src|href)="([^"]*)"', page))
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", page)
