"""Orders: studies of an archive that a person asked for, to be decided on in the background.

An order is a note in the ledger, and so are the studies that it still has to look at, in pages. Any process may place
or stop one; the service alone carries them out (`backfill`). Notes hold UIDs and what was asked, never patient data.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from pydicom.datadict import dictionary_VR, tag_for_keyword

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.uids import check_uids
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.identity import digest
from orthanc_plugin.jobs.ledger import Ledger

PAGE = 500
"""Studies in one note."""
ENDED_KEPT = 20
"""Orders that have ended and are still shown."""
_LONGEST_YEARS = 200
"""Years of a StudyDate in a query: the archive is asked for each month."""
_PLACING = threading.RLock()
"""Requests that ask for the same at the same time get the same order."""
_ORDER, _PAGE, _STOP = "backfill:", "backfill-page:", "backfill-stop:"
_PATIENT_GROUP = 0x0010
_PERSONAL = ("AccessionNumber", "StudyID")
_OF_SERIES = ("Modality", "SOPInstanceUID", "InstanceNumber", "BodyPartExamined")
_DAY = r"[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_DATES = re.compile(f"{_DAY}(?:-(?:{_DAY})?)?|-{_DAY}")
"""One day or a range (PS3.5 6.2.5); the last day of a month may be written as the 31st."""
_NOT_A_KEY = "a query holds keys of studies with their values, for example StudyDate=20200101-20201231"

Item = tuple[str, str]
"""StudyInstanceUID and SeriesInstanceUID; without the latter, all CT series of the study."""


class OrderState(StrEnum):
    """Where an order stands; the last two are final."""

    LISTING = "listing"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


OPEN_ORDERS = (OrderState.LISTING, OrderState.RUNNING)


@dataclass(frozen=True, slots=True)
class Order(JsonRecord):
    """What a person asked for, and how far the service is.

    asked: the same in words. again: also what was decided on before is decided on. limit: most studies; 0 for all.
    same: digest of what was asked where the words do not tell it: two orders with one digest ask for the same.
    cancelled_too: with `again`, jobs that a person cancelled run again, too.
    part, part_page: the part of the query that is asked for now (`parts_of`), and its first page.
    cut: the archive said at last that it left out studies of this part.
    pages, page, item: pages of studies so far, and the next one of them to look at with its next study.
    listed, looked_at: studies that are known to belong to the order, and those that were looked at.
    known: series that were left alone, because they were decided on before.
    handed_over: series that were given to admission. jobs, skips, unchanged: what was decided on them; unchanged: the
        same as before.
    unreadable: studies and series that could not be read; unread names the first of them.
    busy_s: seconds in which the service worked on it, for the rate.
    problem: why it does not move now.
    seen: when the service last looked at it.
    """

    id: str
    archive: str
    asked: str
    created_at: datetime
    query: tuple[tuple[str, str], ...] = ()
    again: bool = False
    limit: int = 0
    state: OrderState = OrderState.LISTING
    listed: int = 0
    part: int = 0
    part_page: int = 0
    pages: int = 0
    page: int = 0
    item: int = 0
    looked_at: int = 0
    known: int = 0
    handed_over: int = 0
    jobs: int = 0
    skips: int = 0
    unchanged: int = 0
    unreadable: int = 0
    unread: tuple[str, ...] = ()
    busy_s: float = 0.0
    problem: str = ""
    seen: datetime | None = None
    ended_at: datetime | None = None
    cancelled_too: bool = False
    cut: bool = False
    same: str = ""

    @property
    def studies_per_hour(self) -> float | None:
        """Studies an hour while the service worked on it; None if it is too early to say."""
        return self.looked_at / self.busy_s * 3600 if self.looked_at and self.busy_s >= 1 else None

    @property
    def left_s(self) -> float | None:
        """Seconds of work that are left at this rate; None if it is too early to say, or the order has ended."""
        if self.studies_per_hour is None or self.state is not OrderState.RUNNING:
            return None
        return (self.listed - self.looked_at) / self.studies_per_hour * 3600


class Orders:
    """The orders in a ledger.

    Parameters
    ----------
    ledger : Ledger
        Holds the orders.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def place_query(self, archive: str, query: Mapping[str, str], *, limit: int = 0, again: bool = False) -> Order:
        """Order the studies that match a query; the service asks the archive for them.

        An open order for the same, with the same limit, goes on; there is no second one.

        Raises
        ------
        EnrichError
            If the query cannot be used (`check_query`).
        """
        check_query(query)
        asked = ", ".join(f"{key}={value}" for key, value in query.items())
        wanted = (archive, asked, again, limit)
        with _PLACING:
            opened = (o for o in self.all() if o.state in OPEN_ORDERS)
            same = (o for o in opened if (o.archive, o.asked, o.again, o.limit) == wanted)
            return next(same, None) or self._keep(
                Order(_new_id(), archive, asked, _now(), tuple(query.items()), again=again, limit=limit)
            )

    def place_list(
        self,
        archive: str,
        items: Iterable[Item],
        asked: str,
        *,
        limit: int = 0,
        again: bool = False,
        cancelled_too: bool = False,
        same: str = "",
    ) -> Order:
        """Order the studies or series of a list; raise EnrichError if it is empty, or a UID in it is not valid.

        An open order for the same goes on: for the same list with the same limit, or with the same digest `same`.
        """
        wanted = list(dict.fromkeys(items))[: limit or None]
        for study_uid, series_uid in wanted:
            check_uids(study_uid, *([series_uid] if series_uid else []))
        if not wanted:
            raise EnrichError("there is nothing to do: no study or series was named")
        same = same or digest(*(f"{study_uid} {series_uid}" for study_uid, series_uid in wanted))
        with _PLACING:
            if (order := self._open(archive, same, again=again, limit=limit)) is not None:
                return order
            order = Order(
                _new_id(), archive, asked, _now(), again=again, limit=limit, state=OrderState.RUNNING,
                cancelled_too=cancelled_too, same=same,
            )  # fmt: skip
            return self._keep(self.add(order, wanted))

    def place_again(self, archive: str, reason: str = "", text: str = "") -> Order:
        """Order new decisions on all series that were decided on, or on those with a reason whose detail has a text.

        Series whose job runs now are left alone, and so are jobs that a person cancelled, unless that is the reason.
        """
        same = digest("again", reason, text)
        if (order := self._open(archive, same, again=True, limit=0)) is not None:
            return order  # the decisions that it has changed already no longer have the reason
        items = self._ledger.standing(archive, reason, text)
        if not items:
            raise EnrichError("there is nothing to do: no decision that stands has this reason and text")
        asked = " ".join(filter(None, ("decisions", f"with reason {reason}" if reason else "", "again")))
        cancelled_too = reason == JobState.CANCELLED
        return self.place_list(archive, items, asked, again=True, cancelled_too=cancelled_too, same=same)

    def _open(self, archive: str, same: str, *, again: bool, limit: int) -> Order | None:
        wanted = (archive, same, again, limit)
        found = (o for o in self.all() if o.state in OPEN_ORDERS)
        return next((o for o in found if (o.archive, o.same, o.again, o.limit) == wanted), None)

    def add(self, order: Order, items: Sequence[Item]) -> Order:
        """Keep further studies in pages, and return the order that counts them; the caller saves that."""
        pages = [items[first : first + PAGE] for first in range(0, len(items), PAGE)]
        for number, page in enumerate(pages, order.pages):
            self._ledger.keep_note(_page_key(order, number), json.dumps(page))
        return replace(order, pages=order.pages + len(pages), listed=order.listed + len(items))

    def page(self, order: Order) -> tuple[Item, ...]:
        """Return the page that the order is at; empty if there is none."""
        return self._page(order, order.page)

    def of_part(self, order: Order) -> frozenset[str]:
        """Return the studies that the archive has listed of the part that it is asked for."""
        numbers = range(order.part_page, order.pages)
        return frozenset(study for number in numbers for study, _ in self._page(order, number))

    def drop_page(self, order: Order) -> None:
        """Remove the page that the order is at."""
        self._ledger.drop_note(_page_key(order, order.page))

    def save(self, order: Order) -> None:
        """Write how far an order is."""
        self._keep(order)

    def all(self) -> tuple[Order, ...]:
        """Return the orders, newest first; one that a person stopped is `stopped`, even if no service runs."""
        stops = {key.removeprefix(_STOP) for key in self._ledger.notes(_STOP)}
        found = (Order.from_json(text) for text in self._ledger.notes(_ORDER).values())
        told = (replace(o, state=OrderState.STOPPED) if o.id in stops and o.state in OPEN_ORDERS else o for o in found)
        return tuple(sorted(told, key=lambda order: order.created_at, reverse=True))

    def get(self, order_id: str) -> Order:
        """Return one order; raise EnrichError if there is none."""
        found = next((order for order in self.all() if order.id == order_id), None)
        if found is None:
            raise EnrichError(f"there is no backfill {order_id}")
        return found

    def stop(self, order_id: str) -> Order:
        """End an open order. What it queued goes on; the studies that it did not look at stay as they are.

        Raises
        ------
        EnrichError
            If there is no such order, or it has ended.
        """
        order = self.get(order_id)
        if order.state not in OPEN_ORDERS:
            raise EnrichError(f"backfill {order_id} is {order.state}; only an open one can be stopped")
        self._ledger.keep_note(f"{_STOP}{order_id}", "yes")
        return self.get(order_id)

    def end(self, order: Order, state: OrderState) -> Order:
        """Write that an order has ended, and forget its pages and the oldest orders."""
        ended = self._keep(replace(order, state=state, ended_at=_now(), problem=""))
        for key in self._ledger.notes(f"{_PAGE}{order.id}:"):
            self._ledger.drop_note(key)
        self._ledger.drop_note(f"{_STOP}{order.id}")
        for old in [o for o in self.all() if o.state not in OPEN_ORDERS][ENDED_KEPT:]:
            self._ledger.drop_note(f"{_ORDER}{old.id}")
        return ended

    def _page(self, order: Order, number: int) -> tuple[Item, ...]:
        text = self._ledger.note(_page_key(order, number))
        return tuple((study, series) for study, series in json.loads(text)) if text else ()

    def _keep(self, order: Order) -> Order:
        self._ledger.keep_note(f"{_ORDER}{order.id}", order.to_json())
        return order


