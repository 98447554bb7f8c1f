"""A workflow is interrupted in its own thread only, and the interpreter works on as before."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from orthanc_plugin.jobs.heartbeat import AtWork, InterruptedJob

TRACED = """
import sys
from orthanc_plugin.jobs.heartbeat import AtWork
with AtWork().on("j1"):
    pass
sys.settrace(lambda *_: None)
def function():
    return 1
sys.exit(function() - 1)
"""


def test_a_workflow_is_interrupted_in_its_thread() -> None:
    at_work, started, seen = AtWork(), threading.Event(), []

    def work() -> None:
        try:
            with at_work.on("j1"):
                started.set()
                while True:
                    time.sleep(0.01)
        except InterruptedJob:
            seen.append("interrupted")

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    at_work.interrupt("j2")
    assert at_work.ids() == {"j1"}
    at_work.interrupt("j1")
    thread.join(10)
    assert (seen, at_work.ids()) == (["interrupted"], frozenset())


@pytest.mark.parametrize("times", [200])
def test_an_interrupt_that_comes_late_hits_nothing_else(times: int) -> None:
    at_work, after = AtWork(), 0
    stop = threading.Event()

    def interrupt() -> None:
        while not stop.is_set():
            at_work.interrupt("j1")

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        for _ in range(times):
            try:
                with at_work.on("j1"):
                    time.sleep(0)
            except InterruptedJob:
                pass
            after += 1
            time.sleep(0)  # an interrupt that is still pending would be raised here
    finally:
        stop.set()
        thread.join()
    assert (after, at_work.ids()) == (times, frozenset())


def test_a_process_that_traces_its_code_goes_on_after_a_workflow() -> None:
    # CPython 3.11 hung here while an interrupt was "taken back" with NULL: it looked for it for ever.
    assert subprocess.run([sys.executable, "-c", TRACED], timeout=30, check=False).returncode == 0
