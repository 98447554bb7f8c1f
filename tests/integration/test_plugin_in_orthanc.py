"""edge/plugin.py inside a real Orthanc, with a stand-in for the service on the other end of the pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from orthanc_plugin.archive.orthanc import Mark, OrthancFeed
from orthanc_plugin.config.read import load_configuration, parse_document
from tests.support.fakes.service import fake_python
from tests.support.servers.asgi_server import serving
from tests.support.servers.orthanc_server import PLUGIN_SCRIPT, OrthancServer, free_port, wait_until


class Edge:
    """An Orthanc with the plugin and the stand-in service, which behaves as `fake` says."""

    def __init__(self, new_orthanc: Callable[..., OrthancServer], directory: Path) -> None:
        self.directory = directory
        self.server = new_orthanc(plugin=PLUGIN_SCRIPT, dicom=True)
        self.section(Service={"Python": str(fake_python(directory))})

    def section(self, fake: dict[str, object] | None = None, **section: object) -> None:
        events = {"Fake": {"Events": str(self.directory / "events"), **(fake or {})}}
        self.server.enrichment = {"StateDirectory": str(self.directory), **(self.server.enrichment or {})}
        self.server.enrichment |= events | section

    def status(self) -> dict[str, Any]:
        answer = self.server.rest("/enrichment/status")
        assert isinstance(answer, dict)
        return answer

    def events(self, kind: str) -> list[dict[str, Any]]:
        file = self.directory / "events"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [event for event in lines if event["event"] == kind]

    def errors(self) -> list[str]:
        return [line for line in self.server.log().splitlines() if line.startswith("E") and "Enrichment" in line]

    def start(self) -> None:
        self.server.start()
        wait_until(lambda: self.status()["state"] != "starting")

    def service_pid(self) -> int:
        return int(self.events("start")[-1]["pid"])


@pytest.fixture
def edge(new_orthanc: Callable[..., OrthancServer], tmp_path: Path) -> Edge:
    return Edge(new_orthanc, tmp_path)


def slice_of(modality: str, series_instance_uid: str = "") -> Dataset:
    """The smallest instance that Orthanc indexes."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage if modality == "CT" else SecondaryCaptureImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID = generate_uid(), "1.2.826.0.1.3680043.10.1"
    ds.SeriesInstanceUID = series_instance_uid or generate_uid()
    ds.PatientID, ds.PatientName, ds.Modality = "planted-id", "Planted^Name", modality
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def stow(edge: Edge, *instances: Dataset) -> None:
    files = []
    for number, ds in enumerate(instances):
        files.append(edge.directory / f"{number}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    edge.server.stow(files)


def send(edge: Edge, ds: Dataset) -> None:
    """C-STORE from the AE title SCANNER."""
    file = edge.directory / "sent.dcm"
    ds.save_as(file, enforce_file_format=True)
    titles = ["-aet", "SCANNER", "-aec", "ORTHANC"]
    subprocess.run(["storescu", *titles, "127.0.0.1", str(edge.server.dicom_port), str(file)], check=True)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_stable_ct_is_hinted_with_its_origin_and_other_series_are_not(edge: Edge) -> None:
    edge.start()
    stow(edge, slice_of("SEG"), slice_of("SR"), slice_of("CT", "1.2.826.0.1.3680043.10.2"))
    send(edge, slice_of("CT", "1.2.826.0.1.3680043.10.3"))
    wait_until(lambda: len(edge.events("hint")) == 2)
    by_series = {event["body"]["series_instance_uid"]: event for event in edge.events("hint")}
    stored, sent = by_series["1.2.826.0.1.3680043.10.2"]["body"], by_series["1.2.826.0.1.3680043.10.3"]["body"]
    assert stored["study_instance_uid"] == "1.2.826.0.1.3680043.10.1"
    assert (stored["origin"], stored["remote_aet"], stored["remote_ip"]) == ("Plugins", "", "")
    assert (sent["origin"], sent["remote_aet"], sent["remote_ip"]) == ("DicomProtocol", "SCANNER", "127.0.0.1")
    assert all(event["right_secret"] for event in edge.events("hint"))
    edge.server.rest(f"/series/{sent['orthanc_series_id']}/anonymize", "POST", {})
    wait_until(lambda: len(edge.events("hint")) == 3)
    assert edge.events("hint")[-1]["body"]["anonymized_from"] == sent["orthanc_series_id"]
    assert edge.status()["hints"]["sent"] == 3
    assert "planted" not in ((edge.directory / "events").read_text() + edge.server.log()).lower()


def test_sigterm_stops_service_and_orthanc_in_less_than_ten_seconds(edge: Edge) -> None:
    edge.start()
    began = time.monotonic()
    assert edge.server.stop() == 0
    assert time.monotonic() - began < 10
    assert len(edge.events("end")) == 1
    assert gone(edge.service_pid())


def test_sigkill_of_orthanc_leaves_no_orphan(edge: Edge) -> None:
    edge.start()
    pid = edge.service_pid()
    edge.server.kill()
    wait_until(lambda: gone(pid), 10, "the end of the service")
    assert len(edge.events("end")) == 1


def test_killed_service_is_started_again_and_gets_the_hints_that_waited(edge: Edge) -> None:
    edge.start()
    os.kill(edge.service_pid(), signal.SIGKILL)
    wait_until(lambda: edge.status()["state"] != "running")
    assert "exit code -9" in edge.status()["error"]
    stow(edge, slice_of("CT"))
    wait_until(lambda: len(edge.events("hint")) == 1)
    assert len(edge.events("start")) == edge.status()["starts"] == 2
    assert edge.status()["error"] == ""


DOWN = (
    "The enrichment service is down and will be started again by itself."
    " Everything else in Orthanc works, and series that arrive now are enriched afterwards."
)


def test_the_status_page_says_in_a_sentence_that_the_service_is_down_and_orthanc_goes_on(edge: Edge) -> None:
    edge.start()
    client = edge.server.client
    assert "<strong>The enrichment service works.</strong>" in client.get("/enrichment").text
    os.kill(edge.service_pid(), signal.SIGKILL)
    wait_until(lambda: len(edge.events("start")) == 2)
    os.kill(edge.service_pid(), signal.SIGKILL)  # the third start comes two seconds later
    wait_until(lambda: edge.status()["state"] == "ended, will be started again")
    assert f"<strong>{DOWN}</strong>" in client.get("/enrichment").text
    assert edge.status()["says"] == DOWN
    stow(edge, slice_of("CT", "1.2.826.0.1.3680043.10.5"))
    assert client.get("/app/explorer.html").status_code == 200
    assert client.get("/dicom-web/studies").json()
    wait_until(lambda: len(edge.events("hint")) == 1)
    assert "<strong>The enrichment service works.</strong>" in client.get("/enrichment").text


def test_a_service_elsewhere_that_is_away_is_told_and_found_again(edge: Edge) -> None:
    port = free_port()
    edge.section(Service={"Start": False, "Url": f"http://127.0.0.1:{port}", "Secret": "5ec2e7" * 8})
    edge.server.start()
    wait_until(lambda: "does not respond" in edge.status()["state"])
    page = edge.server.client.get("/enrichment").text
    assert (
        "<strong>The enrichment service runs elsewhere and does not respond. Everything else in Orthanc works" in page
    )
    assert edge.status()["error"] == f"the service at http://127.0.0.1:{port} does not respond (nothing listens there)"

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("no", 502 if broken else 403)(scope, receive, send)

    broken = False
    with serving(refuse, port):
        wait_until(lambda: edge.status()["state"] == "runs elsewhere")
        assert edge.status()["error"] == ""
        broken = True
        wait_until(lambda: edge.status()["error"].endswith("(HTTP 502)"))
    assert edge.server.stop() == 0


def test_configuration_error_of_the_service_is_shown_and_not_tried_again(edge: Edge) -> None:
    edge.section(fake={"Exit": 78, "Error": "Enrichment.Workers must be 0 to 64"})
    edge.start()
    stow(edge, slice_of("CT"))
    assert edge.status()["state"] == "configuration error"
    assert "Enrichment.Workers must be 0 to 64" in edge.server.client.get("/enrichment").text
    assert len(edge.errors()) == 1
    assert edge.server.stop() == 0
    assert len(edge.events("start")) == 1


def test_broken_setting_leaves_orthanc_running(edge: Edge) -> None:
    edge.section(Service={"Python": "/nowhere/bin/python"})
    edge.start()
    stow(edge, slice_of("CT"))
    assert len(edge.server.rest("/instances")) == 1  # type: ignore[arg-type]
    assert "/nowhere/bin/python" in edge.status()["error"]
    assert len(edge.errors()) == 1
    assert edge.server.stop() == 0


def test_service_gets_the_file_as_a_command_reads_it(edge: Edge) -> None:
    """Orthanc replaces variables, and what it says of itself fills in the archive `local`."""
    edge.server.environment |= {"AI_PASSWORD": "from outside"}
    edge.section(Archives={"local": {"User": "ai", "Password": "${AI_PASSWORD}"}})
    edge.start()
    (start,) = edge.events("start")
    del start["document"]["Enrichment"]["Fake"]
    configuration = parse_document(start["document"], {})
    local = configuration.archives["local"]
    assert (local.url, local.orthanc_url) == (edge.server.dicomweb_url, edge.server.url)
    assert local.password.get_secret_value() == "from outside"
    (written,) = edge.server.directory.glob("*.json")
    content = json.loads(written.read_text())
    del content["Enrichment"]["Fake"]
    (edge.directory / "orthanc.json").write_text(json.dumps(content))
    assert load_configuration(edge.directory / "orthanc.json", edge.server.environment) == configuration


def test_routes_need_orthancs_login_and_a_plain_get(edge: Edge) -> None:
    edge.start()
    client = edge.server.client
    assert httpx.get(f"{edge.server.url}/enrichment/status", trust_env=False).status_code == 401
    assert client.get("/enrichment/status?_method=DELETE").status_code == 405
    assert client.post("/enrichment/status", headers={"X-HTTP-Method-Override": "GET"}).status_code in (400, 405)
    assert client.post("/enrichment", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 405
    page = client.get("/enrichment")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert f"0;url={edge.status()['dashboard']}" in client.get("/enrichment/dashboard").text
    assert "'AI enrichment'" in client.get("/plugins/explorer.js").text


def test_buttons_lead_on_and_order_by_post_only(edge: Edge) -> None:
    edge.start()
    stow(edge, slice_of("CT"))
    client = edge.server.client
    wait_until(lambda: len(edge.events("hint")) == 1)
    (study,) = client.get("/studies").json()
    uid = client.get(f"/studies/{study}").json()["MainDicomTags"]["StudyInstanceUID"]
    assert f"/enrichment/open?StudyInstanceUID={uid}" in client.get(f"/enrichment/open/studies/{study}").text
    assert client.get(f"/enrichment/now/studies/{study}").status_code == 405
    foreign = {"Origin": "https://elsewhere.example"}
    assert client.post(f"/enrichment/now/studies/{study}", content=b"", headers=foreign).status_code == 403
    nowhere = "-".join(["00000000"] * 5)
    assert client.post(f"/enrichment/now/studies/{nowhere}", content=b"").status_code == 404
    assert httpx.post(f"{edge.server.url}/enrichment/now/studies/{study}", trust_env=False).status_code == 401
    assert client.post(f"/enrichment/now/studies/{study}", content=b"").json() == {"asked": 1, "error": ""}
    wait_until(lambda: len(edge.events("hint")) == 2)
    assert [hint["body"].get("again", False) for hint in edge.events("hint")] == [False, True]


def test_series_count_from_the_first_start_even_if_no_service_can_start(edge: Edge) -> None:
    right = edge.server.enrichment["Service"]  # type: ignore[index]
    edge.server.plugin = None
    edge.server.start()
    stow(edge, slice_of("CT"))
    wait_until(lambda: edge.server.rest("/changes?last")["Last"] >= 4)  # type: ignore[index,operator,call-overload]
    edge.server.stop()
    time.sleep(1.1)  # the changes of Orthanc have whole seconds
    edge.server.plugin = PLUGIN_SCRIPT
    edge.section(Service={"Python": "/nowhere/bin/python"})
    edge.server.start()
    stow(edge, slice_of("CT", "1.2.826.0.1.3680043.10.4"))
    feed = OrthancFeed("local", edge.server.url, edge.server.user, edge.server.password)
    with closing(feed):
        mark = wait_until(lambda: edge.status()["changes"] and feed.mark(), what="the mark")
        assert isinstance(mark, Mark)
        assert not mark.read_before
        index = feed.index()
        assert len(index) == 32
        (counted,) = feed.changes(mark.since).orthanc_series_ids
        series = feed.series(counted)
        assert series is not None
        assert series.series_instance_uid == "1.2.826.0.1.3680043.10.4"
        edge.server.stop()
        edge.section(fake={"Read": mark.since + 1}, Service=right)
        edge.start()
        assert feed.mark() == mark
        stow(edge, slice_of("CT"))
        wait_until(lambda: feed.mark() == Mark(mark.since + 1, True), what="a mark that moved")
        edge.server.restart()
        wait_until(lambda: edge.status()["changes"])
        assert feed.mark() == Mark(mark.since + 1, True)
        assert feed.index() == index
