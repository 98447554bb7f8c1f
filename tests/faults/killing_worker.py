"""A worker that SIGKILLs itself once, at the end of a given step: the result is made but not yet recorded.

Usage: python killing_worker.py SECTION.json STEP MARKER. With STEP "-" it
never does. The file MARKER shows that it happened.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import StageOutcome
from orthanc_plugin.jobs import stage, workflow
from orthanc_plugin.jobs.worker import run_worker
from orthanc_plugin.jobs.workflow import Retries


def main(section: Path, step: str, marker: Path) -> None:
    real_stage, real_close = stage.run_stage, workflow.Steps.close

    def die_once(name: str) -> None:
        if name == step and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def run_stage(name: str, *arguments: object, **options: object) -> StageOutcome:
        outcome = real_stage(name, *arguments, **options)  # type: ignore[arg-type]
        die_once(name.split()[0])
        return outcome

    def close(*arguments: object) -> None:
        real_close(*arguments)  # type: ignore[arg-type]
        die_once("close")

    workflow.run_stage = run_stage  # type: ignore[assignment]
    workflow.Steps.close = close  # type: ignore[method-assign, assignment]
    run_worker(parse_section(json.loads(section.read_text()), {}), 0, True, Retries(tries=3, first_wait_s=0.2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
