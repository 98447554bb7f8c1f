"""A folder as an archive: CT files in, result files out. It runs the pipeline without a PACS.

Files of the source are recognised by content, not by name. Every file is accounted for: it belongs to a series, or it
makes the series unreadable to which it may belong, or it is named as passed over. Results get names that a person can
read; the same object written again replaces nothing.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from orthanc_plugin.archive.matching import matches
from orthanc_plugin.archive.ownership import Unread, is_empty_dicom, may_be_instance, owners
from orthanc_plugin.archive.part10 import DAMAGE, Damaged, NotDicom, read_instance
from orthanc_plugin.archive.protocol import MASKS
from orthanc_plugin.errors import InputError, Refusal, StoreError

_MOST_HEADERS = 2048
"""So many are kept, of the series that were asked for last: rules, identity and ranking ask one after the other."""

_IDENTITY = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FolderSeries:
    """One series of the source folder.

    unreadable: files that may belong to it and cannot be read; the series is refused where there are any.
    transfer_syntaxes: of its files.
    """

    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    modality: str
    description: str
    files: tuple[Path, ...]
    unreadable: tuple[Path, ...] = ()
    transfer_syntaxes: frozenset[str] = frozenset()


class FolderArchive:
    """Archive (see `protocol.Archive`) of the files below `source`; stores into `out`.

    Attributes
    ----------
    series : tuple of FolderSeries
        All series of the source, in the order of the file names.
    skipped : tuple of Path
        Files that belong to no series: they are not a DICOM instance, or cannot be read and lie beside no series.
    damaged : tuple of Path
        Those of `skipped` that are DICOM and cannot be read, or are named as DICOM files and empty.
    """

    def __init__(self, source: Path, out: Path, name: str = "folder") -> None:
        self.name = name
        self._out = out
        self.series, self.skipped, self.damaged = scan(sorted(p for p in source.rglob("*") if p.is_file()))
        if self.skipped:
            logger.info("%d files of the folder belong to no series and are passed over", len(self.skipped))
        self._headers: dict[tuple[str, str], tuple[Dataset, ...]] = {}
        self._failed: set[Path] = set()
        self._stored: dict[str, Path] = {}
        for file in sorted(out.glob("*.dcm")):
            with suppress(Damaged, NotDicom, AttributeError):  # not an object of ours
                ds = read_instance(file, tags=["SOPInstanceUID"], stop_before_pixels=True)
                self._stored[str(ds.SOPInstanceUID)] = file

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """Read them from the headers of the files."""
        found = {(s.study_instance_uid, s.patient_id) for s in self.series if s.series_instance_uid == series_uid}
        return tuple(sorted(found))

    def studies(self, query: Mapping[str, str], offset: int) -> tuple[str, ...]:
        """List the studies that match by the header of the first file of a series."""
        found = (
            s.study_instance_uid
            for s in self.series
            if matches(next(self._each(s.files[:1], stop_before_pixels=True)), query)
        )
        return tuple(dict.fromkeys(found))[offset:]

    def series_of(self, study_uid: str, modality: str) -> tuple[str, ...]:
        """List the series of one modality from the headers of the files."""
        found = (s for s in self.series if s.study_instance_uid == study_uid and s.modality == modality)
        return tuple(sorted({series.series_instance_uid for series in found}))

    def ct_series(self, study_uid: str) -> tuple[str, ...]:
        """List the CT series of a study from the headers of the files."""
        found = (s for s in self.series if s.study_instance_uid == study_uid and s.modality == "CT")
        return tuple(dict.fromkeys(series.series_instance_uid for series in found))

    def mask_series(self, study_uid: str) -> tuple[str, ...]:
        """List the series with masks of a study from the headers of the files."""
        found = (s for s in self.series if s.study_instance_uid == study_uid and s.modality in MASKS)
        return tuple(dict.fromkeys(series.series_instance_uid for series in found))

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Read the headers of the files, up to the pixels, or give those that were read before."""
        files = self._files(study_uid, series_uid)
        found = self._headers.pop((study_uid, series_uid), None)
        if found is None:
            found = tuple(self._each(files, stop_before_pixels=True))
        self._headers[study_uid, series_uid] = found  # at the end
        while sum(map(len, self._headers.values())) > _MOST_HEADERS:
            del self._headers[next(iter(self._headers))]
        return found

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """Read the files one by one."""
        files = self._files(study_uid, series_uid)
        if not files:
            raise InputError(Refusal.GONE, "the folder does not hold the series")
        yield from self._each(files)

    def unread_of(self, series: FolderSeries) -> tuple[Path, ...]:
        """Name the files that may belong to a series and could not be read, whenever that was found."""
        return (*series.unreadable, *(file for file in series.files if file in self._failed))

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Read a result from the out folder."""
        file = self._stored.get(sop_uid)
        return read_instance(file) if file is not None and file.exists() else None

    def holds(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Tell whether a result is in the out folder."""
        return self.find(study_uid, series_uid, sop_uid) is not None

    def close(self) -> None:
        """Do nothing: no file stays open."""

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
        same = [s for s in self.series if (s.study_instance_uid, s.series_instance_uid) == wanted]
        if count := sum(len(s.unreadable) for s in same):
            message = f"{count} file(s) that may belong to the series cannot be read; copy the folder again"
            raise InputError(Refusal.UNREADABLE, message)
        return tuple(file for series in same for file in series.files)

    def _each(self, files: Sequence[Path], *, stop_before_pixels: bool = False) -> Iterator[Dataset]:
        """Read files one by one; the first that cannot be read ends it, after a look at those behind it."""
        for number, file in enumerate(files):
            try:
                yield read_instance(file, stop_before_pixels=stop_before_pixels)
            except (Damaged, NotDicom):
                self._failed |= {file, *filter(_is_damaged, files[number + 1 :])}
                count = len(self._failed.intersection(files))
                message = f"{count} file(s) of the series cannot be read; copy the folder again"
                raise InputError(Refusal.UNREADABLE, message) from None

    def _free_name(self, description: str) -> Path:
        slug = re.sub(r"[^a-z0-9]+", "-", description.lower()).strip("-")[:60] or "object"
        number, file = 2, self._out / f"{slug}.dcm"
        while file.exists():
            number, file = number + 1, self._out / f"{slug}-{number}.dcm"
        return file


