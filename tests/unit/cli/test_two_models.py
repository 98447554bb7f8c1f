"""What commands print of a job in which two models found the same structure: neither hides the other."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from orthanc_plugin.archive.folder import FolderArchive, FolderSeries
from orthanc_plugin.cli import demo_run, run
from orthanc_plugin.domain.job import JobState, StageOutcome, StageView
from orthanc_plugin.domain.plan import Output, StoredObject

STAGES = (
    StageView("segment chest_structures", 1.0, 1.0, "cpu", {"lung_left": 10.0, "bone": 5.0}),
    StageView("segment thorax_standin", 1.0, 1.0, "cpu", {"lung_left": 11.0}),
    StageView("check", 1.0, 1.0),
)


def test_an_outcome_keeps_volumes_and_files_of_both() -> None:
    stored = [StoredObject(Output.SEG, "1", "1.2", f"2.25.{n}", f"2.25.1{n}", False) for n in range(2)]
    checks = StoredObject(Output.CHECKS, "1", "1.2", "2.25.3", "2.25.13", False)
    outcomes = tuple(map(StageOutcome, STAGES, (*stored, checks)))
    read = {"damaged": (), "skipped": (), "unread_of": lambda _: ()}
    archive = SimpleNamespace(stored_file=lambda uid: Path(f"{uid}.dcm"), **read)
    series = FolderSeries("1.2", "1.2.3", "", "CT", "", ())
    outcome = run._outcome(series, cast(FolderArchive, archive), JobState.DONE, "", "", "all", outcomes)
    assert outcome.volumes_ml == {
        "lung_left (chest_structures)": 10.0, "bone": 5.0, "lung_left (thorax_standin)": 11.0,
    }  # fmt: skip
    assert outcome.files == {
        "seg (chest_structures)": "2.25.10.dcm", "seg (thorax_standin)": "2.25.11.dcm", "checks": "2.25.13.dcm",
    }  # fmt: skip


def test_the_demo_names_the_model_in_its_table() -> None:
    console = Console(record=True, width=100, file=StringIO())
    stages: list[dict[str, Any]] = [
        {"name": s.name, "seconds": s.seconds, "peak_mib": s.peak_mib, "volumes_ml": dict(s.volumes_ml), "notes": []}
        for s in STAGES
    ]
    demo_run._show_job({"stages": stages, "location": None}, console)
    said = console.export_text()
    assert "lung_left (chest_structures)" in said
    assert "lung_left (thorax_standin)" in said
    assert "bone " in said
