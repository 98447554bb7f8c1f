"""The cores that a worker may use: one is left to Orthanc, and on the others Orthanc comes first.

Call `limit_cores` before the libraries are loaded that compute: their pools of threads (ONNX Runtime, OpenMP, BLAS,
SimpleITK, decoders) are as large as the cores that the process has at that moment. Both functions reach threads that
run already; child processes and later threads inherit both limits.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICENESS = 10
"""An Orthanc on the same cores comes first."""

POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
"""Environment variables that limit pools of threads; an operator's own value stays."""
_GIVEN = "ORTHANC_ENRICHMENT_CORES"
"""The cores that the process was given. A worker that replaces itself has the limit already, but not this set."""


def limit_cores(asked: int) -> tuple[int, ...]:
    """Bind this process to some of its cores, and return them.

    Parameters
    ----------
    asked : int
        How many; 0 for all but one, which is left to Orthanc. One core remains in any case.
    """
    given = _given()
    count = min(asked, len(given)) if asked else max(1, len(given) - 1)
    cores = given[-count:]
    os.environ[_GIVEN] = ",".join(map(str, given))
    for name in POOLS:
        os.environ.setdefault(name, str(count))
    for thread in _threads():
        with suppress(OSError):  # the thread has ended, or the container forbids it
            os.sched_setaffinity(thread, cores)
    return cores


def be_nice() -> None:
    """Give way to others: Linux keeps a niceness for each thread."""
    for thread in _threads():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def _given() -> tuple[int, ...]:
    now = os.sched_getaffinity(0)
    before = {int(core) for core in os.environ.get(_GIVEN, "").split(",") if core.isdigit()}
    return tuple(sorted(before if now <= before else now))


def _threads() -> list[int]:
    return [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