def parse_query(texts: Iterable[str]) -> dict[str, str]:
    """Read `Key=value,Key=value`, in one text or in several; raise EnrichError for anything else."""
    query: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        key, equals, value = part.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise EnrichError(f"{part!r} is not KEY=VALUE: {_NOT_A_KEY}")
        if key.strip() in query:
            raise EnrichError(f"the query holds {key.strip()} twice: place an order for each value")
        query[key.strip()] = value.strip()
    return query


def check_query(query: Mapping[str, str]) -> None:
    """Check that a query can be asked for and kept.

    Raises
    ------
    EnrichError
        If it is empty, a key is no DICOM keyword, its StudyDate ends before it begins, or a key names a patient: the
        job database holds no patient data.
    """
    if not query:
        raise EnrichError(f"the query is empty: {_NOT_A_KEY}")
    for key in query:
        tag = tag_for_keyword(key)
        if tag is None:
            raise EnrichError(f"{key[:64]!r} is not a DICOM keyword: {_NOT_A_KEY}")
        if tag >> 16 == _PATIENT_GROUP or dictionary_VR(tag) == "PN" or key in _PERSONAL:
            raise EnrichError(f"{key} names a patient, and the job database keeps queries: name the studies in a list")
        if key in _OF_SERIES or key.startswith("Series"):
            raise EnrichError(f"{key} is not a key of studies, so no study would be found: try ModalitiesInStudy=CT")
    if "StudyDate" in query and not _DATES.fullmatch(query["StudyDate"]):
        raise EnrichError(
            "StudyDate is not a date or a range of dates, such as 20200131, 20200101-20201231 or 20200101-"
        )
    if (dates := _dates(query)) is not None:
        first, last = dates
        if first > last:
            raise EnrichError("StudyDate ends before it begins: write the earlier date first")
        if int(last[:4]) - int(first[:4]) > _LONGEST_YEARS:
            raise EnrichError(
                f"StudyDate spans more than {_LONGEST_YEARS} years: write the years that the archive holds"
            )


