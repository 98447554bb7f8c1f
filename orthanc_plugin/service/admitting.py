"""The admission loop: one thread that lets admission decide, round after round.

An error does not end the loop. The log and the health route show the error, and the next round tries again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from orthanc_plugin.service.incident import describe

_log = logging.getLogger(__name__)

ROUND_S = 0.5


class Admits(Protocol):
    """The part of `jobs.admission.Admission` that the loop uses."""

    @property
    def waiting(self) -> int:
        """Number of series without a decision."""
        ...

    def tick(self, now: float) -> None:
        """Decide on the series that are ready; `now` is in monotonic seconds."""
        ...


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """State of the loop for the health route. `error` is that of the last round, or empty."""

    waiting_series: int
    last_round: datetime | None
    error: str


class AdmissionLoop:
    """Drives an admission until the stop event is set.

    Parameters
    ----------
    admission : Admits
        Only the thread of the loop calls `tick`.
    clock : callable
        Time of day, UTC.
    """

    def __init__(self, admission: Admits, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._admission, self._clock = admission, clock
        self._last_round: datetime | None = None
        self._error = ""

    def state(self) -> AdmissionState:
        """Return the state of the loop. Any thread may call this."""
        return AdmissionState(self._admission.waiting, self._last_round, self._error)

    def run(self, stopping: threading.Event) -> None:
        """Let admission decide twice a second until `stopping` is set."""
        while not stopping.is_set():
            error = self._round()
            if error and error != self._error:  # log a lasting error once, not twice a second
                _log.error("admission: %s", error)
            self._error, self._last_round = error, self._clock()
            stopping.wait(ROUND_S)

    def _round(self) -> str:
        """Run one round and return its error, or an empty text. This thread's border: it catches every exception."""
        try:
            self._admission.tick(time.monotonic())
        except Exception as error:
            return describe(error)
        return ""