def identity_of_file(file: Path) -> Dataset:
    """Read what says to which series a file belongs; raise Damaged or NotDicom as `read_instance` does."""
    return read_instance(file, tags=_IDENTITY, stop_before_pixels=True)


def scan(
    files: Iterable[Path], read: Callable[[Path], Dataset] = identity_of_file
) -> tuple[tuple[FolderSeries, ...], tuple[Path, ...], tuple[Path, ...]]:
    """Find the series among files, the files that belong to none, and those of them that are damaged.

    Parameters
    ----------
    files : iterable of Path
    read : callable
        As `identity_of_file`.
    """
    groups: dict[tuple[str, str, str], list[tuple[Path, Dataset]]] = defaultdict(list)
    unread: list[Unread] = []
    for file in files:
        try:
            ds = read(file)
            if ds.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                unread.append(Unread(file, ds, is_dicom=False, is_directory=True))
                continue
            key = _key(ds)
        except Damaged as damage:
            unread.append(Unread(file, damage.seen, is_dicom=True))
        except NotDicom:
            unread.append(Unread(file, Dataset(), is_dicom=False))
        else:
            groups[key].append((file, ds))
    return _accounted([_folder_series(key, members) for key, members in groups.items()], unread)


def _accounted(
    series: list[FolderSeries], unread: list[Unread]
) -> tuple[tuple[FolderSeries, ...], tuple[Path, ...], tuple[Path, ...]]:
    """Give every file that was not read to the series it may belong to, or to none."""
    found: dict[int, list[Path]] = defaultdict(list)
    skipped, damaged = [], []
    for one in unread:
        mine = owners(one, series) if may_be_instance(one, series) else ()
        for index in mine:
            found[index].append(one.file)
        if not mine:
            skipped.append(one.file)
            damaged += [one.file] if one.is_dicom or is_empty_dicom(one) else []
    told = tuple(replace(s, unreadable=tuple(found[index])) for index, s in enumerate(series))
    return told, tuple(skipped), tuple(damaged)


def _key(ds: Dataset) -> tuple[str, str, str]:
    """Give study, series and patient; raise Damaged for what has lost its UIDs."""
    try:
        return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.get("PatientID") or "")
    except DAMAGE:
        raise Damaged(ds) from None


def _folder_series(key: tuple[str, str, str], members: list[tuple[Path, Dataset]]) -> FolderSeries:
    study_uid, series_uid, patient_id = key
    first = members[0][1]
    modalities = [str(ds.get("Modality") or "") for _, ds in members]
    modality = "CT" if "CT" in modalities else modalities[0]  # pictures and reports may lie beside the slices
    description = str(first.get("SeriesDescription") or "")
    files, syntaxes = tuple(file for file, _ in members), frozenset(_syntax(ds) for _, ds in members)
    return FolderSeries(study_uid, series_uid, patient_id, modality, description, files, transfer_syntaxes=syntaxes)


def _syntax(ds: Dataset) -> str:
    return str(ds.file_meta.get("TransferSyntaxUID") or "")


def _is_damaged(file: Path) -> bool:
    try:
        read_instance(file)
    except (Damaged, NotDicom):
        return True
    return False
