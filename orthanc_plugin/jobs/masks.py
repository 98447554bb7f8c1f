"""The masks of a study that others made, and the jobs that run again when such masks arrive or are deleted.

A job that runs again lists the masks of its series anew, measures those that it has not measured, and withdraws its
reports on those that are gone (`steps`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.archive.protocol import MASKS, Archive
from orthanc_plugin.correlation import about
from orthanc_plugin.domain.job import OPEN_STATES
from orthanc_plugin.domain.plan import MaskObject
from orthanc_plugin.domain.uids import is_uid, loggable_uid
from orthanc_plugin.errors import EnrichError, InputError, MaskError, Refusal, TransientError
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.pipeline.foreign import named_series
from orthanc_plugin.results.provenance import MANUFACTURER

ARRIVED = "masks-arrived:"
"""Prefix of the ledger's notes on jobs for whose series masks arrived: their SOPInstanceUIDs."""
LOOKED_AT = 200
"""Jobs of one look at masks that may be deleted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArchiveMasks:
    """Masks of others in an archive (see `pipeline.context.MaskSource`)."""

    archive: Archive

    def list(self, study_uid: str, series_uid: str) -> tuple[MaskObject, ...]:
        """List the SEGs and RT structure sets of a study that may be masks of this CT, by their headers."""
        return tuple(self._listed(study_uid, series_uid))

    def _listed(self, study_uid: str, series_uid: str) -> Iterator[MaskObject]:
        for masks_uid in self.archive.mask_series(study_uid):
            for header in self.archive.headers(study_uid, masks_uid):
                named = named_series(header)
                uid = str(header.get("SOPInstanceUID") or "")
                if not is_uid(uid):
                    logger.warning("series %s holds masks without a valid SOPInstanceUID", loggable_uid(masks_uid))
                elif header.get("Manufacturer") != MANUFACTURER and (not named or series_uid in named):
                    yield MaskObject(study_uid, masks_uid, uid)

    def read(self, mask: MaskObject) -> Dataset | None:
        """Read one object whole; None if somebody here made it, which a header need not tell.

        Raises
        ------
        MaskError
            If the archive no longer has it.
        """
        for ds in self.archive.retrieve(mask.study_instance_uid, mask.series_instance_uid):
            if ds.SOPInstanceUID == mask.sop_instance_uid:
                return None if ds.get("Manufacturer") == MANUFACTURER else ds
        raise MaskError(Refusal.NO_MASKS, f"the object {mask.sop_instance_uid} is gone from its archive")


@dataclass(frozen=True, slots=True)
class ArrivedMasks:
    """Runs the jobs of a CT again when masks of others arrive for it, or when masks that they measured are deleted.

    archives: by name.
    rules: names of the rules that measure such masks.
    """

    queue: JobQueue
    archives: Mapping[str, Archive]
    rules: Collection[str]

    def look(self, archive: str, study_uid: str, series_uid: str, modality: str) -> tuple[str, ...]:
        """Look at a series that arrived, and return the jobs that run again: none if it holds no masks of others.

        A job that has not ended may have listed the masks before. It runs again after its end if it missed some.

        Raises
        ------
        TransientError
            If the archive is away.
        """
        if not self.rules or modality not in MASKS:
            return ()
        place = self.archives[archive]
        try:
            others = [h for h in place.headers(study_uid, series_uid) if h.get("Manufacturer") != MANUFACTURER]
        except InputError as error:
            logger.warning("masks %s arrived and cannot be read: %s", loggable_uid(series_uid), error)
            return ()
        named = {uid for header in others for uid in named_series(header) or place.ct_series(study_uid)}
        arrived = {str(header.get("SOPInstanceUID")) for header in others}
        ledger = self.queue.ledger
        rows = (row for uid in sorted(named) for row in ledger.of_series(archive, uid))
        jobs = [row.job_id for row in rows if row.job_id and row.rule in self.rules and not row.superseded_by]
        for job_id in jobs:
            key = f"{ARRIVED}{job_id}"
            ledger.keep_note(key, " ".join(sorted(arrived.union((ledger.note(key) or "").split()))))
        return tuple(job_id for job_id in jobs if self._settled(job_id))

    def settle(self) -> None:
        """Run the jobs again that ended without the masks that arrived meanwhile; raise TransientError as `look`."""
        if self.rules:
            for key in self.queue.ledger.notes(ARRIVED):
                self._settled(key.removeprefix(ARRIVED))

    def _settled(self, job_id: str) -> bool:
        """Run a job again that ended without masks that arrived, and tell whether it runs."""
        ledger, key = self.queue.ledger, f"{ARRIVED}{job_id}"
        row, missed = ledger.of_job(job_id), False
        if row is not None and not row.superseded_by:
            known = {mask.sop_instance_uid for mask in row.summary.masks or ()}
            missed = not known.issuperset((ledger.note(key) or "").split())
            if row.state in OPEN_STATES or (missed and not self.run(job_id)):
                return False
        ledger.drop_note(key)
        return missed

    def run(self, job_id: str) -> bool:
        """Run a job again that ended; return False if it does not run yet."""
        with about(job=job_id):
            try:
                self.queue.retry(job_id)
            except TransientError:
                raise
            except EnrichError as error:
                logger.info("masks of job %s changed, but it does not run again yet: %s", job_id, error)
                return False
            logger.info("job %s runs again: masks of its series arrived, or were deleted", job_id)
            return True


class DeletedMasks:
    """Finds the jobs that measured masks which an Orthanc no longer has, and lets them run again.

    As for series (`deleted.DeletedSources`), masks count as deleted when two looks in a row miss them. The index must
    have the CT: a job whose CT is gone has no masks to list.
    """

    def __init__(self, arrived: ArrivedMasks) -> None:
        self._arrived, self._ledger = arrived, arrived.queue.ledger
        self._after: dict[str, int] = {}
        self._missed: dict[str, frozenset[str]] = {}

    def look(self, archive: str, feed: Feed) -> None:
        """Look at the masks of the next jobs of an archive; raise TransientError if it is away."""
        if not self._arrived.rules:
            return
        rows = self._ledger.enriched(archive, self._after.get(archive, 0), LOOKED_AT, '"masks"')
        self._after[archive] = rows[-1].row if len(rows) == LOOKED_AT else 0
        before = self._missed.get(archive, frozenset())
        missing = {job_id for job_id in before.union(row.job_id for row in rows) if self._misses(job_id, feed)}
        again = {job_id for job_id in missing & before if self._arrived.run(job_id)}
        self._missed[archive] = frozenset(missing - again)

    def _misses(self, job_id: str, feed: Feed) -> bool:
        row = self._ledger.of_job(job_id)
        if row is None or row.superseded_by or row.state in OPEN_STATES or not row.summary.masks:
            return False
        series = frozenset(mask.series_instance_uid for mask in row.summary.masks)
        listed = feed.listed(series | {row.series_instance_uid})
        return row.series_instance_uid in listed and not series <= listed
