"""A folder as an archive: CT files in, result files out. The pipeline without a PACS.

Files of the source are recognised by content, not by name; what is no DICOM is passed over and counted. Results get
names that a person can read; the same object written again replaces nothing.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from orthanc_plugin.errors import InputError, Refusal, StoreError

_IDENTITY = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription"]
_UNREADABLE = (InvalidDicomError, EOFError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FolderSeries:
    """One series of the source folder."""

    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    modality: str
    description: str
    files: tuple[Path, ...]


class FolderArchive:
    """Archive (see `protocol.Archive`) of the files below `source`; stores into `out`.

    Attributes
    ----------
    series : tuple of FolderSeries
        What the source holds, in the order of the files' names.
    skipped : tuple of Path
        Files that are no DICOM instance.
    """

    def __init__(self, source: Path, out: Path, name: str = "folder") -> None:
        self.name = name
        self._out = out
        self.series, self.skipped = _scan(source)
        if self.skipped:
            logger.info("%d files of the folder are no DICOM instance and are passed over", len(self.skipped))
        self._stored: dict[str, Path] = {}
        for file in sorted(out.glob("*.dcm")):
            with suppress(*_UNREADABLE, OSError):  # no object of ours
                self._stored[str(dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)] = file

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """From the files' headers."""
        found = {(s.study_instance_uid, s.patient_id) for s in self.series if s.series_instance_uid == series_uid}
        return tuple(sorted(found))

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """The files' headers, read up to the pixels."""
        return tuple(_read(file, stop_before_pixels=True) for file in self._files(study_uid, series_uid))

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """The files, one after the other."""
        files = self._files(study_uid, series_uid)
        if not files:
            raise InputError(Refusal.GONE, "the folder does not have the series")
        for file in files:
            yield _read(file)

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """A result stored in the out folder."""
        file = self._stored.get(sop_uid)
        return dcmread(file) if file is not None and file.exists() else None

    def store(self, ds: Dataset) -> None:
        """Write one object as `<SeriesDescription>.dcm`; the first object of a UID stays."""
        uid = str(ds.SOPInstanceUID)
        if self.find("", "", uid) is not None:
            return
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            file = self._free_name(str(ds.get("SeriesDescription") or ds.Modality))
            ds.save_as(file, enforce_file_format=True)
        except OSError as error:
            raise StoreError(f"the out folder cannot be written: {error.strerror}") from error
        self._stored[uid] = file

    def stored_file(self, sop_uid: str) -> Path | None:
        """Where an object lies."""
        return self._stored.get(sop_uid)

    def _files(self, study_uid: str, series_uid: str) -> tuple[Path, ...]:
        wanted = (study_uid, series_uid)
        same = (s for s in self.series if (s.study_instance_uid, s.series_instance_uid) == wanted)
        return tuple(file for series in same for file in series.files)

    def _free_name(self, description: str) -> Path:
        slug = re.sub(r"[^a-z0-9]+", "-", description.lower()).strip("-")[:60] or "object"
        number, file = 2, self._out / f"{slug}.dcm"
        while file.exists():
            number, file = number + 1, self._out / f"{slug}-{number}.dcm"
        return file


def _scan(source: Path) -> tuple[tuple[FolderSeries, ...], tuple[Path, ...]]:
    groups: dict[tuple[str, str, str], list[tuple[Path, Dataset]]] = defaultdict(list)
    skipped = []
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        try:
            ds = dcmread(file, specific_tags=_IDENTITY, stop_before_pixels=True)
            key = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.get("PatientID") or ""))
        except (*_UNREADABLE, OSError):
            skipped.append(file)
            continue
        groups[key].append((file, ds))
    return tuple(_folder_series(key, members) for key, members in groups.items()), tuple(skipped)


def _folder_series(key: tuple[str, str, str], members: list[tuple[Path, Dataset]]) -> FolderSeries:
    study_uid, series_uid, patient_id = key
    first = members[0][1]
    modality, description = str(first.get("Modality") or ""), str(first.get("SeriesDescription") or "")
    return FolderSeries(study_uid, series_uid, patient_id, modality, description, tuple(file for file, _ in members))


def _read(file: Path, *, stop_before_pixels: bool = False) -> Dataset:
    try:
        return dcmread(file, stop_before_pixels=stop_before_pixels)
    except (*_UNREADABLE, OSError) as error:
        raise InputError(Refusal.UNREADABLE, "a file of the series cannot be read") from error
