"""DICOMweb over TLS against a real Orthanc behind a TLS front: private CA, client certificate, bearer token.

Orthanc 1.10.1 of Debian 12 crashes on HTTPS requests of its own, so the front ends TLS as nginx would.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.orthanc import open_feed
from orthanc_plugin.archive.probe import find_problem
from orthanc_plugin.archive.removal import open_removal
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import ConfigError, TransientError
from tests.support.fakes.memory_archive import ct_series
from tests.support.servers.front_door import WRONG, front_door
from tests.support.servers.orthanc_server import OrthancServer
from tests.support.servers.tls import Authority, Certificate, tls_front

SECRET = "s3cr3t-token-of-the-test"


@dataclass(frozen=True)
class Keys:
    ca: Authority
    other_ca: Authority
    server: Certificate
    client: Certificate


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    ca = Authority(folder)
    return Keys(ca, Authority(folder, "other"), ca.sign(), ca.sign())


def settings(
    port: int, orthanc: OrthancServer | None = None, host: str = "127.0.0.1", **more: object
) -> ArchiveSettings:
    root = f"https://{host}:{port}"
    account = {"User": orthanc.user, "Password": orthanc.password} if orthanc else {}
    return ArchiveSettings.model_validate(
        {"Url": f"{root}/dicom-web", "OrthancUrl": root, **account} | {key: str(value) for key, value in more.items()}
    )


def test_an_archive_with_a_private_ca_is_read_written_and_healthy(orthanc: OrthancServer, keys: Keys) -> None:
    with tls_front(orthanc.port, keys.server) as port:
        trusted = settings(port, orthanc, CaFile=keys.ca.file)
        (ds,) = ct_series(1, series="1.2.840.77.1", study="1.2.840.77")
        with closing(open_archive("far", trusted)) as archive:
            archive.store(ds)
            found = archive.find("1.2.840.77", "1.2.840.77.1", str(ds.SOPInstanceUID))
            assert found is not None
            assert found.PixelData == ds.PixelData
            assert archive.same_series_studies("1.2.840.77.1") == (("1.2.840.77", "P1"),)
        assert find_problem("far", trusted) == ""
        feed, removal = open_feed("far", trusted), open_removal("far", trusted)
        assert feed is not None
        assert removal is not None
        with closing(feed), closing(removal):
            assert feed.lookup("1.2.840.77", "1.2.840.77.1") != ""
            assert removal.remove("1.2.3", "1.2.3", "1.2.3", "nobody") is False


@pytest.mark.parametrize(
    ("case", "remedy"),
    [
        ("no CaFile", "unknown CA: set CaFile"),
        ("another CA", "unknown CA: set CaFile"),
        ("expired", "has expired: renew it there"),
        ("another host", "for another host name: use a name that the certificate holds"),
        ("plain HTTP", "does not speak TLS there: check address and port"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_named_with_its_remedy(
    orthanc: OrthancServer, keys: Keys, case: str, remedy: str
) -> None:
    shown = {"expired": keys.ca.sign(expired=True), "another host": keys.ca.sign("DNS:pacs.example")}
    trusted = {"no CaFile": {}, "another CA": {"CaFile": keys.other_ca.file}}.get(case, {"CaFile": keys.ca.file})
    with tls_front(orthanc.port, shown.get(case, keys.server)) as port:
        wrong = settings(orthanc.port if case == "plain HTTP" else port, orthanc, **trusted)
        with closing(open_archive("far", wrong)) as archive:
            with pytest.raises(TransientError, match=remedy):
                archive.headers("1.2.3", "1.2.3")
            with pytest.raises(TransientError, match=remedy):
                archive.store(ct_series(1)[0])
        assert remedy in find_problem("far", wrong)
        feed = open_feed("far", wrong)
        assert feed is not None
        with closing(feed), pytest.raises(TransientError, match=remedy):
            feed.last_sequence()


def test_an_archive_that_asks_for_a_client_certificate_gets_it(orthanc: OrthancServer, keys: Keys) -> None:
    with tls_front(orthanc.port, keys.server, clients=keys.ca.file) as port:
        own = {"ClientCertificate": keys.client.certificate, "ClientKey": keys.client.key}
        known = settings(port, orthanc, CaFile=keys.ca.file, **own)
        with closing(open_archive("far", known)) as archive:
            assert archive.headers("1.2.3", "1.2.3") == ()
        assert find_problem("far", known) == ""
        foreign = keys.other_ca.sign()
        other = {"ClientCertificate": foreign.certificate, "ClientKey": foreign.key}
        for chosen, remedy in (
            ({}, r"asks? for a client certificate.*ClientCertificate"),
            (other, r"does not know the CA of our ClientCertificate|\(ClientCertificate\), or refuse ours"),
        ):
            stranger = settings(port, orthanc, CaFile=keys.ca.file, **chosen)
            with closing(open_archive("far", stranger)) as archive, pytest.raises(TransientError, match=remedy):
                archive.headers("1.2.3", "1.2.3")
            assert re.search(remedy, find_problem("far", stranger))


@pytest.mark.parametrize("key", ["CaFile", "ClientCertificate", "ClientKey"])
@pytest.mark.parametrize("fault", ["missing", "text"])
def test_a_file_that_cannot_be_used_stops_the_start_and_is_named(
    keys: Keys, tmp_path: Path, key: str, fault: str
) -> None:
    wrong = tmp_path / "wrong.pem"
    if fault == "text":
        wrong.write_text(f"no certificate but {SECRET}")
    files = {"CaFile": keys.ca.file, "ClientCertificate": keys.client.certificate, "ClientKey": keys.client.key}
    chosen = settings(443, None, **(files | {key: wrong}))
    with pytest.raises(ConfigError, match=f"archive far: .*{key}") as error:
        open_archive("far", chosen)
    assert SECRET not in str(error.value)
    assert key in find_problem("far", chosen)


def test_a_certificate_that_vanishes_later_is_no_missing_series(
    orthanc: OrthancServer, keys: Keys, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(keys.ca.file.read_bytes())
    with (
        tls_front(orthanc.port, keys.server) as port,
        closing(open_archive("a", settings(port, orthanc, CaFile=ca))) as a,
    ):
        ca.unlink()
        with pytest.raises(TransientError, match="cannot be read any more"):
            a.headers("1.2.3", "1.2.3")


@dataclass
class Peer:
    """A DICOMweb server that answers nothing, redirects if told to, and keeps the headers of what it was asked."""

    port: int
    location: str
    asked: list[dict[str, str]]


@contextmanager
def peer(location: str = "") -> Iterator[Peer]:
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            asked.append(dict(self.headers.items()))
            self.send_response(302 if location else 200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", "2")
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(b"[]")

        do_POST = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Peer(http.server_address[1], location, asked)
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize("where", ["Token", "TokenFile"])
def test_a_bearer_token_is_sent_by_every_client(keys: Keys, tmp_path: Path, where: str) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    with peer() as plain, tls_front(plain.port, keys.server) as port:
        chosen = settings(port, None, CaFile=keys.ca.file, **{where: SECRET if where == "Token" else file})
        with closing(open_archive("far", chosen)) as archive:
            assert archive.headers("1.2.3", "1.2.3") == ()
            if where == "TokenFile":
                file.write_text("renewed")
            archive.same_series_studies("1.2.3")
        find_problem("far", chosen)
    sent = [headers.get("Authorization") for headers in plain.asked]
    last = "Bearer renewed" if where == "TokenFile" else f"Bearer {SECRET}"
    assert sent == [f"Bearer {SECRET}", last, last]


def test_no_credentials_follow_a_redirect(keys: Keys) -> None:
    with (
        peer() as other,
        peer(f"http://127.0.0.1:{other.port}/dicom-web/") as first,
        tls_front(first.port, keys.server) as port,
    ):
        chosen = settings(port, None, CaFile=keys.ca.file, Token=SECRET)
        with closing(open_archive("far", chosen)) as archive:
            with pytest.raises(TransientError, match="redirects to another address: set Url to that one"):
                archive.headers("1.2.3", "1.2.3")
            with pytest.raises(TransientError, match="redirects"):
                list(archive.retrieve("1.2.3", "1.2.3"))
            with pytest.raises(TransientError, match="redirects"):
                archive.store(ct_series(1)[0])
        assert "answered 302" in find_problem("far", chosen)
    assert first.asked
    assert other.asked == []


@pytest.mark.parametrize("content", ["", "two words", f"{SECRET}\r\nX-Evil: 1", "\u20ac"])
def test_a_token_that_cannot_be_one_is_refused_without_quoting_it(
    keys: Keys, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    caplog.set_level(logging.DEBUG)
    chosen = settings(443, None, CaFile=keys.ca.file, TokenFile=file)
    with pytest.raises(ConfigError, match=r"TokenFile .* holds no bearer token") as error:
        open_archive("far", chosen)
    said = f"{error.value}{find_problem('far', chosen)}{caplog.text}"
    assert SECRET not in said
    assert "two words" not in said


def test_secrets_are_neither_in_texts_nor_in_logs(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with peer() as plain, tls_front(plain.port, keys.server) as port:
        chosen = settings(port, None, Token=SECRET)  # without CaFile: every request fails
        texts = [repr(chosen), str(chosen), chosen.model_dump_json(by_alias=True), find_problem("far", chosen)]
        with closing(open_archive("far", chosen)) as archive:
            with pytest.raises(TransientError) as error:
                archive.headers("1.2.3", "1.2.3")
            texts += [str(error.value), repr(archive)]
    assert SECRET not in "".join(texts) + caplog.text


def test_the_front_door_trusts_the_private_ca_of_its_orthanc(keys: Keys, tmp_path: Path) -> None:
    with front_door(tmp_path, keys.ca) as door:
        (archive,) = door.ask("/enrichment/api/v1/health").json()["archives"]
        assert (archive["name"], archive["reachable"], archive["problem"]) == ("local", True, "")
        assert door.ask("/dicom-web/studies").status_code == 200
        assert door.ask("/dicom-web/studies", auth=WRONG).status_code == 401
