"""What the stages of one job share: where results lie, by which settings they are made, and the masks as stored."""

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
from orthanc_plugin.domain.plan import Output, SegSettings, StoredObject
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import StoreError
from orthanc_plugin.results import seg


class ObjectStore(Protocol):
    """Where results go and are read back from: an archive, or a folder."""

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """The stored object, or None."""
        ...

    def store(self, ds: Dataset) -> None:
        """Store one object; raises StoreError or TransientError."""
        ...


@dataclass(frozen=True, slots=True)
class StoredMasks:
    """A SEG as its archive gives it back, and the segmentation that it holds."""

    ds: Dataset
    segmentation: Segmentation


@dataclass(frozen=True, slots=True)
class Context:
    """What the stages of one job share.

    title: coded title of the reports.
    seg, radiomics, image_library, hold_back: as in the plan.
    processes, memory_mib: what radiomics may use at once.
    read_back: SEGs that were read back in this job, by UID, so that each is read and decoded once.
    """

    fingerprint: str
    store: ObjectStore
    clock: Callable[[], datetime]
    title: Code
    seg: SegSettings = field(default=SegSettings())
    radiomics: RadiomicsSettings = field(default=RadiomicsSettings())
    image_library: bool = False
    hold_back: tuple[Check, ...] = ()
    processes: int = 1
    memory_mib: int = 2048
    read_back: dict[str, StoredMasks] = field(default_factory=dict)

    @property
    def report_settings(self) -> str:
        """What decides the content of every report, for its UID."""
        return f"title={self.title.scheme}:{self.title.value}"

    def find(self, series: CtSeries, sop_uid: str) -> Dataset | None:
        """A result of this series, or None."""
        return self.store.find(series.identity.study_instance_uid, identity.series_uid(sop_uid), sop_uid)

    def keep(self, series: CtSeries, encoded: Dataset) -> tuple[Dataset, bool]:
        """Store, read back, and say whether somebody else's object won (then it is what counts).

        Raises
        ------
        StoreError
            If the archive refused the object or does not give it back.
        """
        self.store.store(encoded)
        stored = self.find(series, encoded.SOPInstanceUID)
        if stored is None:
            raise StoreError(f"the archive accepted {encoded.SOPInstanceUID} but does not give it back")
        return stored, not _same_content(stored, encoded)

    def masks(self, series: CtSeries, card: ModelCard, sop_uid: str) -> StoredMasks:
        """The SEG of that UID as stored; raises StoreError where it is gone."""
        if sop_uid not in self.read_back:
            ds = self.find(series, sop_uid)
            if ds is None:
                raise StoreError(f"the SEG {sop_uid} is gone from its archive")
            self.remember(series, card, ds)
        return self.read_back[sop_uid]

    def remember(self, series: CtSeries, card: ModelCard, ds: Dataset) -> Segmentation:
        """Decode a SEG that was just read."""
        segmentation = seg.decode_seg(ds, series, card)
        self.read_back[ds.SOPInstanceUID] = StoredMasks(ds, segmentation)
        return segmentation


@dataclass(frozen=True, slots=True)
class ReportResult:
    """`stored` is None where there was nothing to report; `notes` then says why."""

    stored: StoredObject | None
    notes: tuple[str, ...] = ()


def reference(ds: Dataset, kind: Output, adopted: bool) -> StoredObject:
    """The object as a job names it."""
    return StoredObject(kind, ds.SOPClassUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, adopted)


def _same_content(one: Dataset, other: Dataset) -> bool:
    # A structure set by its time alone: comparing contours would parse millions of numbers.
    keywords = ("PixelData", "ContentSequence", "ContentDate", "ContentTime", "StructureSetDate", "StructureSetTime")
    return all(one.get(keyword) == other.get(keyword) for keyword in keywords)
