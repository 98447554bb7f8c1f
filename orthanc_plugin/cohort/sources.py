"""Where a build reads from: a folder of files, or an archive behind DICOMweb.

A source lists what there is, each thing with a key that stays and a signature that changes when its content does. Only
what is new or changed is then read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.archive.part10 import Damaged, NotDicom, read_instance
from orthanc_plugin.archive.protocol import CutShort
from orthanc_plugin.cohort.ct_rows import TAGS
from orthanc_plugin.cohort.reading import CT, REPORT, SEG, Patient, modality_of, unit_of
from orthanc_plugin.cohort.unit import Unit
from orthanc_plugin.errors import InputError, TransientError

_OF_TABLES = ("build.sqlite", "manifest.json")
_PAGE_IS_CUT = "archive {} lists only a part of its studies; ask for less by --query"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that a source has. signature: changes with the content. read: gives the unit, or None for nothing."""

    key: str
    signature: str
    read: Callable[[], Unit | None]


class Source(Protocol):
    """What a build reads from."""

    @property
    def name(self) -> str:
        """What the tables are of; a folder of tables belongs to one source."""
        ...

    def __iter__(self) -> Iterator[Found]:
        """List what there is, in any order."""
        ...


class FolderSource:
    """The files below a folder, whatever their names.

    Parameters
    ----------
    folder : Path
    patient : callable
        Turns PatientID into what the tables hold.
    tables : Path, optional
        The folder of the tables. Where it lies within the source, its tables are not looked at, but all else there is.
    """

    def __init__(self, folder: Path, patient: Patient, tables: Path | None = None) -> None:
        self._folder, self._patient, self._tables = folder, patient, tables and tables.resolve()

    @property
    def name(self) -> str:
        """`folder`: it may be moved, so its place does not count."""
        return "folder"

    def __iter__(self) -> Iterator[Found]:
        """List the files; those that are no DICOM give no unit."""
        for file in sorted(path for path in self._folder.rglob("*") if path.is_file()):
            if self._is_table(file):
                continue
            try:
                status = file.stat()
            except FileNotFoundError:  # it has just gone
                continue
            name = os.fsencode(file.relative_to(self._folder))  # a name may hold any bytes
            place = name.decode("utf-8", "backslashreplace")
            yield Found(place, f"{status.st_mtime_ns} {status.st_size}", self._reader(file, place))

    def _is_table(self, file: Path) -> bool:
        is_named_so = file.name.startswith(_OF_TABLES) or file.suffix in (".parquet", ".part")
        return is_named_so and file.parent.resolve() == self._tables

    def _reader(self, file: Path, place: str) -> Callable[[], Unit | None]:
        def read() -> Unit | None:
            try:
                ds = read_instance(file, tags=TAGS, stop_before_pixels=True)
                if modality_of(ds) in (SEG, REPORT):
                    ds = read_instance(file, stop_before_pixels=True)
                return unit_of(ds, place, self._patient)
            except NotDicom:
                return None
            except Damaged as damage:
                return _damaged(damage.seen, place)

        return read


def _damaged(seen: Dataset, place: str) -> Unit:
    return Unit.unreadable(place, "the file is DICOM and cannot be read whole", *_uids(seen))


def _uids(ds: Dataset) -> tuple[str, str, str]:
    sop, study, series = (str(ds.get(f"{level}InstanceUID") or "") for level in ("SOP", "Study", "Series"))
    return sop, study, series


class ArchiveSource:
    """The SEG, SR and CT of an archive behind DICOMweb.

    Parameters
    ----------
    archive : DicomWebArchive
    patient : callable
        Turns PatientID into what the tables hold.
    query : dict
        Which studies, by DICOM keyword; empty for all.
    """

    def __init__(self, archive: DicomWebArchive, patient: Patient, query: dict[str, str]) -> None:
        self._archive, self._patient, self._query = archive, patient, query

    @property
    def name(self) -> str:
        """The archive, and what of it."""
        asked = ",".join(f"{key}={value}" for key, value in sorted(self._query.items()))
        return f"archive {self._archive.name} {asked}".strip()

    def __iter__(self) -> Iterator[Found]:
        """List the objects study by study: each SEG and SR by itself, and a CT series as a whole."""
        for study in self._studies():
            try:
                found = [*self._of_study(study)]
            except InputError as error:
                unit = Unit.unreadable(self._archive.name, f"a study cannot be listed: {error}")
                found = [Found(f"{study}/", str(error), lambda unit=unit: unit)]  # type: ignore[misc]
            yield from found

    def _of_study(self, study: str) -> Iterator[Found]:
        for series in self._archive.series_of(study, CT):
            if instances := self._archive.instances_of(study, series):
                yield self._ct(study, series, instances)
        for modality in (SEG, REPORT):
            for series in self._archive.series_of(study, modality):
                for sop in self._archive.instances_of(study, series):
                    yield Found(f"{study}/{series}/{sop}", sop, self._reader(study, series, sop, modality))

    def _studies(self) -> Iterator[str]:
        """Yield the studies once each; an archive may ignore the offset and list the same again."""
        seen: set[str] = set()
        while True:
            page = self._archive.studies(self._query, len(seen))
            fresh = [uid for uid in dict.fromkeys(page) if uid not in seen]
            seen.update(fresh)
            yield from fresh
            if not fresh:
                if isinstance(page, CutShort):
                    raise TransientError(_PAGE_IS_CUT.format(self._archive.name))
                return

    def _ct(self, study: str, series: str, instances: tuple[str, ...]) -> Found:
        def read() -> Unit | None:
            try:
                ds = self._archive.header_of(study, series, instances[0])
            except InputError as error:
                return Unit.unreadable(self._archive.name, str(error), study=study, series=series)
            return None if ds is None else unit_of(ds, self._archive.name, self._patient, len(instances))

        return Found(f"{study}/{series}", f"{len(instances)} {instances[0]} {instances[-1]}", read)

    def _reader(self, study: str, series: str, sop: str, modality: str) -> Callable[[], Unit | None]:
        """Read a SEG by its header, which leaves its pixels in the archive, and a report as it is stored."""

        def read() -> Unit | None:
            try:
                by_header = modality == SEG
                ask = self._archive.header_of if by_header else self._archive.find
                ds = ask(study, series, sop)
            except InputError as error:
                return Unit.unreadable(self._archive.name, str(error), sop, study, series)
            return None if ds is None else unit_of(ds, self._archive.name, self._patient)

        return read
