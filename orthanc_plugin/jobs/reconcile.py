"""Reconcile: what an Orthanc received while nobody listened.

A watermark for each archive, set at the first start (older series come only by backfill), says up to where its changes
were read. Touched series become hints, and the hints are kept before the watermark moves: a crash in between repeats
work and loses none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Ledger

logger = logging.getLogger(__name__)


def read_changes(archive: str, feed: Feed, ledger: Ledger, keep: Callable[[Hint], None]) -> None:
    """Give `keep` a hint for each series touched since the watermark, then move the watermark.

    Raises
    ------
    TransientError
        If the archive is away; what was read up to then is kept.
    """
    key = f"changes:{archive}"
    watermark, last = ledger.note(key), feed.last_sequence()
    if watermark is None:
        ledger.keep_note(key, str(last))
        logger.info("archive %s: reading changes from %d on", archive, last)
        return
    since = int(watermark)
    if since > last:
        logger.warning("archive %s counts its changes anew (%d after %d): another index", archive, last, since)
        since = 0
    done = since == last
    while not done:
        page = feed.changes(since)
        for orthanc_id in page.orthanc_series_ids:
            keep(Hint(archive, "", "", orthanc_series_id=orthanc_id))
        since, done = page.last, page.done
        ledger.keep_note(key, str(since))
