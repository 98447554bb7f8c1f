"""What people made of the segmentations of a job: found in its home archive, compared on its series, kept in memory.

The database keeps no copy: an object that somebody deletes is gone from the page as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, InputError, Refusal
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.scans import LARGEST_VOXELS, Kept, load_series
from orthanc_plugin.validation.cases import Row
from orthanc_plugin.validation.corrections import candidates, compare_candidate

_KEPT_BYTES, _ROW_BYTES = 8 << 20, 2000


@dataclass(frozen=True, slots=True)
class CorrectedJob:
    """Corrections of a job, by structure. independent: objects that others drew without ours."""

    rows: tuple[Row, ...] = ()
    independent: int = 0


class Corrections:
    """Finds and compares corrections; parameters as for `scans.Scans`."""

    def __init__(
        self,
        queue: JobQueue,
        archives: Mapping[str, ArchiveSettings],
        opened: Callable[[str, ArchiveSettings], Archive] = open_archive,
        load: Callable[[Archive, EnrichJob], CtSeries] = load_series,
    ) -> None:
        self._queue, self._archives, self._opened, self._load = queue, archives, opened, load
        self._kept: Kept[tuple[str, ...], CorrectedJob] = Kept(
            _KEPT_BYTES, lambda one: _ROW_BYTES * (1 + len(one.rows))
        )
        self._reading = threading.Lock()

    def of_job(self, job_id: str) -> CorrectedJob:
        """Return the corrections of a job; the series is read only if there is an object that may be one.

        Raises
        ------
        EnrichError
            If there is no such job, or its series has changed or cannot be read.
        TransientError
            If the archive is away.
        """
        job = self._queue.job(job_id)
        with closing(self._open(job.plan.home_archive)) as home:
            found = candidates(home, job.study_instance_uid, job.series_instance_uid)
            if not found:
                return CorrectedJob()
            key = (job_id, *sorted(str(one.other.SOPInstanceUID) for one in found))
            with self._reading:
                if (kept := self._kept.get(key)) is not None:
                    return kept
                series = self._series(job)
                compared = [compare_candidate(home, one, series, lambda patient_id: "") for one in found]
                rows = tuple(row for one in compared if one.is_correction for row in one.case.rows)
                made = CorrectedJob(rows, sum(not one.is_correction for one in compared))
                self._kept.put(key, made)
        return made

    def _series(self, job: EnrichJob) -> CtSeries:
        if job.voxels > LARGEST_VOXELS:
            raise InputError(Refusal.TOO_LARGE, "the scan is too large to be compared here; use `validate`")
        with closing(self._open(job.archive)) as archive:
            return self._load(archive, job)

    def _open(self, name: str) -> Archive:
        if name not in self._archives:
            raise ConfigError(f"this configuration has no archive {name}")
        return self._opened(name, self._archives[name])
