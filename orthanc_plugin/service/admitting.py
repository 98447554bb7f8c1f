"""The admission loop: one thread that lets admission decide, again and again.

Nothing that goes wrong in a round ends it: the error is logged and shown by the health route, and the next round
tries again.
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
    """What the loop needs of `jobs.admission.Admission`."""

    @property
    def waiting(self) -> int:
        """Number of series that wait for their decision."""
        ...

    def tick(self, now: float) -> None:
        """Decide on what is ready; `now` in monotonic seconds."""
        ...


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """How the loop does, for the health route. `error`: of the last round, empty if it went well."""

    waiting_series: int
    last_round: datetime | None
    error: str


class AdmissionLoop:
    """Drives an admission until it is told to stop.

    Parameters
    ----------
    admission : Admits
        Ticked by the loop's thread only.
    clock : callable
        Time of day, UTC.
    """

    def __init__(self, admission: Admits, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._admission, self._clock = admission, clock
        self._last_round: datetime | None = None
        self._error = ""

    def state(self) -> AdmissionState:
        """How the loop does; safe from any thread."""
        return AdmissionState(self._admission.waiting, self._last_round, self._error)

    def run(self, stopping: threading.Event) -> None:
        """Let admission decide, twice a second, until `stopping`."""
        while not stopping.is_set():
            error = self._round()
            if error and error != self._error:  # a trouble that lasts is logged once, not twice a second
                _log.error("admission: %s", error)
            self._error, self._last_round = error, self._clock()
            stopping.wait(ROUND_S)

    def _round(self) -> str:
        """What went wrong, if anything. The border of this thread: every exception is caught here."""
        try:
            self._admission.tick(time.monotonic())
        except Exception as error:
            return describe(error)
        return ""
