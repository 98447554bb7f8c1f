"""Scans of jobs to look at: the series as its archive holds it, with the segmentations that the job stored.

A scan lies in memory while somebody scrolls through it; the oldest ones go when there are too many. One is read at a
time. Pictures are kept apart, so that going back and forth costs nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from typing import Generic, TypeVar

from orthanc_plugin import identity
from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, EnrichError, InputError, Refusal
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.results.sc.scan import Scan, make_scan
from orthanc_plugin.series.read import read_series

SCAN_BYTES = 768 << 20
"""Memory for scans: one of 1,000 slices of 512 x 512 with one segmentation fits; the one in use always stays."""
PICTURE_BYTES = 128 << 20
LARGEST_VOXELS = 400_000_000
"""Larger scans (1,500 slices of 512 x 512) are not shown: reading one takes seven bytes a voxel in the service."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Values used last, up to a number of bytes; the newest one stays, whatever its size."""

    def __init__(self, most_bytes: int, size: Callable[[Value], int]) -> None:
        self._most, self._size = most_bytes, size
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._used: dict[Key, float] = {}
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """Return a value that is kept, and keep it longer."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                self._used[key] = time.monotonic()
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, and let go of the oldest ones."""
        with self._lock:
            self._values[key] = value
            self._used[key] = time.monotonic()
            while len(self._values) > 1 and sum(map(self._size, self._values.values())) > self._most:
                del self._used[self._values.popitem(last=False)[0]]

    def forget(self, unused_s: float) -> None:
        """Let go of what nobody asked for in that time."""
        with self._lock:
            for key in [key for key, used in self._used.items() if time.monotonic() - used >= unused_s]:
                del self._values[key], self._used[key]


class Scans:
    """Reads scans and draws their planes.

    Parameters
    ----------
    queue : JobQueue
        Names the series and the objects of each job.
    archives : mapping
        Settings of the archives, by name.
    opened : callable
        Opens an archive, given its name and settings.
    load : callable
        Reads the series of a job and vouches that it has the content of the job.
    """

    def __init__(
        self,
        queue: JobQueue,
        archives: Mapping[str, ArchiveSettings],
        opened: Callable[[str, ArchiveSettings], Archive] = open_archive,
        load: Callable[[Archive, EnrichJob], CtSeries] | None = None,
    ) -> None:
        self._queue, self._archives, self._opened, self._load = queue, archives, opened, load or load_series
        self._scans: Kept[tuple[str, ...], Scan] = Kept(SCAN_BYTES, lambda scan: scan.nbytes)
        self._pictures: Kept[tuple[object, ...], bytes] = Kept(PICTURE_BYTES, len)
        self._reading = threading.Lock()

    def scan(self, job_id: str) -> Scan:
        """Return the scan of a job with the segmentations that it has stored so far.

        Raises
        ------
        EnrichError
            If there is no such job, its series has changed or cannot be read, or a segmentation is no longer there.
        TransientError
            If the archive is away.
        """
        return self._scan(*self._named(job_id))

    def png(self, job_id: str, plane: str, index: int, window: str, hidden: Collection[str] | None) -> bytes:
        """Draw one plane; raise as `scan` does, and LookupError if there is no such plane or window."""
        job, segs = self._named(job_id)
        outlines = "none" if hidden is None else ",".join(sorted(hidden))
        key = (*_key(job, segs), plane, index, window, outlines)
        png = self._pictures.get(key)
        if png is None:
            png = self._scan(job, segs).png(plane, index, window, hidden)
            self._pictures.put(key, png)
        return png

    def forget(self, unused_s: float) -> None:
        """Let go of scans and pictures that nobody asked for in that time."""
        self._scans.forget(unused_s)
        self._pictures.forget(unused_s)

    def _named(self, job_id: str) -> tuple[EnrichJob, list[StoredObject]]:
        view, job = self._queue.show(job_id), self._queue.job(job_id)
        return job, [item for item in view.objects if item.kind is Output.SEG]

    def _scan(self, job: EnrichJob, segs: list[StoredObject]) -> Scan:
        key = _key(job, segs)
        if (kept := self._scans.get(key)) is not None:
            return kept
        with self._reading:
            if (kept := self._scans.get(key)) is not None:  # somebody else has read it meanwhile
                return kept
            scan = self._read(job, segs)
            self._scans.put(key, scan)
        return scan

    def _read(self, job: EnrichJob, segs: list[StoredObject]) -> Scan:
        if job.voxels > LARGEST_VOXELS:
            raise InputError(Refusal.TOO_LARGE, "the scan is too large to be shown here")
        with closing(self._open(job.archive)) as archive:
            series = self._load(archive, job)
        with closing(self._open(job.plan.home_archive)) as home:
            found = [home.find(s.study_instance_uid, s.series_instance_uid, s.sop_instance_uid) for s in segs]
        if None in found:
            raise EnrichError("a segmentation of this job is no longer in its archive")
        return make_scan(series, [ds for ds in found if ds is not None])

    def _open(self, name: str) -> Archive:
        if name not in self._archives:
            raise ConfigError(f"this configuration has no archive {name}")
        return self._opened(name, self._archives[name])


def _key(job: EnrichJob, segs: list[StoredObject]) -> tuple[str, ...]:
    return (job.archive, job.fingerprint, *(item.sop_instance_uid for item in segs))


def load_series(archive: Archive, job: EnrichJob) -> CtSeries:
    """Read the series of a job, and vouch that it has the content of the job; raise InputError if it has not."""
    series = read_series(archive.retrieve(job.study_instance_uid, job.series_instance_uid), job.plan.reading)
    if identity.fingerprint(series.identity, job.generation) != job.fingerprint:
        raise InputError(Refusal.GONE, "the series has changed since this job; a newer decision shows it")
    return series
