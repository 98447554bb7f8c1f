"""Series that are deleted after their job ended: their results are withdrawn, because nothing is left that they show.

Orthanc's list of changes does not tell what was deleted. Each look therefore asks the index of an Orthanc for the next
few thousand series that have results, and begins again after the last. A series counts as deleted when two looks in a
row miss it. An index that misses most of them is not believed: it is more likely empty, or that of another Orthanc. If
the index is new, series from before it are not looked for. An archive that is not an Orthanc has no index, and is not
asked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.jobs.ledger import Enriched, Ledger
from orthanc_plugin.jobs.queue import JobQueue

AT_ONCE = 5000
"""Series of one look: with ReconcileSeconds of 300, the series of 200,000 jobs are looked at within four hours."""
A_REQUEST = 500
WITHDRAWN_AT_ONCE = 200
DELETED = "source-deleted:"
"""Prefix of the ledger's notes on jobs whose results are about to be withdrawn."""

BELIEVED = 20
"""Series that one look may miss; above that, more than half of those looked at are too many to be believed."""
NOT_BELIEVED = "not-believed:"
"""Prefix of the ledger's notes on archives whose index misses too many series."""
_OLD_INDEX = "rows-of-old-index:"

logger = logging.getLogger(__name__)


def rows_of_old_index(archive: str, ledger: Ledger) -> int:
    """Return the last row that was decided on before the archive got a new index; 0 if it has its first one."""
    return int(ledger.note(f"{_OLD_INDEX}{archive}") or 0)


def keep_results_of_old_index(archive: str, ledger: Ledger) -> None:
    """Leave the results of all series alone that were decided on so far: a new index proves no deletion."""
    ledger.keep_note(f"{_OLD_INDEX}{archive}", str(ledger.last_row()))


def forget_doubts(ledger: Ledger) -> None:
    """Drop what health says of indexes that are not believed, where deleted series are not looked for."""
    for key in ledger.notes(NOT_BELIEVED):
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
        after = max(self._after.get(archive, 0), rows_of_old_index(archive, self._queue.ledger))
        rows = self._queue.ledger.enriched(archive, after, AT_ONCE)
        before = self._missed.get(archive, {})
        looked_at = {row.job_id: row for row in (*before.values(), *rows)}
        missing = _missing(feed, tuple(looked_at.values()))
        if not self._is_believed(archive, len(missing), len(looked_at)):
            self._missed[archive] = {}
            return
        self._after[archive] = rows[-1].row if len(rows) == AT_ONCE else 0
        for row in missing:
            if row.job_id in before:
                self._queue.ledger.keep_note(f"{DELETED}{row.job_id}", archive)
        self._missed[archive] = {row.job_id: row for row in missing if row.job_id not in before}
        self._finish()

    def _is_believed(self, archive: str, missing: int, looked_at: int) -> bool:
        key = f"{NOT_BELIEVED}{archive}"
        if missing <= BELIEVED or 2 * missing <= looked_at:
            self._queue.ledger.drop_note(key)
            return True
        said = (
            f"its index misses the series of {missing} of {looked_at} jobs, so no results are withdrawn: check its"
            " OrthancUrl; if the series were deleted on purpose, set KeepWithoutSource to true"
        )
        if self._queue.ledger.note(key) != said:
            self._queue.ledger.keep_note(key, said)
            logger.warning("archive %s: %s", archive, said)
        return False

    def _finish(self) -> None:
        """Withdraw what the notes name; a note stays until that is done, so that a crash loses nothing."""
        for key in [*self._queue.ledger.notes(DELETED)][:WITHDRAWN_AT_ONCE]:
            job_id = key.removeprefix(DELETED)
            if self._queue.withdrawals.of_deleted(job_id):
                logger.info("job %s: its series is deleted; its results are withdrawn", job_id)
            self._queue.ledger.drop_note(key)


def _missing(feed: Feed, rows: Sequence[Enriched]) -> tuple[Enriched, ...]:
    listed: set[str] = set()
    for first in range(0, len(rows), A_REQUEST):
        listed |= feed.listed(frozenset(row.series_instance_uid for row in rows[first : first + A_REQUEST]))
    return tuple(row for row in rows if row.series_instance_uid not in listed)
