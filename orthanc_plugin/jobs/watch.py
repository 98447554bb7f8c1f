"""The watch of a worker: it shows that the worker lives, and brings back workflows that nobody works on.

Nobody works on a workflow if its worker died, or if its worker lost the database in the middle of it and does others
since. The engine resumes neither by itself: it only gives a worker that starts again the jobs that it had.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from orthanc_plugin.correlation import about
from orthanc_plugin.jobs.deliveries import job_in
from orthanc_plugin.jobs.engine import APPLICATION_VERSION
from orthanc_plugin.jobs.heartbeat import AtWork, Beat
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.stage import whereabouts

LOOK_S = 1.0
"""Seconds between two looks at what was cancelled."""
STUBBORN_S = 3.0
"""A cancelled stage that still runs after so long is ended with its process."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two beats, until a silent worker counts as dead, and until a workflow counts as left alone.

    A worker beats in a thread of its own, so `dead_s` need not cover a long stage. It covers a computer that swaps.
    `unknown_s` is for a worker that has never beaten, as those of 0.1.0: it may live and work on a long stage.
    """

    beat_s: float = 5.0
    dead_s: float = 30.0
    idle_s: float = 15.0
    unknown_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """A beat, and when this process first saw it."""

    beat: int
    since: float


class Watch:
    """Beats for a worker and looks after its workflows and those of dead workers.

    Parameters
    ----------
    queue : JobQueue
        The jobs.
    me : str
        Executor id of this worker.
    at_work : AtWork
        The workflows that this worker works on.
    pace : Pace
        How often, and how patiently.
    start_again : callable
        Ends this process and starts another in its place.
    """

    def __init__(
        self,
        queue: JobQueue,
        me: str,
        at_work: AtWork,
        pace: Pace | None = None,
        start_again: Callable[[], object] = lambda: None,
    ) -> None:
        self._queue, self._me, self._at_work, self._pace = queue, me, at_work, pace or Pace()
        self._start_again = start_again
        self._next_beat = 0.0
        self._interrupted: dict[str, float] = {}
        self._seen: dict[str, _Seen] = {}
        self._looked = 0.0
        self._idle: dict[str, float] = {}

    def run(self, stopping: threading.Event) -> None:
        """Look until `stopping` is set. This thread's border: it catches every exception."""
        while not stopping.is_set():
            try:
                self.look(time.monotonic())
            except Exception as error:  # the database is away or full: the next look tries again
                logger.warning("watch of worker %s: %s %s", self._me, type(error).__name__, whereabouts(error))
            stopping.wait(min(LOOK_S, self._pace.beat_s))

    def look(self, now: float) -> None:
        """Do what is due; `now` is in monotonic seconds."""
        self._give_up_cancelled(now)
        if now < self._next_beat:
            return
        self._queue.heartbeats.beat(self._me, APPLICATION_VERSION, self._at_work.ids())
        self._next_beat = now + self._pace.beat_s
        self._resume_idle(now)
        self._take_over(now)

    def _give_up_cancelled(self, now: float) -> None:
        """Interrupt the stages of cancelled workflows; end the process if one does not stop, as in a long C call."""
        cancelled = self._queue.cancelled(self._at_work.ids())
        self._interrupted = {job: self._interrupted.get(job, now) for job in cancelled}
        for job, since in self._interrupted.items():
            self._at_work.interrupt(job)
            if now - since >= STUBBORN_S:
                with about(job=job_in(job)):
                    logger.warning("workflow %s is cancelled but does not stop; the worker starts again", job)
                self._start_again()

    def _resume_idle(self, now: float) -> None:
        held, working = self._queue.custody.held_by(self._me), self._at_work.ids()
        self._idle = {job: self._idle.get(job, now) for job in held if job not in working}
        for job, since in list(self._idle.items()):
            if now - since >= self._pace.idle_s:
                with about(job=job_in(job)):
                    logger.warning("workflow %s: nobody works on it; it runs again", job)
                self._queue.custody.resume(job)
                del self._idle[job]

    def _take_over(self, now: float) -> None:
        beats = self._queue.heartbeats.all()
        if now - self._looked > self._pace.dead_s / 2:  # we were away ourselves: the silence of others says nothing
            self._seen = {}
        self._looked = now
        for unknown in (
            self._queue.custody.holders() - beats.keys()
        ):  # a worker of a release without heartbeats, or a lost row
            self._queue.heartbeats.beat(unknown, "", ())
        self._seen = {
            name: seen if (seen := self._seen.get(name)) and seen.beat == beat.beat else _Seen(beat.beat, now)
            for name, beat in beats.items()
            if name != self._me
        }
        silent = {name: now - seen.since for name, seen in self._seen.items()}
        dead = {name for name, silent_s in silent.items() if silent_s >= self._patience_s(beats[name])}
        for name in dead:
            self._bury(beats[name])
        alive = silent.keys() - dead
        self._queue.adopt(frozenset(beats[name].version for name in alive))

    def _patience_s(self, last: Beat) -> float:
        return self._pace.dead_s if last.version else self._pace.unknown_s

    def _bury(self, dead: Beat) -> None:
        if self._queue.heartbeats.claim(dead):
            jobs = self._queue.custody.take_over(dead.executor_id)
            self._queue.heartbeats.forget(dead.executor_id)
            logger.warning("worker %s is silent: %d of its workflows return to the queue", dead.executor_id, jobs)
