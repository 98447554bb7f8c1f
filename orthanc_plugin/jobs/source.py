"""The source of a job: no result is stored, or stays, where the series is no longer what was decided on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pydicom.dataset import Dataset
from sqlalchemy.exc import DBAPIError

from orthanc_plugin.archive.orthanc import Feed
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EnrichError, InputError, Refusal, StoreError, TransientError
from orthanc_plugin.identity import digest
from orthanc_plugin.jobs.ledger import Ledger
from orthanc_plugin.results.kinds import reference_of
from orthanc_plugin.results.predecessors import name_predecessors

_OF_THE_ARCHIVE = frozenset({"RetrieveAETitle", "InstanceAvailability", "RetrieveURL"})
"""What an archive adds to metadata by itself; it may differ from one answer to the next."""


class Source:
    """The series of one job in its archive.

    Parameters
    ----------
    job : EnrichJob
        The job.
    archive : Archive
        The archive that holds the series.
    feed : Feed or None
        The index of the archive if that is an Orthanc. It costs a few small requests, where DICOMweb costs the
        metadata of all instances.
    load : callable
        Reads the series and vouches that it has the content of the job.
    """

    def __init__(
        self, job: EnrichJob, archive: Archive, feed: Feed | None, load: Callable[[Archive, EnrichJob], CtSeries]
    ) -> None:
        self._job, self._archive, self._feed, self._load = job, archive, feed, load
        self._content = ""

    def read(self) -> CtSeries:
        """Read the series; raise InputError (`gone`) if it changes meanwhile."""
        before = self._look()
        try:
            series = self._load(self._archive, self._job)
        except InputError as error:
            if error.reason is Refusal.GONE and self._is_missed():
                raise TransientError(
                    f"archive {self._archive.name} does not find a series that its index lists; check its Url"
                ) from None
            raise
        if self._look() != before:
            raise InputError(Refusal.GONE, "the series changed while it was read; a new decision follows")
        self._content = before
        return series

    def is_there(self) -> bool:
        """Tell whether the archive still holds the content that was read."""
        return self._look() == self._content

    def _is_missed(self) -> bool:
        """Tell whether the index lists the series and DICOMweb does not find it: a wrong address, no deletion."""
        listed = self._feed is not None and self._look() != ""
        return listed and not self._archive.headers(self._job.study_instance_uid, self._job.series_instance_uid)

    def _look(self) -> str:
        """Return what tells the content of the series as the archive holds it now.

        An Orthanc tells by the time of its newest instance that one came again under the same UIDs. Other archives tell
        by what the headers say; pixels that they replace under the same headers are not seen.
        """
        study, series = self._job.study_instance_uid, self._job.series_instance_uid
        if self._feed is not None:
            found = self._feed.series(orthanc_id) if (orthanc_id := self._feed.lookup(study, series)) else None
            return f"{found.content} {found.received}" if found is not None else ""
        headers = self._archive.headers(study, series)
        if not headers and self._archive.same_series_studies(series):
            raise TransientError(f"archive {self._archive.name} lists the series but does not find it")
        return digest(sorted(_in_words(header) for header in headers))


def _in_words(header: Dataset) -> str:
    mine = (element for element in header if not element.tag.is_private and element.keyword not in _OF_THE_ARCHIVE)
    return "\n".join(map(str, mine))


Predecessors = Callable[[EnrichJob, Output], tuple[StoredObject, ...]]


def no_predecessors(job: EnrichJob, kind: Output) -> tuple[StoredObject, ...]:
    """Return nothing: superseded results do not stay."""
    return ()


@dataclass(frozen=True, slots=True)
class KeptPredecessors:
    """Finds what a job supersedes in a ledger, where the settings keep superseded results."""

    ledger: Ledger

    def __call__(self, job: EnrichJob, kind: Output) -> tuple[StoredObject, ...]:
        """Return the reports of a kind of the latest earlier content of the series that has some."""
        rows = self.ledger.of_series(job.archive, job.series_instance_uid)
        places = (place for place, row in enumerate(rows) if row.fingerprint == job.fingerprint)
        earlier = rows[: next(places, 0)]
        reports = (tuple(o for o in row.summary.objects if o.kind is kind) for row in reversed(earlier))
        return next((found for found in reports if found), ())


class Names(Protocol):
    """Where the objects are named that a job stores, or may have stored when it ended."""

    def add(self, item: StoredObject) -> None:
        """Name an object that is about to be stored."""
        ...

    def drop(self, item: StoredObject) -> None:
        """Forget an object that was not stored, or was taken back."""
        ...


class NoNames:
    """Names nothing."""

    def add(self, item: StoredObject) -> None:
        """Do nothing."""

    def drop(self, item: StoredObject) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class LedgerNames:
    """Names in the ledger's row of a job.

    job_id: returns the job that this thread works on.
    """

    ledger: Ledger
    job_id: Callable[[], str]

    def add(self, item: StoredObject) -> None:
        """Name an object; raise TransientError if the database does not take it."""
        with _database():
            self.ledger.add_object(self.job_id(), item)

    def drop(self, item: StoredObject) -> None:
        """Forget an object; raise TransientError if the database does not take it."""
        with _database():
            self.ledger.drop_object(self.job_id(), item)


@contextmanager
def _database() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise TransientError("the job database does not take what the job stores") from error


@dataclass(frozen=True, slots=True)
class GuardedStore:
    """The home archive of a job: it looks after the source before and after each store.

    remove: takes back an object that was just stored; None if the archive cannot do that.
    names: where each object is named before it is stored.
    predecessors: returns the earlier reports of a kind that a report replaces.
    """

    home: Archive
    source: Source
    remove: Callable[[Dataset], bool] | None
    names: Names
    predecessors: Callable[[Output], tuple[StoredObject, ...]] = lambda kind: ()

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Return the stored object, or None."""
        return self.home.find(study_uid, series_uid, sop_uid)

    def store(self, ds: Dataset) -> None:
        """Store one object.

        Raises
        ------
        InputError
            The source is gone or changed; what was stored in that moment is taken back.
        """
        if not self.source.is_there():
            raise InputError(Refusal.GONE, "the series changed or was deleted before its result was stored")
        if ds.Modality == "SR":
            name_predecessors(ds, self.predecessors(reference_of(ds).kind))
        self.names.add(reference_of(ds))
        try:
            self.home.store(ds)
        except TransientError:
            raise  # it may be stored all the same
        except EnrichError:
            self.names.drop(reference_of(ds))
            raise
        if self.source.is_there():
            return
        raise InputError(
            Refusal.GONE, f"the series changed or was deleted while its result was stored; {self._undo(ds)}"
        )

    def _undo(self, ds: Dataset) -> str:
        if self.remove is None:
            return f"{ds.SOPInstanceUID} is still in archive {self.home.name}"
        try:
            self.remove(ds)
        except (StoreError, TransientError) as error:
            return f"{ds.SOPInstanceUID} is still there: {error}"
        self.names.drop(reference_of(ds))
        return "the result was withdrawn"
