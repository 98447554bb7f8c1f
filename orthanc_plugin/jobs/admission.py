"""Admission: from "this series may be new" to one decision in the ledger.

Hints and the changes of the archives name series. The ledger keeps each of them until a decision is made. A series is
decided on when its instances have not changed for StableAge, or when Orthanc says that it is stable. An archive that is
away causes a delay and no loss. Admission starts no threads: the service calls `tick` from one thread, and `hint` from
any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.correlation import about
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.plan import Measure
from orthanc_plugin.domain.uids import loggable_uid
from orthanc_plugin.errors import (
    EnrichError,
    IncompleteError,
    InputError,
    NothingSentError,
    Refusal,
    TransientError,
)
from orthanc_plugin.identity import digest
from orthanc_plugin.jobs.backfill import TURN_S, Backfill, Desk, Outcome, Share, Waits
from orthanc_plugin.jobs.decision import Judge
from orthanc_plugin.jobs.deleted import DeletedSources, forget_doubts
from orthanc_plugin.jobs.hint import WAITING, Hint, completed
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.masks import ArrivedMasks, DeletedMasks
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.reconcile import read_changes
from orthanc_plugin.jobs.stage import whereabouts
from orthanc_plugin.jobs.study import LOOK_AGAIN_S, Studies, Waiting
from orthanc_plugin.jobs.webhooks import Webhooks

FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0
"""Wait between two looks at a series whose archive is away; it doubles each time."""

LOOKS_UNTIL_REFUSED = 7
"""Looks, over about five minutes, until an archive is believed that it refuses a series or does not send it."""

MOST_CAUSES = 5

DERIVED = frozenset({"SEG", "SR", "OT", "RTSTRUCT", "RTDOSE", "RTPLAN", "KO", "PR", "REG", "RWV", "DOC", "M3D", "FID"})
"""Modalities of objects that are derived from images, our results among them: they start no job."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """A series that waits for its decision.

    due: time of the next look.
    content, since: digest of what the series held at the last look, and the time since when it held that.
    failures: looks in a row that failed. refusals: those of them, in a row, that the archive answered with a refusal.
    why: why the last look failed.
    """

    hint: Hint
    due: float
    content: str = ""
    since: float = 0.0
    failures: int = 0
    refusals: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Sight:
    """A series as its archive holds it now."""

    hint: Hint
    content: str
    received: str


class Admission:
    """Watches series until they are complete, and has each decided on once.

    Parameters
    ----------
    configuration : Configuration
        Rules, StableAge, ReconcileSeconds.
    queue : JobQueue
        Receives the decisions and their jobs.
    archives, feeds : mapping
        By name. Only an Orthanc has a feed of changes; series of other archives come by hints.
    models : mapping
        Digest of each installed model, by name.
    clock : callable
        Time of decisions, in UTC.
    test_models : frozenset of str
        Names of the models that were trained on phantoms only.
    local_time : callable
        Time of day at this place, for `Backfill.Hours`.
    share : Share, optional
        Its share, if it is not the only one.
    """

    def __init__(
        self,
        configuration: Configuration,
        queue: JobQueue,
        archives: Mapping[str, Archive],
        feeds: Mapping[str, Feed],
        models: Mapping[str, str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        test_models: frozenset[str] = frozenset(),
        local_time: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        share: Share | None = None,
    ) -> None:
        self._share = share = share or Share()
        share.on_the_way.append(self._on_the_way)
        self._stable_age_s, self._reconcile_s = configuration.stable_age_s, configuration.reconcile_s
        self._queue, self._archives, self._feeds = queue, archives, feeds
        self._webhooks = Webhooks(configuration.webhooks)
        self._judge = Judge(configuration.rules, models, queue.ledger, clock, test_models)
        experts = frozenset(rule.name for rule in configuration.rules if rule.measure is Measure.EXPERT)
        self._masks = ArrivedMasks(queue, archives, experts)
        self._deleted_masks = DeletedMasks(self._masks)
        waiting = Waiting(self._orthanc_id, self._seen, self._failures, self.hint, self._catch_up)
        self._studies = Studies(self._judge, archives, queue, waiting)
        waits = Waits(lambda hint: hint.key in self._watched, self._on_the_way, self._in_all, self._held_up)
        desk = Desk(self._located, self.hint, waits)
        self._backfill = Backfill(queue, archives, configuration.backfill, desk, local_time, share)
        self._deleted = None if configuration.keep_without_source else DeletedSources(queue)
        if self._deleted is None and share.leads:
            forget_doubts(queue.ledger)
        self._lock = threading.Lock()
        self.closing = ExitStack()
        self._next_reconcile: float | None = None
        self._watched: dict[str, _Watch] = {}
        self._read_waiting()

    @property
    def waiting(self) -> int:
        """Number of series that wait for a decision."""
        return len(self._watched)

    @property
    def held_up(self) -> tuple[str, ...]:
        """Why series wait that could not be looked at, the most frequent causes first."""
        # Without the lock: health must answer while a hint waits for the database.
        causes = Counter(watch.why for watch in tuple(self._watched.values()) if watch.why)
        return tuple(f"{number} series: {why}" for why, number in causes.most_common(MOST_CAUSES))

    def takes(self, archive: str) -> bool:
        """Tell whether it looks after an archive."""
        return archive in self._archives

    def close(self) -> None:
        """Close the connections that were opened for it."""
        self.closing.close()

    def hint(self, hint: Hint) -> None:
        """Keep a hint; the next `tick` looks at its series.

        Raises
        ------
        EnrichError
            If the configuration does not have the archive that the hint names.
        """
        if hint.archive not in self._archives:
            raise EnrichError(f"the configuration has no archive {hint.archive}")
        key = hint.key
        with self._lock:
            self._queue.ledger.keep_note(key, hint.to_json())
            before = self._watched.get(key)
            self._watched[key] = replace(before, hint=hint, due=0.0) if before else _Watch(hint, due=0.0)

    def tick(self, now: float) -> None:
        """Do what is due: reconcile, and look at the series that wait.

        Parameters
        ----------
        now : float
            Seconds of a monotonic clock; every call uses the same clock.
        """
        if self._next_reconcile is None or now >= self._next_reconcile:
            self.reconcile(now)
        if self._share.leads:
            self._masks.settle()
        with self._lock:
            due = [(key, watch) for key, watch in self._watched.items() if watch.due <= now]
        due.sort(key=lambda item: (bool(item[1].hint.order), item[1].due))  # new series first, then the longest due
        away: set[str] = set()  # an archive that is away costs one timeout a round and does not delay the others
        began: float | None = None
        for key, watch in due:
            if watch.hint.order:  # one look may retrieve a whole series from a DICOM node; new series come in between
                began = time.monotonic() if began is None else began
                if time.monotonic() - began > TURN_S:
                    break
            hint = watch.hint
            with about(series=hint.series_instance_uid, archive=hint.archive):
                if hint.archive not in away and not self._look(key, watch, now):
                    away.add(hint.archive)
        self._backfill.advance(now)

    def reconcile(self, now: float) -> None:
        """Read the changes of every archive, and end the jobs that died."""
        self._next_reconcile = now + self._reconcile_s
        for name, feed in self._feeds.items():
            try:
                self._catch_up(name)
                if self._deleted is not None:
                    self._deleted.look(name, feed)
                    self._deleted_masks.look(name, feed)
            except Exception as error:  # the border of one archive: the others go on
                logger.warning("archive %s: cannot read changes: %s; will try again", name, _loggable(error))
                self._next_reconcile = now + min(self._reconcile_s, FIRST_WAIT_S)
        self._read_waiting()
        if self._share.leads:
            for row in self._queue.settle():
                self._webhooks.tell(self._queue.deliveries, row)
        self._studies.rank_again()

    def _catch_up(self, archive: str) -> None:
        """Make the series wait that changed in an archive since its changes were last read."""
        if (feed := self._feeds.get(archive)) is not None:
            read_changes(archive, feed, self._queue.ledger, self._keep_touched)

    def _read_waiting(self) -> None:
        """Take up the hints that the ledger holds, from an earlier run or from a worker whose series had changed."""
        for key, text in self._queue.ledger.notes(WAITING).items():
            hint = Hint.from_json(text)
            with self._lock:
                if hint.archive in self._archives:  # otherwise it waits until the configuration has the archive again
                    self._watched.setdefault(key, _Watch(hint, due=0.0))

    def _keep_touched(self, hint: Hint) -> None:
        """Keep the hint of a change, unless a hint that may know more waits for the same series."""
        if hint.key not in self._watched:
            self.hint(hint)

    def _look(self, key: str, watch: _Watch, now: float) -> bool:
        """Look at one series; return False if its archive is away."""
        sight = None
        try:
            sight = self._sight(watch.hint)
            if sight is None and watch.hint.order:
                self._tell(watch.hint, self._without_sight(watch.hint))
            if sight is None or self._is_decided(key, sight, watch, now):
                self._drop(key, watch)
                return True
        except Exception as error:  # the border of one series: the others go on
            refusal = self._refusal(error, watch.hint)
            refusals = watch.refusals + 1 if refusal else 0
            if refusal and refusals >= LOOKS_UNTIL_REFUSED:
                self._write(watch.hint, self._judge.refuse(watch.hint, "", refusal))
                self._drop(key, watch)
                return True
            said = _loggable(error)
            seen = (sight or watch).hint
            name = loggable_uid(seen.series_instance_uid) or seen.orthanc_series_id or "without a UID"
            logger.warning("series %s waits: %s", name, said)
            due = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**watch.failures)
            failures = min(watch.failures + 1, 10)
            self._replace(key, watch, replace(watch, due=due, failures=failures, refusals=refusals, why=said))
            return type(error) is IncompleteError or not isinstance(error, TransientError)
        since = watch.since if sight.content == watch.content else now
        due = now + LOOK_AGAIN_S if self._studies.holds(key) else since + self._stable_age_s
        self._replace(key, watch, _Watch(watch.hint, due, sight.content, since))
        return True

    def _is_decided(self, key: str, sight: _Sight, watch: _Watch, now: float) -> bool:
        """Decide on the series if it has waited long enough; return whether it is done with."""
        unchanged = sight.content == watch.content and now - watch.since >= self._stable_age_s
        if not (watch.hint.stable or unchanged or self._stable_age_s == 0):
            return False
        weighed = self._studies.weigh(key, sight.hint, sight.content, sight.received)
        if weighed is None:
            return False  # another series of the study is not complete
        decided = self._judge.decide(sight.hint, sight.received, self._archives[sight.hint.archive], weighed.refused)
        if sight.received and self._sight(watch.hint) != sight:
            return False  # instances arrived while the headers were read
        if self._write(sight.hint, decided):
            self._studies.withdraw(sight.hint, weighed)
        return True

    def _refusal(self, error: Exception, hint: Hint) -> InputError | None:
        """Return what an error says of the series if the archive is believed once it has said so often enough.

        An Orthanc is never believed that a series is gone while its index lists it: then the address is wrong.
        """
        if isinstance(error, NothingSentError):
            again = f"orthanc-enrich jobs decide-again --archive {hint.archive} --reason {Refusal.NOT_SENT}"
            return InputError(Refusal.NOT_SENT, f"{error}; once that is repaired: {again}")
        if isinstance(error, IncompleteError):
            return InputError(Refusal.ARCHIVE_REFUSED, str(error))
        believed = {Refusal.ARCHIVE_REFUSED} | ({Refusal.GONE} if hint.archive not in self._feeds else set())
        return error if isinstance(error, InputError) and error.reason in believed else None

    def _write(self, hint: Hint, decided: tuple[Decision, EnrichJob | None] | None) -> bool:
        """Write a decision; return False if there is none, or it changes nothing."""
        if decided is None:
            rows = self._queue.ledger.of_series(hint.archive, hint.series_instance_uid) if hint.order else ()
            self._tell(hint, Outcome.UNCHANGED, rows[-1] if rows else None)
            return False
        decision, job = decided
        written = self._queue.enqueue(decision, job) or (
            hint.again and self._queue.decide_again(decision, job, cancelled_too=hint.cancelled_too)
        )
        if written:
            name = loggable_uid(decision.series_instance_uid)
            with about(job=decision.job_id):
                logger.info("series %s: %s %s", name, decision.decision, decision.reason)
            self._webhooks.tell(self._queue.deliveries, decision)
        made = Outcome.SKIP if job is None else Outcome.JOB
        self._tell(hint, made if written else Outcome.UNCHANGED, decision)
        return written

    def _without_sight(self, hint: Hint) -> Outcome:
        """Say why there is nothing to decide: the series is derived, or the archive does not have it."""
        if hint.archive not in self._feeds or self._orthanc_id(hint):
            return Outcome.UNCHANGED
        rows = self._queue.ledger.of_series(hint.archive, hint.series_instance_uid)
        was_gone = bool(rows) and rows[-1].reason == Refusal.GONE
        return Outcome.UNCHANGED if hint.again and was_gone else Outcome.ABSENT

    def _tell(self, hint: Hint, outcome: Outcome, decision: Decision | None = None) -> None:
        if hint.order:
            self._backfill.decided(hint, outcome, decision)

    def _on_the_way(self) -> Mapping[str, int]:
        with self._lock:
            return Counter(watch.hint.order for watch in self._watched.values() if watch.hint.order)

    def _in_all(self) -> int:
        return sum(sum(one().values()) for one in self._share.on_the_way)

    def _held_up(self, order_id: str) -> str:
        """Say why series of an order wait that could not be looked at; empty if there is none."""
        with self._lock:
            why = [watch.why for watch in self._watched.values() if watch.hint.order == order_id and watch.why]
        return f"{len(why)} series wait: {why[0]}" if why else ""

    def _located(self, hint: Hint) -> Hint:
        return replace(hint, orthanc_series_id=self._orthanc_id(hint))

    def _sight(self, hint: Hint) -> _Sight | None:
        """Look at the series now; return None if it is gone, or if it starts no job."""
        feed = self._feeds.get(hint.archive)
        if feed is None:
            return self._sight_by_headers(hint)
        orthanc_id = hint.orthanc_series_id or feed.lookup(hint.study_instance_uid, hint.series_instance_uid)
        found = feed.series(orthanc_id) if orthanc_id else None
        if found is None or found.modality in DERIVED:
            if found is not None:
                place = found.study_instance_uid, found.series_instance_uid
                self._masks.look(hint.archive, *place, found.modality)
            return None
        return _Sight(completed(hint, found), found.content, found.received)

    def _sight_by_headers(self, hint: Hint) -> _Sight | None:
        try:
            headers = self._archives[hint.archive].headers(hint.study_instance_uid, hint.series_instance_uid)
        except InputError as error:
            return _Sight(hint, error.reason, "")
        if not headers and self._archives[hint.archive].same_series_studies(hint.series_instance_uid):
            raise NothingSentError(f"archive {hint.archive} lists the series but does not find it")
        if not headers:
            raise InputError(Refusal.GONE, f"archive {hint.archive} does not find the series")
        modalities = [header.get("Modality") for header in headers]
        if (modality := modalities[0]) in DERIVED and "CT" not in modalities:
            self._masks.look(hint.archive, hint.study_instance_uid, hint.series_instance_uid, modality)
            return None
        return _Sight(hint, digest(sorted(str(header.get("SOPInstanceUID")) for header in headers)), "")

    def _orthanc_id(self, hint: Hint) -> str:
        feed = self._feeds.get(hint.archive)
        return feed.lookup(hint.study_instance_uid, hint.series_instance_uid) if feed is not None else ""

    def _seen(self, hint: Hint) -> tuple[Hint, str] | None:
        sight = self._sight(hint)
        return (sight.hint, sight.content) if sight is not None else None

    def _failures(self, key: str) -> int | None:
        watch = self._watched.get(key)
        return watch.failures if watch is not None else None

    def _drop(self, key: str, watch: _Watch) -> None:
        with self._lock:
            if self._watched.get(key) is watch:  # otherwise a new hint arrived in the meantime, and stays
                del self._watched[key]
                self._queue.ledger.drop_note(key)

    def _replace(self, key: str, watch: _Watch, successor: _Watch) -> None:
        with self._lock:
            if self._watched.get(key) is watch:
                self._watched[key] = successor


def _loggable(error: Exception) -> str:
    """Return what may be logged of an error: the text of an exception that is not ours could hold patient data."""
    return str(error) if isinstance(error, EnrichError) else f"{type(error).__name__} {whereabouts(error)}"
