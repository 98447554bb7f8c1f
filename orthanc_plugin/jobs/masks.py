"""The masks of a study that others made, in the archive that holds the CT; and jobs that run again when such arrive."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from orthanc_plugin.archive.protocol import MASKS, Archive
from orthanc_plugin.domain.plan import MaskObject
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.errors import EnrichError, InputError, MaskError, Refusal, TransientError
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.pipeline.foreign import named_series
from orthanc_plugin.results.provenance import MANUFACTURER

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
                    logger.warning("series %s holds masks without a valid SOPInstanceUID", masks_uid)
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
    """Runs the jobs of a CT again when masks of others arrive for it.

    archives: by name.
    rules: names of the rules that measure such masks.
    """

    queue: JobQueue
    archives: Mapping[str, Archive]
    rules: Collection[str]

    def look(self, archive: str, study_uid: str, series_uid: str, modality: str) -> tuple[str, ...]:
        """Look at a series that arrived, and return the jobs that run again: none if it holds no masks of others.

        A job that has not ended, or not begun, finds the masks itself.

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
            logger.warning("masks %s arrived and cannot be read: %s", series_uid, error)
            return ()
        named = {uid for header in others for uid in named_series(header) or place.ct_series(study_uid)}
        rows = (row for uid in sorted(named) for row in self.queue.ledger.of_series(archive, uid))
        return tuple(row.job_id for row in rows if row.job_id and row.rule in self.rules and self._runs(row.job_id))

    def _runs(self, job_id: str) -> bool:
        try:
            self.queue.retry(job_id)
        except TransientError:
            raise
        except EnrichError as error:
            logger.info("masks arrived, but %s", error)
            return False
        logger.info("job %s runs again: masks of its series arrived", job_id)
        return True
