"""Names and times of the source stay what they are in results, however the source wrote them."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO

from orthanc_plugin.results.headers import _sanitised
from orthanc_plugin.results.source_text import plain_text

pytestmark = [
    pytest.mark.filterwarnings("ignore:Unknown encoding"),
    pytest.mark.filterwarnings("ignore:Failed to decode"),
]


def source(charset: bytes, name: bytes) -> Dataset:
    """Read a dataset that was written in implicit VR with these bytes."""
    written = b"\x08\x00\x05\x00" + _value(charset) if charset else b""
    return pydicom.dcmread(DicomBytesIO(written + b"\x10\x00\x10\x00" + _value(name)), force=True)


def _value(value: bytes) -> bytes:
    padded = value + b" " * (len(value) % 2)
    return len(padded).to_bytes(4, "little") + padded


NAMES: dict[str, tuple[bytes, bytes, str]] = {
    # PS3.5 K.2
    "GB 2312": (
        b"\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东",
    ),
    # PS3.5 H.3.1, I.2, J.3
    "Japanese": (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "Korean": (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "UTF-8 that nobody declared": (b"", "Müller^Jürgen".encode(), "Müller^Jürgen"),
    "UTF-8 declared as ASCII": (b"ISO_IR 6", "王^小东".encode(), "王^小东"),
    "UTF-8, unknown term": (b"ISO_IR 999", "Müller^Jürgen".encode(), "Müller^Jürgen"),
    "Latin-1 that nobody declared": (b"", "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
    "Latin-1": (b"ISO_IR 100", "Ã¼^Jürgen".encode("latin-1"), "Ã¼^Jürgen"),
    "bytes of no script": (b"ISO_IR 192", b"Doe^Ja\xff\xfen", "Doe^Ja\ufffd\ufffdn"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_that_of_the_source(name: str) -> None:
    charset, written, wanted = NAMES[name]
    assert _sanitised(source(charset, written), "PatientName") == wanted


def test_a_switch_of_the_script_that_was_not_declared_leaves_no_rest() -> None:
    assert plain_text("Doe^M\x1b$)Axel\x1b(B") == "Doe^Mxel"
    assert plain_text("Doe^\x1bJane") == "Doe^Jane"


@pytest.mark.parametrize(
    ("written", "wanted"), [("235960.999999", "235959.999999"), ("10:20:60", "102059"), ("106000", "")]
)
def test_a_leap_second_is_the_one_before(written: str, wanted: str) -> None:
    ds = Dataset()
    with pydicom.config.disable_value_validation():
        ds.StudyTime = written
    assert _sanitised(ds, "StudyTime") == wanted
