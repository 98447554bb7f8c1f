"""Outgoing requests: only named addresses are called, whatever an archive answers, and credentials go nowhere else."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import requests

from orthanc_plugin.archive.connection import open_client, open_session
from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.probe import find_problem
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.webhooks import WebhookSettings
from orthanc_plugin.errors import ConfigError, EnrichError, InputError, TransientError
from orthanc_plugin.jobs.webhooks import Notice, send
from tests.support.fakes.memory_archive import ct_slice
from tests.support.servers.tls import Authority, tls_front

Answer = Callable[[str, str], tuple[int, dict[str, str], bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Address of a server, and what it was asked: method, path and Authorization."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}")
            status, headers, body = answer(self.command, self.path)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", asked
        finally:
            http.shutdown()
            thread.join()


def nothing(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, b"[]"


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    with server(nothing) as other:
        yield other


def settings(url: str, **more: object) -> ArchiveSettings:
    account = {"User": "us", "Password": "secret"}
    return ArchiveSettings.model_validate({"Url": f"{url}/dicom-web", **account, **more})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(elsewhere: tuple[str, list[str]], status: int) -> None:
    url, asked = elsewhere
    with server(lambda method, path: (status, {"Location": f"{url}{path}"}, b"")) as (archive, _):
        with closing(open_archive("far", settings(archive))) as opened:
            for ask in (
                lambda: opened.headers("1.2", "1.2.3"),
                lambda: list(opened.retrieve("1.2", "1.2.3")),
                lambda: opened.store(ct_slice(1)),
                lambda: opened.studies({"PatientID": "x"}, 0),
            ):
                with pytest.raises(EnrichError):
                    ask()
        assert find_problem("far", settings(archive, OrthancUrl=archive)) != ""
    assert asked == []


def test_addresses_in_answers_are_not_followed(elsewhere: tuple[str, list[str]]) -> None:
    """RetrieveURL and BulkDataURI may name any host: of a cloud's metadata service, or of a thief of passwords."""
    url, asked = elsewhere
    tags = {
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00080018": {"vr": "UI", "Value": ["1.2.4"]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
        "00080008": {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY", "AXIAL"]},
        "00081190": {"vr": "UR", "Value": [f"{url}/studies/1.2"]},
        "00280010": {"vr": "US", "Value": [4]},
        "00200052": {"vr": "UI", "Value": ["1.2.9"]},
        "7FE00010": {"vr": "OW", "BulkDataURI": f"{url}/pixels"},
        "00091010": {"vr": "UN", "BulkDataURI": "http://169.254.169.254/latest/meta-data/"},
    }
    body = json.dumps([tags]).encode()
    stored = json.dumps({"00081190": {"vr": "UR", "Value": [f"{url}/x"]},
                         "00081199": {"vr": "SQ", "Value": []}}).encode()  # fmt: skip

    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/dicom+json"}, stored if method == "POST" else body

    with server(answer) as (archive, own), closing(open_archive("far", settings(archive))) as opened:
        assert opened.headers("1.2", "1.2.3")[0].SOPInstanceUID == "1.2.4"
        assert opened.same_series_studies("1.2.3") == (("1.2", ""),)
        assert opened.studies({"PatientID": "x"}, 0) == ("1.2",)
        with pytest.raises(EnrichError):
            opened.store(ct_slice(1))
        assert len(own) >= 4
    assert asked == []


@pytest.mark.parametrize(
    "other",
    [
        "http://127.0.0.1:1/",
        "http://127.0.0.1.evil.example/dicom-web/studies",
        "https://127.0.0.1/",
        "file:///etc/passwd",
    ],
)
def test_no_connection_leads_anywhere_else(elsewhere: tuple[str, list[str]], other: str) -> None:
    url, _ = elsewhere
    named = settings(url, OrthancUrl=url)
    with open_session("far", named) as session:
        with pytest.raises(requests.exceptions.InvalidSchema):
            session.get(other)
        assert session.get(f"{url}/dicom-web/studies").status_code == 200
    with open_client("far", named, 5.0) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            client.get(other)
        assert client.get(f"{url}/statistics").status_code == 200


@pytest.mark.parametrize("uid", ["1.2/../../../system", "..", "1.2?x=", "1.2#", "1.2%2f..", "@evil.example/", "1.2\n"])
def test_no_identifier_changes_the_address(elsewhere: tuple[str, list[str]], uid: str) -> None:
    url, asked = elsewhere
    with closing(open_archive("far", settings(url))) as opened:
        for ask in (lambda: opened.headers(uid, "1.2"), lambda: opened.find("1.2", "1.3", uid)):
            with pytest.raises(InputError):
                ask()
    assert asked == []


def test_tls_of_an_archive_is_verified(tmp_path: Path, elsewhere: tuple[str, list[str]]) -> None:
    url, asked = elsewhere
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    with ExitStack() as fronts:
        port = fronts.enter_context(tls_front(int(url.rpartition(":")[2]), authority.sign("DNS:other.example")))
        for ca in (authority.file, other.file):
            named = settings(f"https://127.0.0.1:{port}", CaFile=str(ca))
            with closing(open_archive("far", named)) as opened, pytest.raises(TransientError, match="certificate"):
                opened.headers("1.2", "1.2.3")
    assert asked == []


def test_a_webhook_is_signed_and_redirected_nowhere(elsewhere: tuple[str, list[str]]) -> None:
    url, asked = elsewhere
    notice = Notice("test", "", "", "", "", "", "", "")
    with server(lambda method, path: (307, {"Location": url}, b"")) as (hook, own):
        hooks = {"a": WebhookSettings.model_validate({"Url": hook, "Secret": "s" * 24})}
        with pytest.raises(EnrichError, match="answered 307"):
            send(hooks, "a", "id", notice, datetime.now(UTC))
        assert len(own) == 1
        with pytest.raises(ConfigError, match="no webhook b"):
            send(hooks, "b", "id", notice, datetime.now(UTC))
    assert asked == []


@pytest.mark.parametrize(
    "section",
    [
        {"Webhooks": {"a": {"Url": "http://10.0.0.1/x", "Secret": "s" * 24}}},
        {"Webhooks": {"a": {"Url": "file:///etc/passwd", "Secret": "s" * 24}}},
        {"Webhooks": {"a": {"Url": "https://user:pw@host/", "Secret": "s" * 24}}},
        {"Archives": {"a": {"Url": "ftp://host/"}}},
        {"Archives": {"a": {"Url": "http://user@host/"}}},
        {"Archives": {"a": {"Url": "http://host/?x=http://other"}}},
        {"Archives": {"a": {"Url": "http://host/", "Token": "t"}}},
    ],
)
def test_addresses_that_are_unsafe_stop_the_start(section: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse_section(section, {})


class TestSecrets:
    """Secrets come from the environment, from files, or from systemd's credentials."""

    def password(self, text: str) -> str:
        section = {"Archives": {"local": {"Url": "http://127.0.0.1/x", "User": "us", "Password": text}}}
        return parse_section(section, {}).archives["local"].password.get_secret_value()

    def test_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("s3cret\n")
        assert self.password(f"file:{tmp_path}/password") == "s3cret"

    def test_from_systemd(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        (tmp_path / "orthanc").write_text("s3cret")
        assert self.password("credential:orthanc") == "s3cret"

    def test_other_texts_stay_what_they_are(self) -> None:
        for text in ("file:relative", "credential", "credentials:x", "a:b"):
            assert self.password(text) == text

    @pytest.mark.parametrize("name", ["absent", "../etc/passwd", "a/b", ".", ""])
    def test_a_credential_is_a_name_in_its_folder(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        with pytest.raises(ConfigError) as raised:
            self.password(f"credential:{name}")
        assert "Archives.local.Password: a value that is not shown is not allowed" in str(raised.value)

    def test_without_its_folder_or_file_the_error_says_so_and_shows_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY is not set"):
            self.password("credential:orthanc")
        with pytest.raises(ConfigError, match="cannot be read"):
            self.password(f"file:{tmp_path}/absent")
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(ConfigError, match="is empty"):
            self.password(f"file:{tmp_path}/empty")
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match="is not a text"):
            self.password(f"file:{tmp_path}/binary")


def test_old_tls_is_refused(tmp_path: Path, elsewhere: tuple[str, list[str]]) -> None:
    from orthanc_plugin.archive.tls import client_context

    context = client_context("far", settings("https://127.0.0.1"))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
