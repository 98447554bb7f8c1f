"""The series of one study, where a rule enriches only the best of them (`SeriesPerStudy`: `best`).

A series that such a rule takes waits until every CT series of its study is complete or decided on. The best of those
that the rule takes is then enriched; the others are skipped and name it. A better series that comes later is enriched,
too: it ends the job of the earlier choice if no worker has begun it, and leaves alone what is running or stored. If a
worker refuses the chosen series, the others are ranked again without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.rule import SeriesPerStudy
from orthanc_plugin.correlation import about
from orthanc_plugin.domain.job import OPEN_STATES, JobState
from orthanc_plugin.domain.uids import loggable_uid
from orthanc_plugin.errors import IncompleteError, InputError, Refusal
from orthanc_plugin.jobs.decision import Judge, Refused
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.rules.best import Candidate, better_one, why_better

LOOK_AGAIN_S = 5.0
"""Wait between two looks at a study that is not complete."""

_RUNS_OR_RAN = (*OPEN_STATES, JobState.DONE)
_FAILURES_IN_A_ROW = 3  # a series that cannot be looked at must not hold back its study
_RANKED_AGAIN_WITHIN = timedelta(days=30)
_CACHED = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A complete series among the others of its study.

    refused: why another series gets the results; None if no series of the study is better.
    outranked: why each series that the same rule takes is not chosen, by SeriesInstanceUID.
    """

    refused: Refused | None = None
    outranked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What admission knows of the series that wait for a decision.

    orthanc_id: Orthanc's id of a series; empty if the archive is no Orthanc.
    look: a series as its archive holds it now: the hint with all that Orthanc knows, and the digest of the content;
        None if it is gone.
    failures: looks in a row that failed, by the key of a waiting series; None if no such series waits.
    hint: makes a series wait.
    catch_up: makes every series wait that an archive received and nobody announced.
    """

    orthanc_id: Callable[[Hint], str]
    look: Callable[[Hint], tuple[Hint, str] | None]
    failures: Callable[[str], int | None]
    hint: Callable[[Hint], None]
    catch_up: Callable[[str], None]


class Studies:
    """Holds series back until their study is complete, and ranks them.

    Parameters
    ----------
    judge : Judge
        Its rules say which series compete.
    archives : mapping
        By name.
    queue : JobQueue
        Its ledger tells what was decided before.
    waiting : Waiting
    """

    def __init__(self, judge: Judge, archives: Mapping[str, Archive], queue: JobQueue, waiting: Waiting) -> None:
        self._judge, self._archives, self._queue, self._waiting = judge, archives, queue, waiting
        self._ranks = any(rule.series_per_study is SeriesPerStudy.BEST for rule in judge.rules)
        self._held: dict[str, str] = {}
        self._unknown: set[tuple[str, str]] = set()
        self._candidates: dict[tuple[str, str, str], Candidate | None] = {}

    def holds(self, key: str) -> bool:
        """Return whether a complete series waits for the others of its study."""
        return key in self._held

    def weigh(self, key: str, hint: Hint, content: str, received: str) -> Weighed | None:
        """Weigh a complete series against the others of its study.

        Parameters
        ----------
        key : str
            Key of the waiting series.
        hint : Hint
            The series, with its UIDs.
        content : str
            Digest of what the archive holds of it.
        received : str
            When the archive received the newest instance of the series.

        Returns
        -------
        Weighed or None
            None while another series of the study is not complete.
        """
        if not self._ranks or (key not in self._held and not hint.again and self._was_decided_on(hint, received)):
            return Weighed()
        own = self._candidate(hint, content)
        if own is None:
            return Weighed()
        if self._held.setdefault(key, content) != content:
            del self._held[key]  # it changed while it waited, so it must be complete again
            return None
        rivals = self._rivals(hint)
        if rivals is None:
            return None
        del self._held[key]
        better = better_one(own, rivals)
        if better is not None:
            return Weighed(Refused(Refusal.BETTER_SERIES, why_better(better, own), own.rule))
        return Weighed(outranked={r.series_instance_uid: why_better(own, r) for r in rivals if r.rule == own.rule})

    def withdraw(self, hint: Hint, weighed: Weighed) -> None:
        """End the jobs of the series that a chosen one outranks, as far as no worker has begun them."""
        for series_uid, why in weighed.outranked.items():
            for row in self._queue.ledger.of_series(hint.archive, series_uid):
                if row.state is JobState.QUEUED and self._queue.withdraw(row.job_id, Refusal.BETTER_SERIES, why):
                    with about(job=row.job_id, series=series_uid):
                        logger.info("series %s: skipped %s", loggable_uid(series_uid), Refusal.BETTER_SERIES)

    def rank_again(self) -> None:
        """Make the series wait again that were skipped for a better one which a worker refused afterwards."""
        since = self._judge.now() - _RANKED_AGAIN_WITHIN
        for row in self._queue.ledger.passed_over(since) if self._ranks else ():
            if row.archive in self._archives:
                self._waiting.hint(Hint(row.archive, row.study_instance_uid, row.series_instance_uid, stable=True))
                self._queue.ledger.give_up(row)

    def _was_decided_on(self, hint: Hint, received: str) -> bool:
        """Return whether the content was decided on before: a change that was read late names it again."""
        known = self._queue.ledger.of_series(hint.archive, hint.series_instance_uid)
        return bool(known) and self._judge.decide(hint, received, self._archives[hint.archive]) is None

    def _rivals(self, hint: Hint) -> Sequence[Candidate] | None:
        """Return the other series of the study that a ranking rule takes; None while one of them is not complete."""
        found: list[Candidate] = []
        for uid in self._archives[hint.archive].ct_series(hint.study_instance_uid):
            if uid == hint.series_instance_uid:
                continue
            try:
                seen = self._waiting.look(self._located(hint, uid))
            except InputError:
                continue  # what is wrong with another series is not this one's fault
            except IncompleteError:
                if self._is_tried(Hint(hint.archive, hint.study_instance_uid, uid)):
                    return None
                continue
            if seen is None:
                continue
            other, content = seen
            settled = self._is_settled(other, content)
            if settled is None:
                return None
            if settled and (candidate := self._candidate(other, content)) is not None:
                found.append(candidate)
        return found

    def _located(self, hint: Hint, series_uid: str) -> Hint:
        plain = Hint(hint.archive, hint.study_instance_uid, series_uid)
        return replace(plain, orthanc_series_id=self._waiting.orthanc_id(plain))

    def _is_settled(self, other: Hint, content: str) -> bool | None:
        """Return whether another series counts: it is complete, or has a job. None: it is not complete."""
        waits = self._waits(other)
        if any(self._held.get(key) == content for key in waits):
            return True
        if waits:
            return False if min(waits.values()) >= _FAILURES_IN_A_ROW else None
        rows = self._queue.ledger.of_series(other.archive, other.series_instance_uid)
        if rows:
            return rows[-1].state in _RUNS_OR_RAN
        unknown = (other.key, content)
        if unknown in self._unknown:  # the archive does not count it as new: it is left alone
            return False
        self._unknown.add(unknown)
        self._waiting.catch_up(other.archive)
        return None

    def _waits(self, other: Hint) -> Mapping[str, int]:
        """Return the failures of another series if it waits, by its keys: hints may or may not have Orthanc's id."""
        keys = (other.key, replace(other, orthanc_series_id="").key)
        return {key: failures for key in keys if (failures := self._waiting.failures(key)) is not None}

    def _is_tried(self, other: Hint) -> bool:
        """Tell whether a series that the archive does not send may still come."""
        return any(failures < _FAILURES_IN_A_ROW for failures in self._waits(other).values())

    def _candidate(self, hint: Hint, content: str) -> Candidate | None:
        """Return the figures of one content of a series, which are read once."""
        known = (hint.archive, hint.series_instance_uid, content)
        if known not in self._candidates:
            if len(self._candidates) >= _CACHED:
                self._candidates.clear()
                self._unknown.clear()
            self._candidates[known] = self._judge.candidate(hint, self._archives[hint.archive])
        return self._candidates[known]
