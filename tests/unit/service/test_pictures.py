"""What the page of a job loads from the archive: pictures, radiomics, objects; and what it says without an archive."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest

from orthanc_plugin.domain.plan import Output
from orthanc_plugin.jobs.scans import Kept
from orthanc_plugin.results.sr.landmarks import read_landmarks_sr
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from orthanc_plugin.service.job_page import _levels
from tests.support.cases.shown_job import ShownJob, shown_job

PART = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShownJob]:
    with shown_job(tmp_path_factory.mktemp("state")) as shown:
        yield shown


@pytest.fixture
def away(shown: ShownJob) -> Iterator[ShownJob]:
    shown.archive.away = True
    yield shown
    shown.archive.away = False


def cells(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", page, re.DOTALL)
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.split(r"</td><td[^>]*>", row)] for row in rows]


class TestPictures:
    def test_the_api_says_what_can_be_drawn_and_draws_it(self, shown: ShownJob) -> None:
        scan = shown.client.get(f"{shown.api}/scan").json()
        assert [(plane["name"], plane["count"]) for plane in scan["planes"]] == [
            ("axial", 12), ("coronal", 32), ("sagittal", 32),
        ]  # fmt: skip
        assert {structure["label"] for structure in scan["structures"]} >= {"Left lung", "Right lung"}
        for window in scan["windows"]:
            png = shown.client.get(f"{shown.api}/slices/coronal/16.png?window={window}")
            assert (png.headers["content-type"], png.content[:4]) == ("image/png", b"\x89PNG")

    def test_hiding_structures_changes_the_picture(self, shown: ShownJob) -> None:
        hidden = ",".join(s["key"] for s in shown.client.get(f"{shown.api}/scan").json()["structures"])
        plain, outlined, none = (
            shown.client.get(f"{shown.api}/slices/axial/5.png?{query}").content
            for query in ("outlines=no", "", f"hide={hidden}")
        )
        assert plain != outlined
        assert len(none) < len(outlined)

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("slices/axial/12.png", 404),
            ("slices/oblique/1.png", 404),
            ("slices/axial/-1.png", 404),
            ("slices/axial/1.png?window=x", 400),
            ("slices/axial/1.png?outlines=maybe", 400),
            ("slices/axial/1.png?zoom=2", 400),
        ],
    )
    def test_what_cannot_be_drawn_is_said(self, shown: ShownJob, path: str, status: int) -> None:
        assert shown.client.get(f"{shown.api}/{path}").status_code == status

    def test_the_part_has_sliders_legend_and_letters(self, shown: ShownJob) -> None:
        part = shown.client.get(f"{shown.page}/pictures", headers=PART).text
        assert "<html" not in part
        assert part.count('type="range"') == 3
        assert part.count('name="structure"') == 4
        assert re.findall(r'class="edge \w+" aria-hidden="true">(\w)<', part) == [*"RLAP", *"RLHF", *"APHF"]
        assert "<h1>Pictures</h1>" in shown.client.get(f"{shown.page}/pictures").text

    def test_landmarks_of_masks_stand_at_their_height_beside_the_coronal_picture(self, shown: ShownJob) -> None:
        stored = next(o for o in shown.queue.show(shown.id).objects if o.kind is Output.LANDMARKS)
        report = shown.archive.find(stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid)
        assert report is not None
        found = dict(read_landmarks_sr(report))
        axial = shown.scans.scan(shown.id).planes[0]
        assert {*found} <= {"lung bottom", "lung top"} != set()
        part = shown.client.get(f"{shown.page}/pictures", headers=PART).text
        marks = re.findall(r'y1="([\d.]+)%" y2="\1%"/>\s*<line[^>]*>\s*<text class="level of-mask"[^>]*>([^<]+)<', part)
        assert {name: float(at) for at, name in marks} == {
            name: round(100 * (1 - (axial.at_mm.index(round(z_mm, 2)) + 0.5) / axial.count), 3)
            for name, z_mm in found.items()
        }

    def test_a_scan_is_read_once_and_again_when_it_has_changed(self, shown: ShownJob) -> None:
        first = shown.scans.scan(shown.id)
        asked = shown.archive.asked
        assert shown.scans.scan(shown.id) is first
        assert shown.archive.asked == asked


class TestLevels:
    def test_the_number_of_the_model_follows_what_several_found(self, shown: ShownJob) -> None:
        scan = shown.scans.scan(shown.id)
        found = (("lung top", "a", 10.0), ("lung bottom", "a", -20.0), ("lung top", "b", 5.0))
        levels = _levels(scan, None, found)
        assert levels["of_masks"] == {"lung top 1", "lung bottom", "lung top 2"}
        assert levels["models_of_masks"] == ("a", "b")
        for nothing_twice in (found[:2], found[1:]):
            assert _levels(scan, None, nothing_twice)["models_of_masks"] == ()


class TestRadiomics:
    def test_each_value_is_that_of_the_report(self, shown: ShownJob) -> None:
        stored = (o for o in shown.queue.show(shown.id).objects if o.kind is Output.RADIOMICS)
        reports = [shown.archive.find(o.study_instance_uid, o.series_instance_uid, o.sop_instance_uid) for o in stored]
        rows = [row for report in reports if report is not None for row in read_radiomics_sr(report)]
        page, shown_rows = 1, list[list[str]]()
        while found := cells(shown.client.get(f"{shown.page}/radiomics?page={page}", headers=PART).text):
            if found[0] in shown_rows:
                break
            shown_rows += found
            page += 1
        assert rows
        expected = [
            [r.label, r.meaning, str(r.value), r.unit, r.image, f"{r.scheme} {r.code}", r.feature] for r in rows
        ]
        assert shown_rows == expected
        assert [float(row[2]) for row in shown_rows] == [row.value for row in rows]

    def test_a_search_finds_words_anywhere_in_a_row(self, shown: ShownJob) -> None:
        found = cells(shown.client.get(f"{shown.page}/radiomics?text=left lung entropy", headers=PART).text)
        assert found
        assert all("Left lung" in row[0] and "ntropy" in " ".join(row) for row in found)
        only = cells(shown.client.get(f"{shown.page}/radiomics?text=RNU0&structure=Right lung", headers=PART).text)
        assert [row[:2] for row in only] == [["Right lung", "Volume of Mesh"]]
        assert "No value matches." in shown.client.get(f"{shown.page}/radiomics?text=nonsense", headers=PART).text

    def test_columns_sort_both_ways_and_numbers_as_numbers(self, shown: ShownJob) -> None:
        for sort, reverse in (("value", False), ("-value", True)):
            found = cells(
                shown.client.get(f"{shown.page}/radiomics?sort={sort}&structure=Left lung", headers=PART).text
            )
            values = [float(row[2]) for row in found]
            assert values == sorted(values, reverse=reverse)
        assert shown.client.get(f"{shown.page}/radiomics?sort=colour").status_code == 400
        assert shown.client.get(f"{shown.page}/radiomics?page=0").status_code == 400


class TestObjects:
    def test_objects_say_who_made_them(self, shown: ShownJob) -> None:
        part = shown.client.get(f"{shown.page}/objects", headers=PART).text
        assert "Segments" in part
        assert "orthanc-enrichment" in part
        assert "model_sha256" in part

    def test_objects_are_listed_without_the_archive_too(self, away: ShownJob) -> None:
        part = away.client.get(f"{away.page}/objects", headers=PART).text
        stored = away.queue.show(away.id).objects
        assert stored
        assert all(item.sop_instance_uid in part for item in stored)
        assert "do not need it" in part


class TestPage:
    def test_the_page_names_volumes_checks_provenance_objects_and_history(self, shown: ShownJob) -> None:
        page = shown.client.get(shown.page).text
        for text in ("Left lung", "Volumes", "Quality checks", "Provenance", "Stored objects", "History", "this page"):
            assert text in page, text
        assert page.count('hx-trigger="load"') == 2
        assert "radiomics: bin width hu" in page
        assert "/enrichment/open?StudyInstanceUID=2.25.100&amp;SeriesInstanceUID=2.25.200" in page

    def test_the_newest_decision_on_a_series_has_the_page(self, shown: ShownJob) -> None:
        assert shown.client.get("/enrichment/series/2.25.200").text == shown.client.get(shown.page).text
        assert shown.client.get("/enrichment/series/2.25.200?archive=far").status_code == 404

    @pytest.mark.parametrize("part", ["pictures", "radiomics", "objects", "corrections"])
    def test_an_archive_that_is_away_takes_away_its_parts_only(self, away: ShownJob, part: str) -> None:
        away.scans._scans._values.clear()
        answer = away.client.get(f"{away.page}/{part}", headers=PART)
        if part != "radiomics":  # its numbers are kept for a while
            assert "archive local is away. The other parts of this page do not need it." in answer.text
        assert answer.status_code == 200
        assert "Left lung" in away.client.get(away.page).text

    def test_the_api_says_that_an_archive_is_away(self, away: ShownJob) -> None:
        away.scans._scans._values.clear()
        away.scans._pictures._values.clear()
        assert away.client.get(f"{away.api}/scan").status_code == 503
        assert away.client.get(f"{away.api}/slices/axial/1.png").status_code == 503


def test_kept_values_are_bounded_and_the_newest_stays() -> None:
    kept: Kept[str, bytes] = Kept(10, len)
    for key in "abc":
        kept.put(key, b"four")
        kept.get("a")
    assert [kept.get(key) is not None for key in "abc"] == [True, False, True]
    kept.put("large", bytes(100))
    assert [kept.get(key) is not None for key in ("a", "large")] == [False, True]
