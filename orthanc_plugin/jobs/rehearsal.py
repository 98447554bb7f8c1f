"""What a backfill would do, without doing it: each series is decided on, and nothing is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.archive.protocol import Archive, CutShort
from orthanc_plugin.errors import InputError
from orthanc_plugin.jobs.backfill import UNREAD, is_known
from orthanc_plugin.jobs.decision import Judge
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.orders import Item, parts_of

logger = logging.getLogger(__name__)

BEFORE = "decided on before"


def listed(archive: Archive, query: Mapping[str, str]) -> Iterator[Item]:
    """List the studies of an archive that match a query."""
    for part in parts_of(query):
        seen: set[str] = set()
        found = archive.studies(part, 0)
        cut = False
        while new := [uid for uid in dict.fromkeys(found) if uid not in seen]:
            cut = isinstance(found, CutShort)
            seen.update(new)
            yield from ((uid, "") for uid in new)
            found = archive.studies(part, len(seen))
        if cut:
            logger.warning("archive %s left out some of the studies that match (HTTP Warning 299)", archive.name)


def rehearse(
    judge: Judge, archive: Archive, feed: Feed | None, items: Iterator[Item], *, limit: int = 0, again: bool = False
) -> Iterator[tuple[str, str]]:
    """Decide on every series of some studies.

    Yields
    ------
    tuple of str
        UID of the study or series, and what it would get: `job by rule NAME`, `skip REASON`, `unreadable REASON` or
        `decided on before`.
    """
    for study_uid, one_series in islice(items, limit or None):
        try:
            found = (one_series,) if one_series else archive.ct_series(study_uid)
        except InputError as error:
            yield study_uid, f"unreadable {error.reason}"
            continue
        if isinstance(found, CutShort):
            yield study_uid, "unreadable: the archive left out some of its series (HTTP Warning 299)"
        for series_uid in found:
            hint = Hint(archive.name, study_uid, series_uid, stable=True, again=again)
            yield series_uid, _would_get(judge, archive, feed, hint)


def _would_get(judge: Judge, archive: Archive, feed: Feed | None, hint: Hint) -> str:
    if not hint.again and is_known(judge.ledger, hint.archive, hint.series_instance_uid):
        return BEFORE
    try:
        received = ""
        if feed is not None and (orthanc_id := feed.lookup(hint.study_instance_uid, hint.series_instance_uid)):
            hint, received = replace(hint, orthanc_series_id=orthanc_id), _received(feed, orthanc_id)
        decided = judge.decide(hint, received, archive)
    except InputError as error:
        return f"unreadable {error.reason}"
    if decided is None:
        return BEFORE
    decision, job = decided
    rows = judge.ledger.of_series(hint.archive, hint.series_instance_uid)
    if any((row.job_id, row.reason) == (decision.job_id, decision.reason) for row in rows):
        return BEFORE
    if job is not None:
        return f"job by rule {decision.rule}"
    return f"{'unreadable' if decision.reason in UNREAD else 'skip'} {decision.reason}"


def _received(feed: Feed, orthanc_id: str) -> str:
    found = feed.series(orthanc_id)
    return found.received if found is not None else ""