def parts_of(query: Mapping[str, str]) -> list[dict[str, str]]:
    """Divide a query by the months of its StudyDate, so that no answer of an archive becomes endless."""
    if (dates := _dates(query)) is None:
        return [dict(query)]
    first, last = dates
    if not 1 <= int(first[4:6]) <= 12:
        return [dict(query)]  # the archive says what is wrong with it
    parts, start = [], first
    while start <= last and len(start) == len(last):  # the year 10000 is longer
        year, month = int(start[:4]), int(start[4:6])
        following = f"{year + month // 12:04}{month % 12 + 1:02}01"
        end = min(last, f"{start[:6]}{monthrange(year, month)[1]}")
        parts.append({**query, "StudyDate": f"{start}-{end}"})
        start = following
    return parts


def _dates(query: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the first and the last day of a query's StudyDate, where it has both."""
    found = re.fullmatch(r"([0-9]{8})-([0-9]{8})", query.get("StudyDate", ""))
    return (found[1], found[2]) if found is not None else None


def items_of_lines(lines: Iterable[str]) -> Iterator[Item]:
    """Read one study a line, its StudyInstanceUID, and after it the SeriesInstanceUID if only that series is meant."""
    for line in lines:
        words = line.split("#")[0].replace(",", " ").split()
        if len(words) > 2:
            raise EnrichError("a line of the list holds more than a StudyInstanceUID and a SeriesInstanceUID")
        if words:
            yield words[0], words[1] if len(words) == 2 else ""


def _page_key(order: Order, number: int) -> str:
    return f"{_PAGE}{order.id}:{number:06d}"


def _new_id() -> str:
    return uuid.uuid4().hex[:12]


def _now() -> datetime:
    return datetime.now(UTC)
