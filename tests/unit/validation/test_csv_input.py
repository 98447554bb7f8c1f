"""Tables that people write by hand, as Excel and editors leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orthanc_plugin.errors import ConfigError
from orthanc_plugin.validation.csv_input import read_csv


@pytest.mark.parametrize(
    "text",
    ["a,b,c\n1, 2 ,3\n4\n", "\ufeffb,a\r\n2,1\r\n,4\r\n", 'a,b\r"1","2"\r4,\r'],
    ids=["line that ends early", "Excel", "old Macintosh"],
)
def test_rows_have_the_columns_that_are_asked_for(text: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(text.encode())
    assert read_csv(file, "table", ("a", "b")) == [{"a": "1", "b": "2"}, {"a": "4", "b": ""}]


def test_a_cell_may_hold_lines_and_odd_separators(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('a,b\n"one\ntwo\u2028three",x\n')
    assert read_csv(file, "table", ("a", "b")) == [{"a": "one\ntwo\u2028three", "b": "x"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the table t.csv must be CSV with the columns a and b"),
        (b"a,b\n", "must be CSV with the columns"),
        (b"a;b\n1;2\n", "must be CSV with the columns"),
        (b"a,b\n\xff,1\n", "the table t.csv cannot be read: UnicodeDecodeError"),
        (b'a,b\n"' + b"x" * 200_000 + b'",1\n', "cannot be read: Error"),
    ],
)
def test_what_is_no_such_table_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_csv(file, "table", ("a", "b"))
    with pytest.raises(ConfigError, match="cannot be read: FileNotFoundError"):
        read_csv(tmp_path / "other.csv", "table", ("a", "b"))
