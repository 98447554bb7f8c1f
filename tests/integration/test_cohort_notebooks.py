"""Every notebook runs from top to bottom, each in a process of its own, and keeps no output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cases.cohort_case import shared
from tests.support.cases.realct import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_S = 240
PUBLISHED = "sci_data_2024/segmentation_metrics_expert_vs_ai.csv"
_RUN = """
import sys
import nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(book, timeout=200, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
print(sum(len(cell.get("outputs", ())) for cell in book.cells))
"""


def test_there_are_notebooks() -> None:
    assert [file.stem for file in NOTEBOOKS] == [
        "ai_against_expert", "explore_archive", "radiomics_model", "study_figures"
    ]  # fmt: skip


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "NOTEBOOK_WORK": str(tmp_path / "work"),
        "NOTEBOOK_METRICS": str(shared(PUBLISHED, folder="reference")),
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    environment.pop("ENRICHMENT_CONFIG", None)
    command = [sys.executable, "-W", "ignore", "-c", _RUN, str(notebook), str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert int(ended.stdout.split()[-1]) > 0


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_holds_no_output(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
