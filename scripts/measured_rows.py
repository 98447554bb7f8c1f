"""Measure case by case into a file of JSON lines: a run that was stopped goes on, and a limit of minutes ends it.

A line holds one case, the digest of the model that was measured, and the rows of the case. Lines of another model do
not count, so a new model is measured anew.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

Row = dict[str, Any]


def measured(
    file: Path, model: str, cases: Mapping[str, Callable[[], Sequence[Row]]], minutes: float | None = None
) -> tuple[list[Row], bool]:
    """Measure the cases that the file does not hold yet.

    Parameters
    ----------
    file : Path
        The JSON lines; made if it is not there.
    model : str
        Digest of the model.
    cases : mapping
        The name of each case, and what measures it.
    minutes : float, optional
        No case begins after so many.

    Returns
    -------
    list of dict, bool
        Rows of all cases measured so far, in the order of `cases`, and whether that is all of them.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()] if file.exists() else []
    done = {line["case"]: line["rows"] for line in lines if line["model"] == model}
    end = None if minutes is None else time.monotonic() + 60 * minutes
    waiting = [name for name in cases if name not in done]
    for name in track(waiting, description="cases", disable=not sys.stderr.isatty()):
        if end is not None and time.monotonic() > end:
            break
        done[name] = list(cases[name]())
        with file.open("a") as out:
            out.write(json.dumps({"case": name, "model": model, "rows": done[name]}) + "\n")
        sys.stderr.write(f"{len(done)} of {len(cases)}: {name}\n")
    left = [name for name in cases if name not in done]
    if left:
        sys.stderr.write(f"{len(left)} cases are left; the same command goes on with them\n")
    return [row for name in cases if name in done for row in done[name]], not left
