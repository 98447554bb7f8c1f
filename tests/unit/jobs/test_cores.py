"""A worker leaves a core to Orthanc: every pool of threads and every child keeps to the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from orthanc_plugin.jobs.cores import NICENESS, POOLS

MINE = sorted(os.sched_getaffinity(0))
LOOK = """
import json, os, subprocess, sys
{before}
from orthanc_plugin.jobs.cores import POOLS, be_nice, limit_cores
cores = limit_cores({asked})
be_nice()
if {again} and "again" not in os.environ:
    os.environ["again"] = "yes"
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[2]])
import numpy
from orthanc_plugin.inference.providers import usable_threads
from orthanc_plugin.inference.nnunet import resample
from orthanc_plugin.series import read
numpy.ones((300, 300)) @ numpy.ones((300, 300))
threads = [int(name) for name in os.listdir("/proc/self/task")]
child = subprocess.run([sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"], capture_output=True)
print(json.dumps({{
    "cores": cores,
    "threads": [sorted(os.sched_getaffinity(thread)) for thread in threads],
    "nice": [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads],
    "child": json.loads(child.stdout),
    "pools": {{name: os.environ[name] for name in POOLS}},
    "sizes": [usable_threads(), read._THREADS, resample._THREADS],
}}))
"""


def look(asked: int, before: str = "", *, again: bool = False, **environment: str) -> Mapping[str, list[int]]:
    """Limit the cores of a new process; return what its threads and a child of it may use."""
    script = LOOK.format(asked=asked, before=before, again=again)
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    found: Mapping[str, list[int]] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("before", ["", "import numpy; numpy.ones((300, 300)) @ numpy.ones((300, 300))"])
def test_by_default_a_worker_leaves_one_core(before: str) -> None:
    found, cores = look(0, before), MINE[1:] or MINE
    assert found["cores"] == found["child"] == cores
    assert found["threads"] == [cores] * len(found["threads"])
    assert min(found["nice"]) >= NICENESS
    assert max(found["sizes"]) <= len(cores)
    assert set(found["pools"].values()) == {str(len(cores))}  # type: ignore[attr-defined]


def test_a_worker_that_replaces_itself_keeps_its_cores() -> None:
    assert look(0, again=True)["cores"] == (MINE[1:] or MINE)


@pytest.mark.parametrize("asked", [1, len(MINE), 4096])
def test_a_site_may_say_how_many_cores_workers_have(asked: int) -> None:
    assert look(asked)["cores"] == MINE[-asked:]


def test_an_operators_own_limit_of_a_pool_stays() -> None:
    assert look(0, OMP_NUM_THREADS="1")["pools"]["OMP_NUM_THREADS"] == "1"  # type: ignore[call-overload]
    assert len(POOLS) == len(set(POOLS))
