"""The API shows what would be done with a series of an archive: steps, rules, figures and a picture."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.input_quality import InputCheck
from orthanc_plugin.jobs.inspector import Inspector
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.service.inspecting import InspectRoutes
from orthanc_plugin.service.routes import http_problem
from orthanc_plugin.service.schema_inspected import Inspected
from tests.support.cases.four_series import BEST_RULE, STUDY, STUDY_SERIES, four_series_of
from tests.support.fakes.memory_archive import MemoryArchive
from tests.support.servers.asgi_server import serving

Ask = Callable[..., httpx.Response]


class Opened(MemoryArchive):
    """An archive that can be closed; it holds up a retrieval while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.asked_for = threading.Event(), threading.Event()
        self.open.set()

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        self.asked_for.set()
        assert self.open.wait(30)
        return super().retrieve(study_uid, series_uid)

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def asking(archive: Opened, *rules: dict[str, object]) -> Iterator[Ask]:
    """Ask the routes by the UIDs of a series."""
    section = {"Archives": {"local": {"Url": "http://127.0.0.1:1/dicom-web"}}, "Rules": list(rules)}
    inspector = Inspector(parse_section(section, {}), lambda name, settings: archive)
    app = Starlette(routes=InspectRoutes(inspector).routes(""), exception_handlers={HTTPException: http_problem})
    with serving(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:

        def ask(study: str, series: str, path: str = "/inspect") -> httpx.Response:
            return client.get(path, params={"study_instance_uid": study, "series_instance_uid": series})

        yield ask


@pytest.fixture(scope="module")
def scan() -> list[Dataset]:
    return [*encode_phantom(make_phantom((40, 64, 64), spacing_mm=(4.0, 4.0, 4.0)))]


@pytest.fixture
def archive(scan: list[Dataset]) -> Opened:
    made = Opened()
    made.put(*scan)
    return made


def uids(scan: list[Dataset]) -> tuple[str, str]:
    return str(scan[0].StudyInstanceUID), str(scan[0].SeriesInstanceUID)


def test_steps_rules_and_figures_of_a_series_are_told(archive: Opened, scan: list[Dataset]) -> None:
    with asking(archive, {"Name": "legs", "Match": {"BodyPartExamined": ["LEG"]}}, {"Name": "rest"}) as ask:
        told = Inspected.model_validate_json(ask(*uids(scan)).content)
    assert (told.would, told.reason, told.rule) == ("enrich", "", "rest")
    assert [step.step for step in told.steps] == ["headers", "rules", "identity", "pixels", "input-quality"]
    assert [(rule.rule, rule.matches, bool(rule.reasons)) for rule in told.rules] == [
        ("legs", False, True),
        ("rest", True, False),
    ]
    assert {figure.check for figure in told.figures} == {*InputCheck} - {InputCheck.CONTRAST, InputCheck.BODY_PART}
    assert archive.rows == [archive.rows[0]] * len(scan)  # nothing was stored


def test_the_picture_shows_the_middle_slice(archive: Opened, scan: list[Dataset]) -> None:
    with asking(archive, {"Name": "all"}) as ask:
        answer = ask(*uids(scan), "/inspect/picture.png")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)


def test_a_series_that_is_refused_says_why_and_has_no_picture(archive: Opened, scan: list[Dataset]) -> None:
    broken = [*encode_phantom(make_phantom((40, 64, 64), spacing_mm=(4.0, 4.0, 4.0)), uid_seed="broken")]
    del broken[20]
    archive.put(*broken)
    with asking(archive, {"Name": "all", "Match": {"Spacing": None}}) as ask:
        told = Inspected.model_validate_json(ask(*uids(broken)).content)
        picture = ask(*uids(broken), "/inspect/picture.png")
    assert (told.would, told.reason) == ("skip", "missing-slice")
    assert [step.state for step in told.steps][-2:] == ["refused", "not-asked"]
    assert (picture.status_code, "missing-slice" in picture.json()["error"]["message"]) == (404, True)


def test_a_series_that_is_not_the_best_of_its_study_is_told_from_the_best() -> None:
    archive = Opened()
    for series in four_series_of(make_phantom((56, 64, 64), spacing_mm=(3.0, 3.2, 3.2))).values():
        archive.put(*series)
    with asking(archive, BEST_RULE) as ask:
        told = {
            name: Inspected.model_validate_json(ask(STUDY, STUDY_SERIES[name]).content)
            for name in ("soft-thin", "thick")
        }
    assert (told["soft-thin"].would, told["thick"].reason) == ("enrich", "better-series")


def test_an_unknown_series_and_an_archive_that_is_away(archive: Opened, scan: list[Dataset]) -> None:
    with asking(archive, {"Name": "all"}) as ask:
        assert ask("1.2.3", "1.2.4").status_code == 404
        archive.away = True
        assert ask(*uids(scan)).status_code == 503


def test_one_series_is_inspected_at_a_time(archive: Opened, scan: list[Dataset]) -> None:
    answers: list[int] = []
    archive.open.clear()
    with asking(archive, {"Name": "all"}) as ask:
        first = threading.Thread(target=lambda: answers.append(ask(*uids(scan)).status_code))
        first.start()
        assert archive.asked_for.wait(30)
        second = ask(*uids(scan))
        archive.open.set()
        first.join(60)
    assert (second.status_code, answers) == (503, [200])
