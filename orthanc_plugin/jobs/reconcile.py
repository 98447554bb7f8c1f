"""Reconcile: find the series that an Orthanc received while the service was not running.

Each archive has a watermark: the last change that was read. The first start takes it from the mark that our plugin has
kept in Orthanc's database since it was first loaded; without the plugin, it is the last change. Older series come only
by backfill. If the address of an archive leads to another Orthanc, that one has a watermark of its own. Each changed
series becomes a hint. Hints are kept before the watermark moves, so a crash repeats work and loses none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.jobs.deleted import keep_results_of_old_index
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Ledger

logger = logging.getLogger(__name__)


def watermark_key(archive: str) -> str:
    """Return the key of the note that holds the watermark of an archive."""
    return f"changes:{archive}"


def _change_index(archive: str, feed: Feed, ledger: Ledger) -> None:
    """Put the watermark of the index aside if the archive has another one now, and take up that of the latter."""
    key, place = f"index-of-changes:{archive}", watermark_key(archive)
    index, of = feed.index(), ledger.note(key)
    if not index or index == of:
        return
    if of is not None:
        logger.warning("archive %s is another Orthanc than before, or has a new index", archive)
        own = ledger.note(f"{place}:{index}")
        ledger.keep_note(f"{place}:{of}", ledger.note(place) or "")
        if own:
            ledger.keep_note(place, own)
        else:
            ledger.drop_note(place)
    ledger.keep_note(key, index)


def _first_watermark(archive: str, feed: Feed, last: int) -> int:
    mark = feed.mark()
    since = last if mark is None else mark.since
    logger.info("archive %s: series count that were received after change number %d", archive, since)
    if mark is not None and mark.read_before:
        logger.warning(
            "archive %s: a service read the changes up to number %d, but this job database knows nothing of it (is it"
            " new, or was it deleted?); series received before are not looked at again, unless you ask for them:"
            " orthanc-enrich backfill --archive %s --query StudyDate=...",
            archive,
            since,
            archive,
        )
    return since


def read_changes(archive: str, feed: Feed, ledger: Ledger, keep: Callable[[Hint], None]) -> None:
    """Give `keep` a hint for each series that changed since the watermark, then move the watermark.

    Raises
    ------
    TransientError
        If the archive is away; the changes read so far are kept.
    """
    _change_index(archive, feed, ledger)
    key = watermark_key(archive)
    watermark, last = ledger.note(key), feed.last_sequence()
    since = _first_watermark(archive, feed, last) if watermark is None else int(watermark)
    if watermark is None:
        ledger.keep_note(key, str(since))
    if since > last:
        logger.warning(
            "archive %s has a new index: its last change is %d, but %d were read; reads all of them, and leaves the"
            " results of series from before where they are",
            archive,
            last,
            since,
        )
        keep_results_of_old_index(archive, ledger)
        since = 0
    done = since == last
    while not done:
        page = feed.changes(since)
        for orthanc_id in page.orthanc_series_ids:
            keep(Hint(archive, "", "", orthanc_series_id=orthanc_id))
        since, done = page.last, page.done
        ledger.keep_note(key, str(since))
