"""What the stages of one job share: the store and the settings of results, and the masks as stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import DEFAULT_SEG, ContourStyle, MaskObject, Output, SegSettings, StoredObject
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import StoreError
from orthanc_plugin.results import seg
from orthanc_plugin.results.provenance import Provenance


class ObjectStore(Protocol):
    """The place that stores results and gives them back: an archive or a folder."""

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Return the stored object, or None."""
        ...

    def store(self, ds: Dataset) -> None:
        """Store one object; raise StoreError or TransientError if that fails."""
        ...


class MaskSource(Protocol):
    """The archive that holds masks which others made."""

    def list(self, study_uid: str, series_uid: str) -> tuple[MaskObject, ...]:
        """List the objects of a study that may hold masks of this CT."""
        ...

    def read(self, mask: MaskObject) -> Dataset | None:
        """Read one object; None if it is no mask of others. Raise MaskError if it is gone."""
        ...


class NoMasks:
    """A source without masks."""

    def list(self, study_uid: str, series_uid: str) -> tuple[MaskObject, ...]:
        """Return nothing."""
        return ()

    def read(self, mask: MaskObject) -> Dataset | None:
        """Return nothing."""
        return None


@dataclass(frozen=True, slots=True)
class StoredMasks:
    """A SEG as its archive gives it back, and the segmentation in it."""

    ds: Dataset
    segmentation: Segmentation


class ReadBack:
    """SEGs as their archive gives them back, by SOPInstanceUID: a job reads and decodes each one once.

    The session of the job makes it and drops it.
    """

    def __init__(self) -> None:
        self._kept: dict[str, StoredMasks] = {}

    def get(self, sop_uid: str) -> StoredMasks | None:
        """Return the SEG of that UID, or None if this job has not read it yet."""
        return self._kept.get(sop_uid)

    def keep(self, masks: StoredMasks) -> StoredMasks:
        """Keep a SEG that was just read."""
        self._kept[masks.ds.SOPInstanceUID] = masks
        return masks


@dataclass(frozen=True, slots=True)
class Context:
    """What the stages of one job share.

    title: coded title of the reports.
    begun: when the job began, if that is known.
    models: digests of the models of the plan, in its order.
    seg, radiomics, image_library, hold_back, contours: as in the plan.
    processes, memory_mib: number of processes and MiB that radiomics may use.
    read_back: SEGs that this job has read back.
    masks_of_others: where masks are that others made.
    """

    fingerprint: str
    store: ObjectStore
    clock: Callable[[], datetime]
    title: Code
    read_back: ReadBack
    seg: SegSettings = field(default=DEFAULT_SEG)
    radiomics: RadiomicsSettings = field(default=RadiomicsSettings())
    image_library: bool = False
    hold_back: tuple[Check, ...] = ()
    processes: int = 1
    memory_mib: int = 2048
    contours: ContourStyle = ContourStyle.KEYHOLE
    begun: datetime | None = None
    models: tuple[str, ...] = ()
    masks_of_others: MaskSource = field(default=NoMasks())

    @property
    def report_settings(self) -> str:
        """Settings that decide the content of every report; they enter its UID."""
        return f"title={self.title.scheme}:{self.title.value}"

    def provenance(self, series: CtSeries, card: ModelCard, sop_uid: str, provider: str) -> Provenance:
        """State who makes an object of this job now."""
        order = self.models.index(card.digest) if card.digest in self.models else 0
        return Provenance(series, card, sop_uid, provider, self.clock(), self.begun, order)

    def find(self, series: CtSeries, sop_uid: str, first: str = "") -> Dataset | None:
        """Return a result of this series, or None if it is not stored.

        `first` is the SOPInstanceUID of the first object of its series, if that is another one.
        """
        return self.store.find(series.identity.study_instance_uid, identity.series_uid(first or sop_uid), sop_uid)

    def keep(self, series: CtSeries, encoded: Dataset) -> tuple[Dataset, bool]:
        """Store an object and read it back.

        Returns
        -------
        tuple of Dataset and bool
            The object as stored, and whether it is one that somebody else stored first; that one counts.

        Raises
        ------
        StoreError
            If the archive refuses the object or does not give it back.
        """
        self.store.store(encoded)
        place = (series.identity.study_instance_uid, encoded.SeriesInstanceUID)
        stored = self.store.find(*place, encoded.SOPInstanceUID)
        if stored is None:
            raise StoreError(f"the archive accepted {encoded.SOPInstanceUID} but does not give it back")
        return stored, not _same_content(stored, encoded)

    def masks(self, series: CtSeries, card: ModelCard, sop_uid: str) -> StoredMasks:
        """Return a SEG as stored; raise StoreError if it is gone."""
        if (known := self.read_back.get(sop_uid)) is not None:
            return known
        ds = self.find(series, sop_uid)
        if ds is None:
            raise StoreError(f"the SEG {sop_uid} is gone from its archive")
        return self._decoded(series, card, ds)

    def remember(self, series: CtSeries, card: ModelCard, ds: Dataset) -> Segmentation:
        """Decode a SEG that was just read."""
        return self._decoded(series, card, ds).segmentation

    def _decoded(self, series: CtSeries, card: ModelCard, ds: Dataset) -> StoredMasks:
        return self.read_back.keep(StoredMasks(ds, seg.decode_seg(ds, series, card)))


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The object that a stage stored; None if there was nothing to report, and `notes` says why.

    more: objects of the same series that follow it.
    """

    stored: StoredObject | None
    notes: tuple[str, ...] = ()
    more: tuple[StoredObject, ...] = ()


def reference(ds: Dataset, kind: Output, adopted: bool) -> StoredObject:
    """Make a reference to a stored object, as a job records it."""
    return StoredObject(kind, ds.SOPClassUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, adopted)


def _same_content(one: Dataset, other: Dataset) -> bool:
    # A structure set is compared by its time only, as comparing contours would parse millions of numbers.
    keywords = (
        "PixelData", "ContentSequence", "EncapsulatedDocument", "ContentDate", "ContentTime", "StructureSetDate",
        "StructureSetTime",
    )  # fmt: skip
    return all(one.get(keyword) == other.get(keyword) for keyword in keywords)
