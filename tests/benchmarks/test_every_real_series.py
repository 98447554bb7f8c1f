"""Every series of the real CT through the whole program: done with objects a validator accepts, or a reason.

Not part of `make test` (about a minute and a half on 2 cores); test_conformance.py holds the same on shortened series.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from orthanc_plugin.errors import Refusal
from tests.support.cases.realct import real_ct

LOOSE_MATCH = dict.fromkeys(("Slices", "Spacing", "TimePoints", "Axial")) | {"ExcludeKinds": []}
"""Whatever is CT reaches the loader, so that it is the loader which refuses."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, object]], Path]:
    folder = tmp_path_factory.mktemp("every")
    section = {"Rules": [{"Name": "loose", "Match": LOOSE_MATCH}]}
    (folder / "orthanc.json").write_text(json.dumps({"Enrichment": section}))
    options = ["--out", str(folder / "out"), "--config", str(folder / "orthanc.json"), "--json"]
    command = [sys.executable, "-m", "orthanc_plugin.cli", "run", str(real_ct(".")), *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout), folder / "out"


@pytest.mark.timeout(900)
def test_every_series_is_done_or_skipped_with_a_reason(results: tuple[list[dict[str, object]], Path]) -> None:
    outcomes, _ = results
    print("\n", Counter((outcome["state"], outcome["reason"]) for outcome in outcomes))
    assert {outcome["state"] for outcome in outcomes} == {"done", "skipped"}
    assert {outcome["reason"] for outcome in outcomes if outcome["state"] == "skipped"} <= {*map(str, Refusal)}


@pytest.mark.timeout(900)
def test_the_validator_has_no_error_for_any_object(results: tuple[list[dict[str, object]], Path]) -> None:
    _, out = results
    validator = str(Path(sys.executable).with_name("dciodvfy"))
    files = sorted(out.glob("*.dcm"))
    assert len(files) >= 6
    for file in files:
        said = subprocess.run([validator, "-new", str(file)], capture_output=True, check=False)
        text = (said.stdout + said.stderr).decode(errors="replace")
        assert said.returncode == 0, text
        assert [line for line in text.splitlines() if line.startswith("Error")] == [], file.name
