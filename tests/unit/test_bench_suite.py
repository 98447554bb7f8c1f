"""The suite of benchmarks and the comparison of its results."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import compare, suite
from tests.benchmarks.stages import OURS, STAGES, Size, Stage, argmax, growing


def result(directory: Path, name: str, **ratios: float) -> str:
    told = {"commit": "0" * 40, "at": "2026-11-30", "machine": "a machine", "ratios": ratios}
    (directory / name).write_text(json.dumps(told))
    return str(directory / name)


@pytest.mark.parametrize(
    ("after", "status"), [({"SEG": 1.5}, 0), ({"SEG": 1.39}, 1), ({"load": 9.0}, 1), ({"SEG": 2.0, "load": 1.0}, 0)]
)
def test_a_ratio_that_fell_by_more_than_30_percent_or_is_missing_fails(
    tmp_path: Path, after: dict[str, float], status: int
) -> None:
    files = [result(tmp_path, "a", SEG=2.0), result(tmp_path, "b", **after)]
    assert compare.main(files) == status


def test_ratios_are_of_cpu_seconds_else_of_seconds() -> None:
    rows: list[dict[str, Any]] = [
        {"stage": "SEG", "side": OURS, "cpu_s": 2.0, "wall_s": 1.0},
        {"stage": "SEG", "side": "highdicom", "cpu_s": 6.0, "wall_s": 1.0},
        {"stage": "network", "side": OURS, "wall_s": 2.0},
        {"stage": "network", "side": "peer", "wall_s": 3.0},
        {"stage": "load", "side": "peer", "why": "not installed"},
        {"stage": "alone", "side": OURS, "cpu_s": 1.0},
    ]
    assert suite.ratios(rows) == {"SEG / highdicom": 3.0, "network / peer": 1.5}
    assert "| load | peer |  |  |  | not installed |" in suite.table(rows)


def test_a_stage_runs_in_a_process_of_its_own() -> None:
    (row,) = suite.stage_rows("SR", Size.CI)
    assert row["cpu_s"] > 0
    assert row["peak_mib"] > 50


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["sleep", "60"], "not ended after 0 s"),
        (["no-such-program"], "not installed"),
        (["python3", "-c", "raise SystemExit('no room')"], "failed: no room"),
    ],
)
def test_a_peer_that_is_missing_fails_or_does_not_end_is_a_row(command: list[str], why: str) -> None:
    assert suite._asked(command, 5 if "sleep" not in command else 0.2) == (None, why)


def test_what_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "PARITY", Path("no-such-python"))
    monkeypatch.setattr(suite, "in_process", lambda *_: (None, "failed: ImportError"))
    assert suite.framework_rows() == [{"stage": "nnU-Net, small", "side": "nnunetv2", "why": "not installed"}]
    assert suite.stage_rows("SEG", Size.FULL) == [{"stage": "SEG", "side": OURS, "why": "failed: ImportError"}]
    assert suite.growth_rows(["a"]) == [{"stage": "a", "side": OURS, "why": "failed: ImportError"}]


def test_sides_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    stage = Stage(lambda *_: {name: lambda name=name: turns.append(name) for name in (OURS, "peer")})
    found = suite.measured(stage, [], Size.CI, 2)
    assert turns == [OURS, "peer"] * 3
    assert [len(side["cpu_s"]) for side in found["found"].values()] == [2, 2]


def test_every_stage_that_ci_measures_has_a_stated_ratio() -> None:
    stated = json.loads(suite.STATED.read_text())
    assert {name.split(" / ")[0] for name in stated} == {name for name, stage in STAGES.items() if stage.ci}


def test_what_grows_can_be_prepared() -> None:
    names = [name for name, _ in growing()]
    assert len(set(names)) == 12
    with ExitStack() as stack:
        assert set(argmax(Size.CI, stack, 2)) == {OURS, "scipy, as nnU-Net"}


def test_ci_fails_on_a_ratio_that_fell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(suite, "STATED", tmp_path / "stated.json")
    (tmp_path / "stated.json").write_text('{"SEG / highdicom": 2.0}')
    for ratio in (1.41, 1.39):
        monkeypatch.setattr(suite, "ci", lambda ratio=ratio: {"SEG / highdicom": ratio})
        if ratio > 1.4:
            suite._ci(write=False)
        else:
            with pytest.raises(SystemExit, match="SEG / highdicom"):
                suite._ci(write=False)
