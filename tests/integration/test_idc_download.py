"""Series of IDC over HTTP: the real downloader (idc-index with s5cmd) against a small S3 of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import idc_index.index
import pytest

from orthanc_plugin.archive.tree import open_tree
from orthanc_plugin.cli.main import EXIT_DONE, EXIT_FAILED, main
from orthanc_plugin.cohort import idc
from orthanc_plugin.cohort.idc import DONE, Wanted, fetch, listed_in, table_of
from orthanc_plugin.errors import IncompleteError
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.cohort_case import write

pytestmark = pytest.mark.timeout(200)

_LIST = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>bucket</Name><Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
    "<IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
)
_ITEM = (
    "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
    '<ETag>"0"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>'
)


class Bucket(ThreadingHTTPServer):
    """Any prefix holds the same files; `missing` of them are refused."""

    def __init__(self, files: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files, self.missing = files, 0
        self.given: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Bucket

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        if "prefix" in asked:
            (prefix,) = asked["prefix"]
            items = "".join(_ITEM.format(key=f"{prefix}{n}.dcm", size=len(f)) for n, f in enumerate(self.server.files))
            self._answer(200, _LIST.format(prefix=prefix, count=len(self.server.files), items=items).encode())
            return
        number = int(Path(parts.path).stem)
        if number >= len(self.server.files) - self.server.missing:
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return
        self.server.given.append(parts.path)
        self._answer(200, self.server.files[number])

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml" if body[:1] == b"<" else "application/dicom")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket with a CT of as many slices as a small series of the index has."""
    written = write(encode_phantom(make_phantom((20, 16, 16), (5, 20, 20))), tmp_path / "source")
    with Bucket([file.read_bytes() for file in sorted(written.iterdir())]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(idc_index.index, "aws_endpoint_url", server.url)
        monkeypatch.setattr(idc, "_HOST", f"{server.url}/{{}}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server
        server.shutdown()
        thread.join()


WANTED = Wanted(where="Modality = 'CT' AND instanceCount = 20 AND aws_bucket = 'idc-open-data'", limit=2)


def test_a_download_that_breaks_off_goes_on_without_what_is_done(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    archive, cache = open_tree("folder", tmp_path / "archive"), tmp_path / "cache"
    series = listed_in(table_of(WANTED))
    bucket.missing = 3
    with pytest.raises(IncompleteError, match="17 of 20 files"):
        fetch(series, cache, archive, "archive a")
    assert not [*(tmp_path / "archive").rglob("*.dcm")]
    bucket.missing = 0
    told: list[int] = []
    assert fetch(series, cache, archive, "archive a", progress=told.append) == 2
    assert told == [0, 1, 2]
    assert len([*(tmp_path / "archive").rglob("*.dcm")]) == 20
    assert [file.name for file in cache.iterdir()] == [DONE]
    given = len(bucket.given)
    assert fetch(series, cache, archive, "archive a") == 0
    assert len(bucket.given) == given


def test_the_command_fetches_and_what_is_done_needs_no_network(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fetch", "idc", "--where", WANTED.where, "--limit", "1", "--folder", str(tmp_path / "out")]
    words += ["--cache", str(tmp_path / "cache")]
    assert main(words) == EXIT_DONE
    assert "fetched 1 series; 0 were there" in capsys.readouterr().out
    monkeypatch.setattr(idc, "_HOST", "http://127.0.0.1:9/{}")
    assert main(words) == EXIT_DONE
    assert "fetched 0 series; 1 were there" in capsys.readouterr().out
    assert main([*words[:4], "--limit", "2", *words[6:]]) == EXIT_FAILED
    assert "cannot be reached" in capsys.readouterr().err
