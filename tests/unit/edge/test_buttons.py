"""The routes behind the buttons in Orthanc Explorer: they lead to viewer and results, and ask for a new decision."""

from __future__ import annotations

import json

import pytest

from tests.support.cases.plugin_case import RECEIVED, SERIES, Load, Receiver, elsewhere
from tests.support.fakes.orthanc import ChangeType, FakeOrthanc
from tests.support.servers.orthanc_server import wait_until

STUDY_ID, SERIES_ID = "aaaaaaaa-00000000-00000000-00000000-00000001", "bbbbbbbb-00000000-00000000-00000000-00000002"
HOSTILE_UID = '1.2"><script>alert(1)</script>&x='


def put_study(orthanc: FakeOrthanc, modality: str = "CT", study_uid: str = "1.2.3") -> None:
    study = {"MainDicomTags": {"StudyInstanceUID": study_uid}, "Series": [SERIES_ID]}
    series = SERIES | {"MainDicomTags": {"Modality": modality, "SeriesInstanceUID": "1.2.3.4"}}
    orthanc.answers |= {f"/studies/{STUDY_ID}": study, "/instances/i1/metadata?expand": RECEIVED}
    orthanc.answers |= {f"/series/{SERIES_ID}": series, f"/series/{SERIES_ID}/study": study}


@pytest.mark.parametrize(
    ("path", "modality", "link"),
    [
        (f"open/studies/{STUDY_ID}", "CT", "open?StudyInstanceUID=1.2.3"),
        (f"open/series/{SERIES_ID}", "SEG", "open?StudyInstanceUID=1.2.3&amp;SeriesInstanceUID=1.2.3.4"),
        (f"results/series/{SERIES_ID}", "CT", "series/1.2.3.4"),
        (f"results/series/{SERIES_ID}", "SEG", "?study=1.2.3"),
        (f"results/studies/{STUDY_ID}", "CT", "?study=1.2.3"),
    ],
)
def test_buttons_lead_to_viewer_and_results(load: Load, path: str, modality: str, link: str) -> None:
    _, orthanc = load(Enrichment=elsewhere("https://ai.example"))
    put_study(orthanc, modality)
    assert f'content="0;url=https://ai.example/enrichment/{link}"' in orthanc.get(f"/enrichment/{path}").body


def test_a_hostile_uid_stays_text(load: Load) -> None:
    _, orthanc = load(Enrichment=elsewhere("https://ai.example"))
    put_study(orthanc, study_uid=HOSTILE_UID)
    for where in ("open", "results"):
        body = orthanc.get(f"/enrichment/{where}/studies/{STUDY_ID}").body
        assert "<script>" not in body
        assert "%22%3E%3Cscript%3E" in body


@pytest.mark.parametrize("end", ["", "x", f"patients/{STUDY_ID}", f"studies/{STUDY_ID}/..", "studies/../../system"])
def test_other_paths_have_no_route(load: Load, end: str) -> None:
    _, orthanc = load(Enrichment=elsewhere("https://ai.example"))
    assert orthanc.get(f"/enrichment/open/{end}").status == 404


def test_what_was_deleted_is_not_found(load: Load) -> None:
    _, orthanc = load(Enrichment=elsewhere("https://ai.example"))
    assert orthanc.get(f"/enrichment/open/studies/{STUDY_ID}").status == 404
    assert orthanc.get(f"/enrichment/now/studies/{STUDY_ID}", method="POST").status == 404


def test_enrich_now_hints_the_series_of_a_study_again(load: Load, receiver: Receiver) -> None:
    _, orthanc = load(Enrichment=elsewhere(receiver.url))
    put_study(orthanc)
    assert orthanc.on_change is not None
    orthanc.on_change(ChangeType.ORTHANC_STARTED, 4, "")
    answer = orthanc.get(
        f"/enrichment/now/studies/{STUDY_ID}", method="POST", headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert json.loads(answer.body) == {"asked": 1, "error": ""}
    wait_until(lambda: len(receiver.bodies) == 1)
    assert receiver.bodies[0]["again"] is True


def test_enrich_now_says_why_it_cannot(load: Load) -> None:
    _, orthanc = load(Enrichment={"Service": {"Start": False, "Url": "http://127.0.0.1:9"}})
    put_study(orthanc)
    answer = json.loads(orthanc.get(f"/enrichment/now/studies/{STUDY_ID}", method="POST").body)
    assert answer["asked"] == 0
    assert "Secret is empty" in answer["error"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET"}, 405),
        ({"headers": {"X-HTTP-Method-Override": "POST"}}, 405),
        ({"get": {"_method": "POST"}}, 405),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
        ({"headers": {"sec-fetch-site": "same-site"}}, 403),
        ({"headers": {"origin": "https://evil.example", "host": "pacs:8042"}}, 403),
        ({"headers": {"origin": "http://pacs:8042", "host": "pacs:8042"}}, 200),
        ({}, 200),
    ],
)
def test_only_a_page_of_this_orthanc_may_ask(load: Load, request_: dict[str, object], status: int) -> None:
    _, orthanc = load(Enrichment=elsewhere("http://127.0.0.1:9"))
    put_study(orthanc)
    assert orthanc.get(f"/enrichment/now/series/{SERIES_ID}", **{"method": "POST", **request_}).status == status
