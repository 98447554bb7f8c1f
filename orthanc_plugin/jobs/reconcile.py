"""Reconcile: find the series that an Orthanc received while the service was not running.

Each archive has a watermark: the last change that was read. The first start sets it, so older series come only by
backfill. Each changed series becomes a hint. Hints are kept before the watermark moves, so a crash repeats work and
loses none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Ledger

logger = logging.getLogger(__name__)


def read_changes(archive: str, feed: Feed, ledger: Ledger, keep: Callable[[Hint], None]) -> None:
    """Give `keep` a hint for each series that changed since the watermark, then move the watermark.

    Raises
    ------
    TransientError
        If the archive is away; the changes read so far are kept.
    """
    key = f"changes:{archive}"
    watermark, last = ledger.note(key), feed.last_sequence()
    if watermark is None:
        ledger.keep_note(key, str(last))
        logger.info("archive %s: reads changes from number %d on", archive, last)
        return
    since = int(watermark)
    if since > last:
        logger.warning(
            "archive %s has a new index: its last change is %d, but %d were read; reads all of them",
            archive,
            last,
            since,
        )
        since = 0
    done = since == last
    while not done:
        page = feed.changes(since)
        for orthanc_id in page.orthanc_series_ids:
            keep(Hint(archive, "", "", orthanc_series_id=orthanc_id))
        since, done = page.last, page.done
        ledger.keep_note(key, str(since))
