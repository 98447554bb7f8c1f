"""Local workers: one process per slot, kept alive until the service ends.

A worker that dies is started again in the same slot: it keeps its executor id, so its job resumes. The stdin of each
worker is a pipe from this process. However the service ends, the worker then reads end-of-file and stops.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0
STEADY_S = 60.0
"""A worker that ran this long starts again with the first delay."""
ASKED_S, TERMINATED_S = 4.0, 2.0
"""Wait after end-of-file, then after SIGTERM. Both fit in the ten seconds in which the service must stop."""
_LOOK_EVERY_S = 0.25
_LOG_LIMIT_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class WorkerState:
    """State of one slot for the health route. `last_exit` is negative for a signal."""

    slot: int
    pid: int | None
    restarts: int
    last_exit: int | None


class _Slot:
    """One worker with its pipe and its delays."""

    def __init__(self, number: int, command: Sequence[str], greeting: bytes, log: Path) -> None:
        self.number, self._command, self._greeting, self._log_file = number, command, greeting, log
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._due = 0.0
        self._delay = FIRST_DELAY_S
        self._starts = 0
        self._last_exit: int | None = None

    def state(self) -> WorkerState:
        process = self._process
        return WorkerState(self.number, process.pid if process else None, max(0, self._starts - 1), self._last_exit)

    def look(self, now: float) -> None:
        """Notice a worker that ended, and start it again when its delay is over."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._ended(code, now)
        if self._process is None and now >= self._due:
            self._start(now)

    def _start(self, now: float) -> None:
        if self._log_file.exists() and self._log_file.stat().st_size > _LOG_LIMIT_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        self._started, self._starts = now, self._starts + 1
        _log.info("worker %d started, pid %d", self.number, self._process.pid)
        self._send_greeting()

    def _send_greeting(self) -> None:
        pipe = self._process.stdin if self._process else None
        try:
            if pipe:
                pipe.write(self._greeting)
                pipe.flush()
        except BrokenPipeError:
            _log.warning("worker %d ended before it read its configuration", self.number)

    def _ended(self, code: int, now: float) -> None:
        self._last_exit = code
        self._close_pipe()
        self._process = None
        if now - self._started >= STEADY_S:
            self._delay = FIRST_DELAY_S
        _log.warning("worker %d ended (%d); it starts again in %.0f s", self.number, code, self._delay)
        self._due = now + self._delay
        self._delay = min(LONGEST_DELAY_S, self._delay * 2)

    def _close_pipe(self) -> None:
        if self._process and self._process.stdin:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                _log.debug("worker %d had ended before its pipe was closed", self.number)

    def ask_to_stop(self) -> None:
        """Close the pipe: end-of-file asks the worker to stop."""
        self._close_pipe()

    def wait(self, deadline: float) -> bool:
        """Wait until the deadline, and tell whether the worker has ended."""
        if self._process is None:
            return True
        try:
            self._last_exit = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        self._process = None
        return True

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        if self._process:
            _log.warning("worker %d did not stop in time; killed", self.number)
            self._process.kill()
            self._process.wait()
            self._process = None


class Supervisor:
    """Keeps `count` workers alive until the stop event is set.

    Parameters
    ----------
    count : int
        Number of slots. Slots are numbered from 0.
    command : callable
        Returns the command line of the worker in a slot.
    greeting : bytes
        Written to the stdin of each worker, which then stays open.
    log_directory : Path
        Folder for `worker-<slot>.log`, the output of each worker.
    """

    def __init__(
        self, count: int, command: Callable[[int], Sequence[str]], greeting: bytes, log_directory: Path
    ) -> None:
        self._slots = tuple(
            _Slot(number, command(number), greeting, log_directory / f"worker-{number}.log") for number in range(count)
        )

    def states(self) -> tuple[WorkerState, ...]:
        """Return the state of each slot. Any thread may call this."""
        return tuple(slot.state() for slot in self._slots)

    def run(self, stopping: threading.Event) -> None:
        """Watch the workers until `stopping` is set, then end them within eight seconds."""
        try:
            while not stopping.is_set():
                self._look()
                stopping.wait(_LOOK_EVERY_S)
        finally:
            self._stop()

    def _look(self) -> None:
        for slot in self._slots:
            try:
                slot.look(time.monotonic())
            except OSError as error:  # no memory or no process now: the next look tries again
                _log.error("worker %d could not be started: %s", slot.number, error.strerror)

    def _stop(self) -> None:
        for slot in self._slots:
            slot.ask_to_stop()
        for slot in self._left(ASKED_S):
            slot.terminate()
        for slot in self._left(TERMINATED_S):
            slot.kill()

    def _left(self, within_s: float) -> list[_Slot]:
        deadline = time.monotonic() + within_s
        return [slot for slot in self._slots if not slot.wait(deadline)]
