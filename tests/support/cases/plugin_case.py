"""What the tests of edge/plugin.py share: a series of Orthanc, its answers, and a service elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support.fakes.orthanc import FakeOrthanc

SERIES = {
    "MainDicomTags": {"Modality": "CT", "SeriesInstanceUID": "1.2.3.4"},
    "Instances": ["i1", "i2"],
    "IsStable": True,
    "AnonymizedFrom": "original-series",
}
STUDY = {"MainDicomTags": {"StudyInstanceUID": "1.2.3"}, "PatientMainDicomTags": {"PatientName": "Secret^Name"}}
RECEIVED = {"RemoteAET": "SCANNER", "RemoteIP": "10.0.0.7", "Origin": "DicomProtocol"}

Load = Callable[..., tuple[Any, FakeOrthanc]]


def report(orthanc: FakeOrthanc) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(orthanc.get("/enrichment/status").body)
    return answer


def put_series(orthanc: FakeOrthanc, series_id: str = "s1", series: dict[str, object] | None = None) -> None:
    orthanc.answers |= {
        f"/series/{series_id}": series or SERIES,
        f"/series/{series_id}/study": STUDY,
        "/instances/i1/metadata?expand": RECEIVED,
    }


def elsewhere(url: str) -> dict[str, object]:
    return {"Service": {"Start": False, "Url": url, "Secret": "shared"}}


class Receiver(HTTPServer):
    """Takes hints and answers with `status`."""

    def __init__(self) -> None:
        self.status = 202
        self.bodies: list[dict[str, Any]] = []
        self.secrets: list[str | None] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                receiver.secrets.append(self.headers["X-Enrichment-Secret"])
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


def with_changes(orthanc: FakeOrthanc, dates: dict[int, str]) -> None:
    """Let the fake answer as Orthanc does: 100 rows after a number, of those that are left."""

    def get(path: str) -> bytes:
        if not path.startswith("/changes?since="):
            return plain(path)
        since = int(path.removeprefix("/changes?since=").partition("&")[0])
        rows = [{"Seq": number, "Date": dates[number]} for number in sorted(dates) if number > since]
        return json.dumps({"Changes": rows[:100]}).encode()

    plain = orthanc.RestApiGet
    orthanc.answers["/changes?last"] = {"Last": max(dates)}
    orthanc.RestApiGet = get  # type: ignore[method-assign]
