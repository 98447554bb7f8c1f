"""Each answer names its request, and so does what the request lets the service log."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from orthanc_plugin import logs
from orthanc_plugin.correlation import current_ids
from orthanc_plugin.service.request_ids import HEADER, RequestIds
from orthanc_plugin.service.routes import in_thread
from tests.support.servers.front_door import front_door

OWN = "0f8fad5b-d9cb-469f-a165-70867728950e"


def _ids(request: Request) -> Response:
    return PlainTextResponse(str(dict(current_ids())), headers={HEADER: "of-the-archive"})


def _fails(request: Request) -> Response:
    raise KeyError("Planted^Name")


APP = RequestIds(Starlette(routes=[Route("/ids", in_thread(_ids)), Route("/jobs/{id}/{name}", in_thread(_fails))]))


def answer(path: str, *given: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://service") as client:
            return await client.get(path, headers=[(HEADER, text) for text in given])

    return asyncio.run(ask())


@pytest.mark.parametrize("own", [OWN, OWN.replace("-", ""), OWN.upper()])
def test_a_uuid_of_the_caller_is_kept_and_carried_into_threads(own: str) -> None:
    response = answer("/ids", own)
    assert response.headers.get_list(HEADER) == [own]
    assert response.text == str({"request": own})


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("",),
        ("Mustermann",),
        ("4711",),
        (OWN, OWN),
        (f"{OWN} Mustermann",),
        (f"{OWN}\tx",),
        ("0" * 31,),
        ("g" * 32,),
    ],
)
def test_any_other_text_gets_a_new_id(given: tuple[str, ...]) -> None:
    (made,) = answer("/ids", *given).headers.get_list(HEADER)
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert made not in given


def test_a_failure_is_logged_with_the_id_and_without_what_the_caller_wrote(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", logs.CleanRecord)
    response = answer("/jobs/Planted^Name/Planted^Other", OWN)
    assert response.status_code == 500
    (record,) = caplog.records
    assert record.getMessage().startswith("/jobs/{id}/{name}: KeyError at ")
    assert isinstance(record, logs.CleanRecord)
    assert dict(record.ids) == {"request": OWN}


def test_refusals_of_the_gate_name_their_request_too(tmp_path: Path) -> None:
    with front_door(tmp_path) as door:
        refused = door.ask("/enrichment/api/v1/jobs", "GET", None, headers={HEADER: OWN})
        assert (refused.status_code, refused.headers[HEADER]) == (401, OWN)
