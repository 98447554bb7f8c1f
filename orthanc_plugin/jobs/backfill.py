"""Backfill: the service carries out orders (`orders`) beside its work on new series.

It hands over series to admission as if they had just arrived, so rules, skips and the ledger are the same. It never has
more series on the way than `Backfill.Lead`: those that wait for a decision, and those whose jobs wait. Position and
counts are in the ledger, so it goes on after a restart. Outside `Backfill.Hours` it stands still, and the jobs that it
queued wait.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from orthanc_plugin.archive.protocol import Archive, CutShort
from orthanc_plugin.config.sections import BackfillSettings
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.errors import EnrichError, InputError, Refusal
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision, Ledger
from orthanc_plugin.jobs.orders import OPEN_ORDERS, Item, Order, Orders, OrderState, parts_of
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.stage import whereabouts

LOOK_S, AWAY_S = 2.0, 30.0
"""Wait until the next look while there is nothing to do, and after an archive that is away."""
TURN_S = 1.0
"""Seconds that one turn may take: new series wait for it."""
MOST_NAMED = 20
UNREAD = frozenset({Refusal.UNREADABLE, Refusal.ARCHIVE_REFUSED, Refusal.NOT_SENT, Refusal.GONE, Refusal.BAD_UID})
"""Reasons of skips that say that a series could not be read."""

logger = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a series that was handed over."""

    JOB = "job"
    SKIP = "skip"
    UNCHANGED = "unchanged"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several admissions does that work side by side on one job database, each on its own archives.

    leads: it also does what is done once: it ends jobs that died, and looks after orders of unknown archives.
    elsewhere: archives of the others.
    on_the_way: of each of them, the series that wait for each order.
    """

    leads: bool = True
    elsewhere: frozenset[str] = frozenset()
    on_the_way: list[Callable[[], Mapping[str, int]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waits:
    """What admission knows of the series that wait for their decision.

    known: whether a series waits already. of_orders: series that wait, for each order; in_all: the same of all orders,
        in all admissions.
    held_up: why series of an order wait that could not be looked at.
    """

    known: Callable[[Hint], bool]
    of_orders: Callable[[], Mapping[str, int]]
    in_all: Callable[[], int]
    held_up: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Desk:
    """What backfill needs of admission.

    locate: completes a hint with the archive's own id of the series.
    hand_over: makes the series wait for its decision.
    """

    locate: Callable[[Hint], Hint]
    hand_over: Callable[[Hint], None]
    waits: Waits


class Backfill:
    """Carries out the orders of one job database, or those of some archives; only one service may.

    Parameters
    ----------
    queue : JobQueue
        Jobs, and the ledger with the orders.
    archives : mapping
        By name.
    settings : BackfillSettings
        Lead and hours.
    desk : Desk
        Admission.
    local_time : callable
        Time of day at this place, for `Backfill.Hours`.
    share : Share, optional
        Its share, if other threads carry out the orders of other archives.
    """

    def __init__(
        self,
        queue: JobQueue,
        archives: Mapping[str, Archive],
        settings: BackfillSettings,
        desk: Desk,
        local_time: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        share: Share | None = None,
    ) -> None:
        self._share = share or Share()
        self._queue, self._archives, self._settings, self._desk = queue, archives, settings, desk
        self._local_time = local_time
        self._orders = Orders(queue.ledger)
        self._due = 0.0
        self._last: float | None = None

    def advance(self, now: float) -> None:
        """Do one turn; `now` is in monotonic seconds."""
        if now < self._due:
            return
        gone_by, self._last = min(now - (now if self._last is None else self._last), LOOK_S), now
        self._due = now + LOOK_S
        resting = "" if self._settings.is_open(self._local_time().time()) else self._settings.in_words
        if self._share.leads:
            self._queue.hold_backfill(resting)
        # What a person asks to be decided on again is little, and somebody waits for it.
        for order in sorted(
            filter(self._is_mine, self._open()), key=lambda order: (bool(order.query), order.created_at)
        ):
            if resting:
                self._orders.save(replace(order, problem=resting, seen=_now()))
            elif self._turn(replace(order, busy_s=order.busy_s + gone_by), now):
                self._due = now

    def decided(self, hint: Hint, outcome: Outcome, decision: Decision | None = None) -> None:
        """Count what became of a series that an order handed over."""
        order = next((order for order in self._open() if order.id == hint.order), None)
        if order is None:
            return
        if decision is not None and decision.reason in UNREAD:
            order = _unread(order, f"series {hint.series_instance_uid}: {decision.reason}")
        if outcome is Outcome.ABSENT:
            order = _unread(order, f"series {hint.series_instance_uid}: the archive does not have it")
        self._orders.save(
            replace(
                order,
                jobs=order.jobs + (outcome is Outcome.JOB),
                skips=order.skips + (outcome is Outcome.SKIP),
                unchanged=order.unchanged + (outcome is Outcome.UNCHANGED),
            )
        )

    def _is_mine(self, order: Order) -> bool:
        unknown = order.archive not in self._archives and order.archive not in self._share.elsewhere
        return order.archive in self._archives or (unknown and self._share.leads)

    def _open(self) -> tuple[Order, ...]:
        """Return the open orders, and end those that a person stopped."""
        orders = self._orders.all()
        for order in orders:
            if order.state is OrderState.STOPPED and order.ended_at is None:
                self._orders.end(order, OrderState.STOPPED)
        return tuple(order for order in orders if order.state in OPEN_ORDERS)

    def _turn(self, order: Order, now: float) -> bool:
        """Do a part of an order; return whether more can be done at once."""
        archive = self._archives.get(order.archive)
        if archive is None:
            self._orders.save(replace(order, problem=f"the configuration has no archive {order.archive}", seen=_now()))
            return False
        try:
            moved = self._list(order, archive) if order.state is OrderState.LISTING else self._work(order, archive)
        except Exception as error:  # the border of one order: the others go on
            odd = f"unexpected {type(error).__name__} {whereabouts(error)}"
            said = str(error) if isinstance(error, EnrichError) else odd
            logger.warning("backfill %s waits: %s", order.id, said)
            current = self._orders.get(order.id)
            self._orders.save(replace(current, problem=said, seen=_now()))
            self._due = now + AWAY_S
            return False
        return moved

    def _list(self, order: Order, archive: Archive) -> bool:
        """Ask the archive for further studies, as far as time allows."""
        until = time.monotonic() + TURN_S
        while order.state is OrderState.LISTING and time.monotonic() < until:
            order = self._ask(order, archive)
        return True

    def _ask(self, order: Order, archive: Archive) -> Order:
        """Ask the archive once: for what follows in a part of the query, until it lists nothing new."""
        parts, before = parts_of(dict(order.query)), self._orders.of_part(order)
        found = archive.studies(parts[order.part], len(before))
        new = [(uid, "") for uid in dict.fromkeys(found) if uid not in before]
        order = self._orders.add(order, new[: order.limit - order.listed] if order.limit else new)
        order = replace(order, cut=isinstance(found, CutShort) if found else order.cut)
        if not new:
            if order.cut:
                asked = ", ".join(f"{key}={value}" for key, value in parts[order.part].items())
                order = _unread(order, f"studies of {asked}: the archive left out some (HTTP Warning 299)")
            order = replace(order, part=order.part + 1, part_page=order.pages, cut=False)
        ended = order.part >= len(parts) or 0 < order.limit <= order.listed
        state = OrderState.RUNNING if ended else OrderState.LISTING
        order = replace(order, state=state, problem="", seen=_now())
        self._orders.save(order)
        return order

    def _work(self, order: Order, archive: Archive) -> bool:
        """Look at the next studies, as far as lead and time allow."""
        page, began = self._orders.page(order), time.monotonic()
        room = self._settings.lead - self._desk.waits.in_all() - self._queue.ledger.queued_backfill()
        while room > 0 and order.item < len(page) and time.monotonic() - began < TURN_S:
            order, handed_over = self._look_at(order, page[order.item], archive)
            room -= handed_over
            order = replace(order, item=order.item + 1, looked_at=order.looked_at + 1, problem="", seen=_now())
            self._orders.save(order)
        if order.item >= len(page) and order.page < order.pages:
            self._orders.drop_page(order)
            order = replace(order, page=order.page + 1, item=0)
        elif order.page >= order.pages and not self._desk.waits.of_orders().get(order.id):
            self._orders.end(order, OrderState.DONE)
            logger.info("backfill %s: done", order.id)
            return False
        lead = "" if room > 0 else f"{self._settings.lead} series of backfills are on the way (Backfill.Lead)"
        self._orders.save(replace(order, problem=self._desk.waits.held_up(order.id) or lead, seen=_now()))
        return room > 0 and order.page < order.pages

    def _look_at(self, order: Order, item: Item, archive: Archive) -> tuple[Order, int]:
        """Hand over the series of one study; return the order with its counts, and how many series those are."""
        study_uid, one_series = item
        try:
            found = (one_series,) if one_series else archive.ct_series(study_uid)
        except InputError as error:
            return _unread(order, f"study {study_uid}: {error.reason}"), 0
        if not found and not order.query:
            return _unread(order, f"study {study_uid}: the archive has no CT series of it"), 0
        if isinstance(found, CutShort):
            order = _unread(order, f"study {study_uid}: the archive left out some of its series (HTTP Warning 299)")
        handed_over = 0
        for series_uid in found:
            asked = Hint(order.archive, study_uid, series_uid, order=order.id, again=order.again)
            hint = self._desk.locate(replace(asked, cancelled_too=order.cancelled_too))
            waits = self._desk.waits.known(hint)
            # Only an Orthanc says later that a series grew; elsewhere a series must rest before it is decided on, and
            # so must one that waits because it just arrives.
            hint = replace(hint, stable=bool(hint.orthanc_series_id) and not waits)
            if not order.again and (waits or is_known(self._queue.ledger, order.archive, series_uid)):
                order = replace(order, known=order.known + 1)
                continue
            self._desk.hand_over(hint)
            handed_over += 1
        return replace(order, handed_over=order.handed_over + handed_over), handed_over


def is_known(ledger: Ledger, archive: str, series_uid: str) -> bool:
    """Tell whether a series has a decision that stands."""
    rows = ledger.of_series(archive, series_uid)
    if not rows or rows[-1].state is JobState.SUPERSEDED:
        return False
    return rows[-1].reason not in (Refusal.GONE, Refusal.NOT_SENT)


def _unread(order: Order, what: str) -> Order:
    named = (*order.unread, what) if len(order.unread) < MOST_NAMED else order.unread
    return replace(order, unreadable=order.unreadable + 1, unread=named)


def _now() -> datetime:
    return datetime.now(UTC)
