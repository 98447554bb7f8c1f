"""Results of a job, read back from its home archive: the numbers of its radiomics reports, and its previews.

The database keeps no copy of them, so a table can never contradict the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from io import BytesIO

from PIL import Image
from pydicom.dataset import Dataset

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import ConfigError, EnrichError
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.results.sr.landmarks import model_of_landmarks_sr, read_landmarks_sr
from orthanc_plugin.results.sr.radiomics_table import TableRow, read_radiomics_sr


class StoredResults:
    """Reads the results of jobs from their home archives.

    Parameters
    ----------
    queue : JobQueue
        Lists the objects of each job.
    archives : mapping
        Settings of the archives, by name.
    opened : callable
        Opens an archive, given its name and settings.
    patient : callable
        Turns PatientID into what tables hold.
    """

    def __init__(
        self,
        queue: JobQueue,
        archives: Mapping[str, ArchiveSettings],
        opened: Callable[[str, ArchiveSettings], Archive] = open_archive,
        patient: Callable[[str], str] = lambda patient_id: "",
    ) -> None:
        self._queue, self._archives, self._opened, self._patient = queue, archives, opened, patient

    def radiomics(self, job_id: str) -> tuple[TableRow, ...]:
        """Return every feature of the job's radiomics reports; empty if the job made no such report.

        Raises
        ------
        EnrichError
            If there is no such job, or a report is no longer in its archive.
        ConfigError
            If this configuration lacks the home archive.
        TransientError
            If the archive is away.
        """
        reports = self._objects(job_id, Output.RADIOMICS)
        return tuple(row for ds in reports for row in read_radiomics_sr(ds, self._patient))

    def preview(self, job_id: str, sop_uid: str = "") -> bytes | None:
        """Return one of the job's previews as PNG, by default the first; raise as `radiomics` does.

        Returns
        -------
        bytes or None
            None if the job made none, or none of this SOPInstanceUID.
        """
        found = next(self._objects(job_id, Output.PREVIEW, sop_uid), None)
        return None if found is None else as_png(found)

    def mask_landmarks(self, job_id: str) -> tuple[tuple[str, str, float], ...]:
        """Return name, model and height (LPS z, mm) of each landmark of the job's masks; raise as `radiomics` does."""
        return tuple(
            (name, model_of_landmarks_sr(report), z_mm)
            for report in self._objects(job_id, Output.LANDMARKS)
            for name, z_mm in read_landmarks_sr(report)
        )

    def headers(self, job_id: str) -> tuple[tuple[StoredObject, Dataset | None], ...]:
        """Return each object of a job with its header, or None where the archive lacks it; raise as `radiomics`."""
        stored = self._queue.show(job_id).objects
        if not stored:
            return ()
        with closing(self._home(job_id)) as archive:
            return tuple((item, _header(archive, item)) for item in stored)

    def _objects(self, job_id: str, kind: Output, sop_uid: str = "") -> Iterator[Dataset]:
        objects = self._queue.show(job_id).objects
        stored = [o for o in objects if o.kind is kind and sop_uid in ("", o.sop_instance_uid)]
        if not stored:
            return
        archive = self._home(job_id)
        for o in stored:
            ds = archive.find(o.study_instance_uid, o.series_instance_uid, o.sop_instance_uid)
            if ds is None:
                raise EnrichError(f"the {kind} object {o.sop_instance_uid} is no longer in its archive")
            yield ds

    def _home(self, job_id: str) -> Archive:
        name = self._queue.job(job_id).plan.home_archive
        if name not in self._archives:
            raise ConfigError(f"this configuration has no archive {name}")
        return self._opened(name, self._archives[name])


def _header(archive: Archive, item: StoredObject) -> Dataset | None:
    found = archive.headers(item.study_instance_uid, item.series_instance_uid)
    return next((ds for ds in found if ds.SOPInstanceUID == item.sop_instance_uid), None)


def as_png(secondary_capture: Dataset) -> bytes:
    """Convert a stored preview to PNG."""
    png = BytesIO()
    Image.fromarray(secondary_capture.pixel_array).save(png, "PNG")
    return png.getvalue()
