"""Injection into searches and tables, bodies that grow or nest without end."""

from __future__ import annotations

import csv
import io
import json
import resource
import zlib
from collections.abc import Iterator
from dataclasses import fields

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian

from orthanc_plugin.results.sr.radiomics_table import TableRow, to_csv
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door

API = "/enrichment/api/v1"
SQL = [
    "' OR '1'='1",
    "1); DROP TABLE enrichment_decisions; --",
    "%",
    "_",
    "\\",
    "' UNION SELECT 1 --",
    "*",
    "\u02bc OR 1=1",
    "%25",
]
FILTERS = ["archive", "study", "series", "reason", "text", "rule", "model"]
FORMULAS = ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://evil.example")']


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        finish(door.queue, enqueue(door.queue, "1.2.100"))
        yield door


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("text", SQL)
def test_a_filter_is_a_value_and_no_command(door: FrontDoor, name: str, text: str) -> None:
    for path in ("series", "jobs"):
        answer = door.ask(f"{API}/{path}", params={name: text})
        assert answer.status_code in (200, 400)
        if answer.status_code == 200:
            assert answer.json()[path] == []
    assert len(door.ask(f"{API}/series").json()["series"]) == 1


@pytest.mark.parametrize("text", SQL)
def test_a_path_and_a_body_are_values_too(door: FrontDoor, text: str) -> None:
    assert door.ask(f"{API}/retry", "POST", params={"reason": text, "text": text}).json() == {"jobs": []}
    acted = door.ask(f"{API}/series/act", "POST", json={"act": "retry", "series": [f"local/{text}"]})
    assert acted.json()["done"] == 0
    searched = door.ask(f"{API}/series/act", "POST", json={"act": "retry", "search": {"text": text}})
    assert searched.json()["done"] == 0
    assert len(door.ask(f"{API}/series").json()["series"]) == 1


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_is_a_formula(text: str) -> None:
    row = TableRow(*[text if field.type == "str" else None for field in fields(TableRow)])  # type: ignore[arg-type]
    cells = next(csv.reader(io.StringIO(to_csv([row]).partition("\n")[2])))
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.parametrize("shape", ["[", '{"a":'])
def test_a_body_that_nests_without_end_is_refused(door: FrontDoor, shape: str, depth: int) -> None:
    for path in ("patients", "find", "series/act", "backfills", "rules/compare"):
        assert door.ask(f"{API}/{path}", "POST", content=shape * depth).status_code in (400, 413)


def test_a_body_that_is_too_long_is_refused(door: FrontDoor) -> None:
    for path in ("patients", "find", "series/act"):
        assert door.ask(f"{API}/{path}", "POST", content=b" " * (5 << 20)).status_code == 413


def test_a_compressed_body_is_not_unpacked(door: FrontDoor) -> None:
    bomb = zlib.compress(b"[" * (64 << 20), 9)
    answer = door.ask(f"{API}/series/act", "POST", content=bomb, headers={"Content-Encoding": "deflate"})
    assert answer.status_code == 400


def test_a_file_that_inflates_is_not_read(door: FrontDoor) -> None:
    """300 KB that would become 300 MB."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = DicomBytesIO()
    head.write(bytes(128) + b"DICM")
    write_file_meta_info(head, meta)
    inner = b"\x09\x00\x10\x00OB\x00\x00" + (300 << 20).to_bytes(4, "little") + bytes(300 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = head.getvalue() + packer.compress(inner) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del inner
    answer = door.ask("/enrichment/rules/files", "POST", content=len(bomb).to_bytes(4, "little") + bomb)
    assert answer.status_code == 200
    assert "1.2.3" not in answer.text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("length", [0, 1, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_length_that_lies_takes_no_memory(door: FrontDoor, length: int) -> None:
    answer = door.ask("/enrichment/rules/files", "POST", content=length.to_bytes(4, "little") + b"x")
    assert answer.status_code in (200, 400)


def test_numbers_out_of_range_are_refused(door: FrontDoor) -> None:
    for name in ("limit", "offset"):
        for value in ("-1", "1e9", "99999999999999999999999", "NaN", "0x10", "\u0661"):
            assert door.ask(f"{API}/series", params={name: value}).status_code in (200, 400)
    body = json.dumps({"archive": "local", "studies": ["1.2"], "limit": 10**40})
    assert door.ask(f"{API}/backfills", "POST", content=body).status_code == 400


def test_a_uid_in_a_body_is_a_uid(door: FrontDoor) -> None:
    ds = Dataset()
    ds.StudyInstanceUID = "1.2"
    for uid in ("../../x", "1.2\n", "1" * 65, "", "1.2\\1.3", "<script>"):
        body = {"archive": "local", "study_instance_uid": uid, "series_instance_uid": uid}
        assert door.ask(f"{API}/patients", "POST", json=body).status_code in (400, 404)
