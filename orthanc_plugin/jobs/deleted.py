"""Series that are deleted after their job ended: their results are withdrawn, because nothing is left that they show.

Orthanc's list of changes does not tell what was deleted. Each look therefore asks the index of an Orthanc for the next
few thousand series that have results, and begins again after the last. A series counts as deleted when two looks in a
row miss it. An index that misses most of them, or every one, is not believed: it is more likely empty, or that of
another Orthanc. Only the index whose series were enriched may miss all of a few: our plugin gives it a name, and
without the plugin it still has the results. If the index is new, series from before it are not looked for. An archive
that is not an Orthanc has no index, and is not asked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.correlation import about
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.jobs.ledger import Decision, Enriched, Ledger
from orthanc_plugin.jobs.queue import JobQueue

AT_ONCE = 5000
"""Series of one look: with ReconcileSeconds of 300, the series of 200,000 jobs are looked at within four hours."""
A_REQUEST = 500
A_FEW = 50
WITHDRAWN_AT_ONCE = 200
DELETED = "source-deleted:"
"""Prefix of the ledger's notes on jobs whose results are about to be withdrawn."""

BELIEVED = 20
"""Series that one look may miss; above that, more than half of those looked at are too many to be believed."""
NOT_BELIEVED = "not-believed:"
"""Prefix of the ledger's notes on archives whose index misses too many series."""
_OLD_INDEX = "rows-of-old-index:"
_NAME = "index-of-results:"
"""Prefix of the ledger's notes that name the index whose series were enriched."""
OTHER_ORTHANC = (
    "its address leads to another Orthanc than the one whose series were enriched: check its Url and OrthancUrl"
)
_ON_PURPOSE = "if this is right, start once with KeepWithoutSource true: the results of these series then stay for good"

logger = logging.getLogger(__name__)


def rows_of_old_index(archive: str, ledger: Ledger) -> int:
    """Return the last row that was decided on before the archive got a new index; 0 if it has its first one."""
    return int(ledger.note(f"{_OLD_INDEX}{archive}") or 0)


def keep_results_of_old_index(archive: str, ledger: Ledger) -> None:
    """Leave the results of all series alone that were decided on so far: a new index proves no deletion."""
    ledger.keep_note(f"{_OLD_INDEX}{archive}", str(ledger.last_row()))


def is_other_index(archive: str, index: str, ledger: Ledger) -> bool:
    """Tell whether an index has another name than the one whose series were enriched."""
    known = ledger.note(f"{_NAME}{archive}")
    return bool(index and known and index != known)


def forget_doubts(ledger: Ledger) -> None:
    """End the doubts about indexes, because the settings keep results without source: those of now stay for good."""
    for key in ledger.notes(NOT_BELIEVED):
        archive = key.removeprefix(NOT_BELIEVED)
        keep_results_of_old_index(archive, ledger)
        ledger.drop_note(f"{_NAME}{archive}")
        ledger.drop_note(key)


