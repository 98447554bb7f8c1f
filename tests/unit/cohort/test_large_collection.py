"""A large collection answers at once: what need not be done for all its series is not done."""

from __future__ import annotations

from pathlib import Path

import httpx
import pyarrow
import pytest

from orthanc_plugin.cli.desk import Desk
from orthanc_plugin.cli.main import EXIT_CONFIG, EXIT_FAILED, main
from orthanc_plugin.cohort import idc
from orthanc_plugin.cohort.idc import COLUMNS, Wanted, table_of
from orthanc_plugin.errors import ConfigError

COUNT = 20_000


def _table(wanted: Wanted) -> pyarrow.Table:
    numbers = {"instanceCount": 1, "series_size_MB": 0.5}
    columns = {name: [numbers.get(name, "a")] * COUNT for name in (*COLUMNS, "aws_bucket")}
    return pyarrow.table(columns)


def test_an_empty_question_is_refused_before_the_index_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idc, "_index_file", lambda: pytest.fail("the index was looked for"))
    with pytest.raises(ConfigError, match="name a collection"):
        table_of(Wanted(limit=0))
    assert main(["fetch", "idc", "--limit", "0"]) == EXIT_CONFIG


def test_without_a_network_a_large_collection_is_told_and_nothing_recorded_as_stored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no network")

    monkeypatch.setattr(idc, "table_of", _table)
    monkeypatch.setattr(httpx, "head", refuse)
    audited: list[str] = []
    monkeypatch.setattr(Desk, "acts", lambda *_, **__: audited.append("act"))
    arguments = ["--folder", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main(["fetch", "idc", "--collection", "nlst", *arguments]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert f"{COUNT:,} series, 10.00 GB" in told
    assert "cannot be reached" in told
    assert not audited
