"""A folder as an archive: CT files in, result files out. It runs the pipeline without a PACS.

The content of a file counts, not its name: files that are not DICOM are skipped and counted. Results get readable
names. Storing an object twice keeps the first file.
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
        All series of the source, in the order of the file names.
    skipped : tuple of Path
        Files that are not DICOM instances.
    """

    def __init__(self, source: Path, out: Path, name: str = "folder") -> None:
        self.name = name
        self._out = out
        self.series, self.skipped = _scan(source)
        if self.skipped:
            logger.info("skipped %d files of the folder: not DICOM instances", len(self.skipped))
        self._stored: dict[str, Path] = {}
        for file in sorted(out.glob("*.dcm")):
            with suppress(*_UNREADABLE, OSError):  # not one of our objects
                self._stored[str(dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)] = file

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """Read them from the headers of the files."""
        found = {(s.study_instance_uid, s.patient_id) for s in self.series if s.series_instance_uid == series_uid}
        return tuple(sorted(found))

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Read the headers of the files, up to the pixels."""
        return tuple(_read(file, stop_before_pixels=True) for file in self._files(study_uid, series_uid))

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """Read the files one by one."""
        files = self._files(study_uid, series_uid)
        if not files:
            raise InputError(Refusal.GONE, "the folder does not hold the series")
        for file in files:
            yield _read(file)

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Read a result from the out folder."""
        file = self._stored.get(sop_uid)
        return dcmread(file) if file is not None and file.exists() else None

    def store(self, ds: Dataset) -> None:
        """Write one object as `<SeriesDescription>.dcm`, unless an object with its UID is there."""
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
        """Return the file of a stored object."""
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
