"""The name of an Orthanc's index: known only where our plugin tells it, and never a reason to stop."""

from __future__ import annotations

import httpx
import pytest

from orthanc_plugin.archive.orthanc import OrthancFeed
from orthanc_plugin.errors import TransientError


def feed(answer: httpx.Response | Exception) -> OrthancFeed:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        assert request.url.path == "/enrichment/status"
        return answer

    client = httpx.Client(base_url="http://orthanc", transport=httpx.MockTransport(handle))
    return OrthancFeed("local", "http://orthanc", client=client)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (httpx.Response(200, json={"index": "ab12", "changes": None}), "ab12"),
        (httpx.Response(200, json={"changes": None}), ""),  # an older plugin
        (httpx.Response(200, json=[]), ""),
        (httpx.Response(200, text="<html>"), ""),
        (httpx.Response(404), ""),
        (httpx.Response(403), ""),
        (httpx.Response(500), ""),
    ],
)
def test_the_name_is_what_the_plugin_tells_or_unknown(answer: httpx.Response, name: str) -> None:
    assert feed(answer).index() == name


def test_an_orthanc_that_does_not_answer_is_away() -> None:
    with pytest.raises(TransientError, match="archive local: it cannot be reached: check its address"):
        feed(httpx.ConnectError("refused")).index()
