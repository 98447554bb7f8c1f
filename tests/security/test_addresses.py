"""Every control character, double escape, overlong form and backslash in a path is refused before anything reads it."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from orthanc_plugin.service.addresses import plain_path
from orthanc_plugin.service.proxy import _leaves_dicomweb
from tests.support.servers.front_door import RIGHT, FrontDoor, front_door
from tests.support.servers.orthanc_server import OrthancServer

ODD = [
    *(f"%{code:02x}" for code in (*range(0x20), 0x7F)),
    "%c2%80", "%c2%9f", "%e2%80%a8", "%e2%80%ae", "%ef%bb%bf",
    "%5c", "%255c", "%2500", "%252e%252e", "%25252e", "%c0%ae",
    "%c0%80", "%e0%80%af", "%f0%80%80%ae", "%ff", "%ed%a0%80",
    "%", "%0", "%zz", "%u0000", "%%30%30",
]  # fmt: skip


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        yield door


def status(url: str, path: str) -> int:
    """Status for a path as it is written here."""
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("GET", path, headers={"Authorization": str(RIGHT._auth_header)})
        return connection.getresponse().status


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_path_is_refused(door: FrontDoor, odd: str) -> None:
    for path in (f"/dicom-web/servers{odd}", f"/dicom-web/{odd}servers", f"/dicom-web/studies{odd}/../servers",
                 f"/enrichment/jobs/{odd}", f"/%64icom-web/servers{odd}"):  # fmt: skip
        assert status(door.url, path) == 400, path
    for path in (f"/app{odd}.js", f"/{odd}"):
        assert status(door.url, path) in (303, 400, 404), path


@pytest.mark.parametrize(
    "path", ["/dicom-web/servers", "/dicom-web//servers", "/dicom-web/%73ervers", "/dicom-web/servers/x/stow",
             "/dicom-web/studies/%2e%2e/servers", "/dicom-web/%20servers", "/dicom-web/./servers"],
)  # fmt: skip
def test_orthancs_own_client_is_closed(door: FrontDoor, path: str) -> None:
    assert status(door.url, path) == 400


def test_control_characters_in_a_query_are_refused(door: FrontDoor) -> None:
    for odd in ("%00", "%0a", "%0D", "%7f"):
        assert status(door.url, f"/dicom-web/studies?PatientID=a{odd}b") == 400
    assert status(door.url, "/dicom-web/studies?PatientName=M%C3%BCller%5E&StudyInstanceUID=1%5C2&x=50%25") == 200


def test_ordinary_escapes_stay(door: FrontDoor) -> None:
    assert plain_path(b"/dicom-web/studies/1%2C2%20%41/M%C3%BCller") == "/dicom-web/studies/1,2 A/M\u00fcller"
    assert status(door.url, "/enrichment/jobs/none%20") == 404


def test_orthanc_reads_no_path_otherwise_than_we_do(new_orthanc: Callable[..., OrthancServer], tmp_path: Path) -> None:
    """Whatever spelling reaches Orthanc's client of other servers there, our check refuses."""
    servers = {"sample": ["http://127.0.0.1:9/", "u", "p"]}
    orthanc = new_orthanc(settings={"DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": servers}})
    orthanc.start()
    spellings = [*(f"servers{odd}" for odd in ODD), *(f"{odd}servers" for odd in ODD), "%2e/servers", "a/../servers"]
    reached = [spelling for spelling in ("servers", *spellings) if "sample" in _body(orthanc, f"/dicom-web/{spelling}")]
    assert reached[0] == "servers"
    assert "servers%00" in reached
    assert [spelling for spelling in reached if not _is_refused(spelling)] == []


def _is_refused(path: str) -> bool:
    try:
        return _leaves_dicomweb(path)
    except ValueError:
        return True


def _body(orthanc: OrthancServer, path: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", orthanc.port, timeout=30)) as connection:
        header = httpx.BasicAuth(orthanc.user, orthanc.password)._auth_header
        try:
            connection.request("GET", path, headers={"Authorization": header})
            return connection.getresponse().read().decode("latin-1")
        except (http.client.HTTPException, OSError):
            return ""