class DeletedSources:
    """Finds the jobs whose series is gone, and withdraws their results.

    Parameters
    ----------
    queue : JobQueue
        The jobs.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._after: dict[str, int] = {}
        self._missed: dict[str, Mapping[str, Enriched]] = {}

    def look(self, archive: str, feed: Feed) -> None:
        """Look at the next series of an archive; raise TransientError if it is away."""
        self._finish()
        first = rows_of_old_index(archive, self._queue.ledger)
        after = max(self._after.get(archive, 0), first)
        rows = self._queue.ledger.enriched(archive, after, AT_ONCE)
        before = self._missed.get(archive, {})
        looked_at = {row.job_id: row for row in (*before.values(), *rows)}
        missing, index = _missing(feed, tuple(looked_at.values())), feed.index()
        every = after == first and len(rows) < AT_ONCE and len(missing) == len(looked_at)
        every = every and not self._has_own_results(archive, feed, missing)
        doubt = self._doubt(archive, index, len(missing), len(looked_at), every=every)
        self._tell(archive, doubt)
        if doubt or self._is_new(archive, index):
            self._missed[archive] = {}
            return
        self._after[archive] = rows[-1].row if len(rows) == AT_ONCE else 0
        for row in missing:
            if row.job_id in before:
                self._queue.ledger.keep_note(f"{DELETED}{row.job_id}", archive)
        self._missed[archive] = {row.job_id: row for row in missing if row.job_id not in before}
        self._finish()

    def _doubt(self, archive: str, index: str, missing: int, looked_at: int, *, every: bool) -> str:
        """Say why what the index misses proves no deletion; empty if it does.

        every: it misses all series there are, and has no results of ours that only this archive had.
        """
        known, most = self._queue.ledger.note(f"{_NAME}{archive}"), 2 * missing > looked_at
        if most and is_other_index(archive, index, self._queue.ledger):
            return (
                f"{OTHER_ORTHANC}; {missing} of {looked_at} series are not there, and no results are withdrawn;"
                f" {_ON_PURPOSE}"
            )
        if most and missing > BELIEVED:
            return (
                f"its index misses the series of {missing} of {looked_at} jobs, so no results are withdrawn: check its"
                f" OrthancUrl; {_ON_PURPOSE}"
            )
        if every and missing and not (index and index == known):
            return (
                f"its index has none of the {missing} series with results, so it may be another Orthanc, and no results"
                f" are withdrawn: check its OrthancUrl; {_ON_PURPOSE}"
            )
        return ""

    def _has_own_results(self, archive: str, feed: Feed, rows: Sequence[Enriched]) -> bool:
        """Tell whether an index has results that were stored there and nowhere else: then it is the right one."""
        decisions = (self._queue.ledger.of_job(row.job_id) for row in rows[:A_FEW])
        own = (row for row in decisions if row is not None and _is_stored_only_in(archive, row))
        return bool(feed.listed(frozenset(item.series_instance_uid for row in own for item in row.summary.objects)))

    def _is_new(self, archive: str, index: str) -> bool:
        """Remember the name of the index; tell whether it took the place of another, to which most series came."""
        ledger, key = self._queue.ledger, f"{_NAME}{archive}"
        known = ledger.note(key)
        if not index or index == known:
            return False
        ledger.keep_note(key, index)
        if known is None:
            return False
        keep_results_of_old_index(archive, ledger)
        return True

    def _tell(self, archive: str, doubt: str) -> None:
        key = f"{NOT_BELIEVED}{archive}"
        if not doubt:
            self._queue.ledger.drop_note(key)
        elif self._queue.ledger.note(key) != doubt:
            self._queue.ledger.keep_note(key, doubt)
            with about(archive=archive):
                logger.warning("archive %s: %s", archive, doubt)

    def _finish(self) -> None:
        """Withdraw what the notes name; a note stays until that is done, so that a crash loses nothing."""
        for key in [*self._queue.ledger.notes(DELETED)][:WITHDRAWN_AT_ONCE]:
            job_id = key.removeprefix(DELETED)
            if self._queue.withdrawals.of_deleted(job_id):
                with about(job=job_id):
                    logger.info("job %s: its series is deleted; its results are withdrawn", job_id)
            self._queue.ledger.drop_note(key)


def _is_stored_only_in(archive: str, row: Decision) -> bool:
    plan = EnrichJob.from_json(row.argument).plan
    return plan.home_archive == archive and not plan.destinations


def _missing(feed: Feed, rows: Sequence[Enriched]) -> tuple[Enriched, ...]:
    listed: set[str] = set()
    for first in range(0, len(rows), A_REQUEST):
        listed |= feed.listed(frozenset(row.series_instance_uid for row in rows[first : first + A_REQUEST]))
    return tuple(row for row in rows if row.series_instance_uid not in listed)
