"""`scripts/gpu-check` itself, on the CPU with a network of a few kilobytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks import gpu_check, unet
from tests.benchmarks.gpu_check import Row, Size, main, run

STAGES = (((1, 1, 1), (1, 3, 3)), ((1, 2, 2), (3, 3, 3)))
SMALLEST = Size(unet.Shape((4, 8, 8), 2, STAGES, heads=2), (4, 10, 8), (1.0, 1.0, 1.0), (1.0, 0.9, 0.9))


def test_every_row_is_measured_and_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "FOLDS", 2)
    rows = run(SMALLEST, "cpu", 9, tmp_path)
    assert len(rows) == 2 + 2 * 4 + 1
    assert not [row for row in rows if row.good is False]
    assert sum(row.good is True for row in rows) == 2 + 2 * 2


def test_no_row_begins_when_the_time_is_over(tmp_path: Path) -> None:
    rows = run(SMALLEST, "cpu", 0, tmp_path)
    assert {row.figure for row in rows} == {"not measured: the time is over"}


def test_a_gpu_that_is_not_there_is_a_row(tmp_path: Path) -> None:
    rows = run(SMALLEST, "cuda", 9, tmp_path)
    assert {row.good for row in rows} == {False}
    assert all("Error" in row.figure for row in rows)


@pytest.mark.parametrize(("good", "status"), [(True, 0), (None, 0), (False, 1)])
def test_what_differs_shows_in_table_file_and_status(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    good: bool | None,
    status: int,
) -> None:
    monkeypatch.setattr(gpu_check, "run", lambda *_: [Row("values of a patch", "cuda", "fp16", "0.2", good)])
    monkeypatch.setattr(sys, "argv", ["gpu-check", "--json", str(tmp_path / "found.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert ("DIFFERS" in capsys.readouterr().out) is (status == 1)
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["rows"][0]["good"] is good
    assert {"gpu", "machine", "versions", "commit"} <= told.keys()
