"""OHIF at `/`, and the addresses at which a study opens."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.service.viewer import viewer_link
from tests.support.servers.front_door import FrontDoor, front_door

INDEX = (
    '<!doctype html><script>one()</script><link rel="manifest" href="/manifest.json"><script src="/app.js"></script>'
)
STUDY, SERIES, SOP = "1.2.3", "1.2.3.4", "1.2.3.4.5"
APP = b"let x = 1;\n" * 500


def put_ohif(folder: Path, version: str = "3.13.2") -> Path:
    dist = folder / "dist"
    (dist / "assets").mkdir(parents=True)
    (folder / "package.json").write_text(f'{{"version": "{version}"}}')
    (dist / "index.html").write_text(INDEX)
    (dist / "app-config.js").write_text("window.config = {theirs: true}")
    (dist / "app.bundle.0123456789abcdef.js").write_bytes(APP)
    (dist / "app.bundle.0123456789abcdef.js.gz").write_bytes(gzip.compress(APP))
    (dist / "assets/a.png").write_bytes(b"\x89PNG")
    (dist / "manifest.json").write_text("{}")
    (folder / "secret.txt").write_text("outside")
    return folder


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    folder = put_ohif(tmp_path_factory.mktemp("ohif"))
    with front_door(tmp_path_factory.mktemp("state"), section={"Viewer": {"Directory": str(folder)}}) as door:
        yield door


@pytest.mark.parametrize("path", ["/", "/viewer?StudyInstanceUIDs=1.2.3", "/segmentation", "/index.html", "/local"])
def test_pages_of_ohif_get_its_index(door: FrontDoor, path: str) -> None:
    page = door.ask(path)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<link rel="manifest" crossorigin="use-credentials" href="/manifest.json">' in page.text


def test_the_index_may_run_its_own_scripts_only(door: FrontDoor) -> None:
    policy = door.ask("/viewer").headers["content-security-policy"]
    assert re.search(r"script-src 'self' 'unsafe-eval' 'sha256-[A-Za-z0-9+/]{43}='", policy)
    assert "script-src 'self' 'unsafe-inline'" not in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in door.ask("/enrichment/").headers["content-security-policy"]


def test_the_configuration_is_ours(door: FrontDoor) -> None:
    answer = door.ask("/app-config.js")
    assert "theirs" not in answer.text
    assert "qidoRoot: '/dicom-web'" in answer.text
    assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("encoding", ["gzip, br", "identity"])
def test_files_are_compressed_for_who_takes_that(door: FrontDoor, encoding: str) -> None:
    answer = door.ask("/app.bundle.0123456789abcdef.js", headers={"Accept-Encoding": encoding})
    assert answer.content == APP
    assert answer.headers.get("content-encoding") == ("gzip" if "gzip" in encoding else None)
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]


def test_a_file_that_may_change_is_asked_for_again(door: FrontDoor) -> None:
    first = door.ask("/manifest.json")
    assert first.headers["cache-control"] == "private, no-cache"
    assert door.ask("/manifest.json", headers={"If-None-Match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "path",
    ["/none.js", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/assets/..%5c..%5csecret.txt",
     "/%00.js", "/enrichment/none", "/enrichmentx", "/enrichment/static/none.css", "/dicom-webx", f"/{'a' * 5000}.js"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(door: FrontDoor, path: str) -> None:
    answer = door.ask(path)
    assert answer.status_code == 404
    assert "outside" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_viewer_is_read_only(door: FrontDoor, method: str) -> None:
    assert door.ask("/viewer", method).status_code == 405


@pytest.mark.parametrize(
    "path", ["/", "/viewer", "/app-config.js", "/app.bundle.0123456789abcdef.js", "/enrichment/open"]
)
def test_nobody_enters_without_a_login(door: FrontDoor, path: str) -> None:
    assert door.ask(path, auth=None).status_code == 401


def test_open_leads_to_study_series_and_object(door: FrontDoor) -> None:
    asked = {"StudyInstanceUID": STUDY}
    there = door.url.removeprefix("http:")
    answer = door.ask("/enrichment/open", params=asked)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{there}/viewer?StudyInstanceUIDs={STUDY}")
    asked |= {"SeriesInstanceUID": SERIES, "SOPInstanceUID": SOP}
    found = door.ask("/enrichment/open", params=asked).headers["location"]
    assert found.endswith(f"?StudyInstanceUIDs={STUDY}&initialSeriesInstanceUID={SERIES}&initialSOPInstanceUID={SOP}")


@pytest.mark.parametrize(
    "query",
    ["", "?StudyInstanceUID=", "?StudyInstanceUID=1.2/../3", "?StudyInstanceUID=x", "?Study=1.2",
     "?StudyInstanceUID=1.2&SeriesInstanceUID=%22%3E%3Cscript%3E"],
)  # fmt: skip
def test_open_takes_uids_only(door: FrontDoor, query: str) -> None:
    answer = door.ask(f"/enrichment/open{query}")
    assert answer.status_code == 400
    assert "<script>" not in answer.text


@pytest.mark.parametrize("version", ["", "3.9.3"])
def test_without_a_fitting_ohif_the_dashboard_is_home(tmp_path: Path, version: str) -> None:
    folder = put_ohif(tmp_path / "ohif", version) if version else tmp_path / "none"
    with front_door(tmp_path / "state", section={"Viewer": {"Directory": str(folder)}}) as door:
        assert door.ask("/").headers["location"] == "/enrichment/"
        for path in ("/viewer", f"/enrichment/open?StudyInstanceUID={STUDY}"):
            answer = door.ask(path)
            assert answer.status_code == 404
            assert "orthanc-enrich ohif install" in answer.text
            assert version in answer.text


def test_an_ohif_that_is_installed_later_is_found(tmp_path: Path) -> None:
    with front_door(tmp_path / "state", section={"Viewer": {"Directory": str(tmp_path / "ohif")}}) as door:
        assert door.ask("/viewer").status_code == 404
        put_ohif(tmp_path / "ohif")
        assert door.ask("/viewer").status_code == 200


@pytest.mark.parametrize(
    ("template", "link"),
    [
        ("", f"/viewer?StudyInstanceUIDs={STUDY}&initialSeriesInstanceUID={SERIES}"),
        ("https://ohif.example/viewer?StudyInstanceUIDs={StudyInstanceUID}",
         f"https://ohif.example/viewer?StudyInstanceUIDs={STUDY}"),
        ("/stone-webviewer/index.html?study={StudyInstanceUID}&series={SeriesInstanceUID}",
         f"/stone-webviewer/index.html?study={STUDY}&series={SERIES}"),
        ("weasis://%24dicom%3Ars%20--url%20%22https%3A%2F%2Fpacs%2Fdicom-web%22%20-r%20%22studyUID%3D{StudyInstanceUID}%22",
         "weasis://%24dicom%3Ars%20--url%20%22https%3A%2F%2Fpacs%2Fdicom-web%22%20-r%20%22studyUID%3D1.2.3%22"),
        ("slicer://viewer/?studyUID={StudyInstanceUID}&dicomweb_endpoint=https%3A%2F%2Fpacs%2Fdicom-web",
         f"slicer://viewer/?studyUID={STUDY}&dicomweb_endpoint=https%3A%2F%2Fpacs%2Fdicom-web"),
    ],
)  # fmt: skip
def test_other_viewers_by_a_template(template: str, link: str) -> None:
    parse_section({"Viewer": {"Url": template}}, {})
    assert viewer_link(template, STUDY, SERIES) == link


@pytest.mark.parametrize(
    "template",
    ["javascript:alert({StudyInstanceUID})", "data:text/html,{StudyInstanceUID}", "//evil.example/{StudyInstanceUID}",
     "https://viewer.example/", "https://viewer.example/{PatientID}/{StudyInstanceUID}", "viewer/{StudyInstanceUID}",
     "https://viewer.example/{StudyInstanceUID}\"onclick=x", "https://viewer.example/{{StudyInstanceUID}}",
     "https://a b/{StudyInstanceUID}"],
)  # fmt: skip
def test_what_is_no_address_of_a_viewer_stops_the_start(template: str) -> None:
    with pytest.raises(ConfigError, match=r"Viewer\.Url"):
        parse_section({"Viewer": {"Url": template}}, {})


def test_open_leads_to_another_viewer(tmp_path: Path) -> None:
    template = "https://ohif.example/viewer?StudyInstanceUIDs={StudyInstanceUID}"
    with front_door(tmp_path / "state", section={"Viewer": {"Url": template}}) as door:
        answer = door.ask(f"/enrichment/open?StudyInstanceUID={STUDY}")
        assert answer.headers["location"] == f"https://ohif.example/viewer?StudyInstanceUIDs={STUDY}"
