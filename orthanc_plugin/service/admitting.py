"""The admission loop: threads that let admissions decide, round after round.

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

from orthanc_plugin.logs import describe

_log = logging.getLogger(__name__)

ROUND_S = 0.5


class Admits(Protocol):
    """The part of `jobs.admission.Admission` that the loop uses."""

    @property
    def waiting(self) -> int:
        """Number of series without a decision."""
        ...

    @property
    def held_up(self) -> tuple[str, ...]:
        """Why series wait that could not be looked at."""
        ...

    def tick(self, now: float) -> None:
        """Decide on the series that are ready; `now` is in monotonic seconds."""
        ...


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """State of the loop for the health route. `error` is that of the last round, or empty.

    held_up: why series wait that could not be looked at.
    """

    waiting_series: int
    last_round: datetime | None
    error: str
    held_up: tuple[str, ...] = ()


class AdmissionLoop:
    """Drives admissions, each in a thread of its own, until the stop event is set.

    Parameters
    ----------
    admissions : Admits
        Only the loop calls their `tick`. The first runs in the thread that calls `run`.
    clock : callable
        Time of day, UTC.
    """

    def __init__(self, *admissions: Admits, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._admissions, self._clock = admissions, clock
        self._last_round: datetime | None = None
        self._errors = [""] * len(admissions)

    def state(self) -> AdmissionState:
        """Return the state of the loop. Any thread may call this."""
        errors = dict.fromkeys(error for error in self._errors if error)
        waiting = sum(admission.waiting for admission in self._admissions)
        held_up = tuple(why for admission in self._admissions for why in admission.held_up)
        return AdmissionState(waiting, self._last_round, "; ".join(errors), held_up)

    def run(self, stopping: threading.Event) -> None:
        """Let each admission decide twice a second until `stopping` is set."""
        for number in range(1, len(self._admissions)):
            name = f"admission {number}"
            threading.Thread(target=self._drive, args=(number, stopping), name=name, daemon=True).start()
        self._drive(0, stopping)

    def _drive(self, number: int, stopping: threading.Event) -> None:
        while not stopping.is_set():
            error = self._round(self._admissions[number])
            if error and error != self._errors[number]:  # log a lasting error once, not twice a second
                _log.error("admission: %s", error)
            self._errors[number] = error
            if number == 0:  # the others may be busy with one look for minutes
                self._last_round = self._clock()
            stopping.wait(ROUND_S)

    def _round(self, admission: Admits) -> str:
        """Run one round and return its error, or an empty text. This thread's border: it catches every exception."""
        try:
            admission.tick(time.monotonic())
        except Exception as error:
            return describe(error)
        return ""
