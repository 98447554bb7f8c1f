"""Signs of life: answered without a login, and without telling anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette

from orthanc_plugin.service.signs import LIVE, READY, REMEMBERED_S, Signs
from tests.support.servers.front_door import front_door


def asked(signs: Signs, path: str) -> tuple[int, str]:
    """Return status and text of an answer."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(signs), base_url="http://service") as client:
            return await client.get(path)

    answer = asyncio.run(ask())
    return answer.status_code, answer.text


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.db")
    yield engine
    engine.dispose()


def test_without_a_login(tmp_path: Path) -> None:
    with front_door(tmp_path) as door:
        assert [door.ask(path, "GET", None).status_code for path in (LIVE, READY)] == [200, 200]


@pytest.mark.parametrize(
    "path", ["/enrichment/ready/", "/enrichment/readY", "/enrichment//ready", "/enrichment/live/x"]
)
def test_only_these_two_paths_are_open(tmp_path: Path, path: str) -> None:
    with front_door(tmp_path) as door:
        assert door.ask(path, "GET", None).status_code == 401
        assert door.ask(READY, "POST", None).status_code == 401


def test_not_ready_without_the_database(tmp_path: Path) -> None:
    signs = Signs(Starlette(), sa.create_engine(f"sqlite:///{tmp_path}/nowhere/jobs.db"), lambda: False)
    assert [asked(signs, path) for path in (LIVE, READY)] == [(200, "yes\n"), (503, "no\n")]


def test_not_ready_while_it_stops(engine: sa.Engine) -> None:
    signs = Signs(Starlette(), engine, lambda: True)
    assert [asked(signs, path)[0] for path in (LIVE, READY)] == [200, 503]


def test_the_database_is_not_asked_by_every_stranger(engine: sa.Engine) -> None:
    moment = [0.0]
    questions: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: questions.append(arguments[2]))
    signs = Signs(Starlette(), engine, lambda: False, lambda: moment[0])
    assert {asked(signs, READY)[0] for _ in range(5)} == {200}
    moment[0] = REMEMBERED_S + 1
    asked(signs, READY)
    assert len(questions) == 2
