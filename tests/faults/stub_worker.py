"""A worker whose jobs have three stages without models and archives, for faults of the engine and of the database.

Usage: python stub_worker.py SECTION.json SLOT PACE.json. The section has one key more, "Stub": {"Stores": FILE,
"Seconds": of the second stage, "WaitsFor": what that says, "Fails": whether the last one does}. Each stage appends a
line "job stage pid" to the file when it ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from dbos import DBOS

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import EnrichJob, Found, StageOutcome
from orthanc_plugin.jobs import worker, workflow
from orthanc_plugin.jobs.sessions import Sessions
from orthanc_plugin.jobs.watch import Pace
from orthanc_plugin.jobs.workflow import Retries
from orthanc_plugin.logs import configure_logging

STAGES = ("retrieve", "segment stub", "measure stub")


class StubSession:
    """A session that holds nothing."""

    def close(self) -> None:
        """Do nothing."""


def stages(stub: Mapping[str, object], session: object, run: Callable[..., StageOutcome]) -> Iterator[StageOutcome]:
    for name in STAGES:
        yield run(name, partial(_stage, stub, name))


def _stage(stub: Mapping[str, object], name: str) -> Found:
    began = time.monotonic()
    _note(stub, name, "begins")
    if name == STAGES[1] and stub["WaitsFor"]:
        workflow.tell_wait(str(stub["WaitsFor"]))
    while name == STAGES[1] and time.monotonic() < began + float(str(stub["Seconds"])):
        time.sleep(0.05)
    _note(stub, name, "ends")
    if name == STAGES[2] and stub["Fails"]:
        raise KeyError("of a library")
    return Found()


def _note(stub: Mapping[str, object], name: str, what: str) -> None:
    line = f"{DBOS.workflow_id},{name},{what},{os.getpid()},{time.time():.3f}\n"
    descriptor = os.open(str(stub["Stores"]), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def main(section_file: Path, slot: int, pace_file: Path) -> None:
    section = json.loads(section_file.read_text())
    stub = section.pop("Stub")

    def opened(sessions: Sessions, job: EnrichJob, deaths: int = 0) -> StubSession:
        return StubSession()

    workflow.stages_of = partial(stages, stub)  # type: ignore[assignment]
    Sessions.open = opened  # type: ignore[method-assign, assignment]
    configuration = parse_section(section, {})
    configure_logging(None, form=configuration.log.format)
    pace = Pace(**json.loads(pace_file.read_text()))
    worker.run_worker(configuration, slot, True, Retries(tries=3, first_wait_s=0.2), pace)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
