"""The client: pages, filters, errors, and the example of its page."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.service import client
from orthanc_plugin.service.client import ApiError, Client
from tests.support.cases.realct import ROOT
from tests.support.servers.asgi_server import serving
from tests.support.servers.front_door import PASSWORD, USER, FrontDoor, enqueue, finish, front_door, skipped
from tests.support.servers.tls import Authority, tls_front


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        for number in range(7):
            finish(door.queue, enqueue(door.queue, f"1.2.{number}"))
        finish(door.queue, enqueue(door.queue, "1.2.100"), JobState.FAILED, detail="refused")
        door.queue.enqueue(skipped("1.2.200"))
        yield door


@pytest.fixture
def asked(door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(client, "_PAGE", 3)
    with Client(door.url, USER, PASSWORD) as asked:
        yield asked


def test_rows_of_all_pages_come_once_and_newest_first(asked: Client) -> None:
    assert [row["series_instance_uid"] for row in asked.series()] == [
        "1.2.200", "1.2.100", *(f"1.2.{number}" for number in reversed(range(7))),
    ]  # fmt: skip
    assert len({job["id"] for job in asked.jobs()}) == 8
    assert [row["reason"] for row in asked.series(state="skipped")] == ["too-few-slices"]


def test_volumes_are_those_of_jobs_that_are_done(asked: Client) -> None:
    rows = list(asked.volumes())
    assert len(rows) == 7
    assert rows[0] == {
        "study_instance_uid": "1.2.3", "series_instance_uid": "1.2.6", "archive": "local", "rule": "default",
        "job": rows[0]["job"], "model": "chest_structures", "structure": "lung_left", "volume_ml": 2171.6,
    }  # fmt: skip
    assert asked.job(rows[0]["job"])["state"] == "done"
    assert asked.radiomics(rows[0]["job"]) == []


def test_acts_reach_the_service(asked: Client, door: FrontDoor) -> None:
    assert asked.act("retry", ["local/1.2.100"])["done"] == 1
    assert [job["state"] for job in asked.jobs(series="1.2.100")] == ["queued"]


@pytest.mark.parametrize(("filters", "said"), [({"state": "lost"}, "400: state"), ({"colour": "red"}, "400: unknown")])
def test_what_the_service_refuses_is_an_error_with_its_text(asked: Client, filters: dict[str, str], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        list(asked.series(**filters))


async def tells_its_login(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with the login that came with it."""
    given = Headers(scope=scope).get("authorization", "")
    await JSONResponse({"id": given})(scope, receive, send)


def test_a_token_and_a_private_ca_are_enough(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serving(tells_its_login) as url, tls_front(int(url.rpartition(":")[2]), authority.sign()) as port:
        with Client(f"https://127.0.0.1:{port}", token="enrich_1_2", ca_file=authority.file) as asked:
            assert asked.job("1") == {"id": "Bearer enrich_1_2"}
        with Client(f"https://127.0.0.1:{port}", token="enrich_1_2") as asked, pytest.raises(httpx.ConnectError):
            asked.job("1")
    with pytest.raises(ValueError, match="not with both"):
        Client("https://127.0.0.1", USER, PASSWORD, token="enrich_1_2")


def test_a_wrong_password_says_so(door: FrontDoor) -> None:
    with Client(door.url, USER, "wrong") as wrong, pytest.raises(ApiError, match="401: Log in as a user"):
        list(wrong.jobs())


class Frame:
    """As much of a pandas table as the example needs."""

    made: list[dict[str, Any]]

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        Frame.made = list(rows)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self

    def __getitem__(self, name: str) -> Frame:
        return self

    def __setitem__(self, name: str, value: object) -> None:
        pass

    def __add__(self, other: object) -> Frame:
        return self


def test_the_example_of_the_page_runs(
    door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With pandas where it is installed, else with a stand-in that takes the same calls."""
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
    text = text.replace("http://127.0.0.1:8043", door.url).replace('"user", "password"', f'"{USER}", "{PASSWORD}"')
    text = text.replace('table["lung_left"] + table["lung_right"]', 'table["lung_left"]')  # the case has one lung
    try:
        import pandas as pd  # noqa: F401
    except ImportError:
        pandas = ModuleType("pandas")
        pandas.DataFrame = Frame  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pandas", pandas)
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "client.md", "exec"), {})
    assert capsys.readouterr().out
    assert len(text.strip().splitlines()) <= 10
