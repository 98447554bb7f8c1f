"""A folder tree as an archive of the service: series are read from it, and results are written into it.

Sources may lie anywhere below the folder, under any name. A result becomes `STUDY/SERIES/SOP.dcm`: it is written beside
that name and then linked to it, so that nobody sees half a file and nothing is overwritten. A file is read for its UIDs
once, and again when its time or size changes.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pydicom.dataset import Dataset

from orthanc_plugin.archive.folder import FolderSeries, identity_of_file, scan
from orthanc_plugin.archive.matching import matches
from orthanc_plugin.archive.part10 import Damaged, NotDicom, read_instance
from orthanc_plugin.archive.protocol import MASKS
from orthanc_plugin.domain.uids import check_uids
from orthanc_plugin.errors import InputError, Refusal, StoreError, TransientError

_PARTIAL = ".partial"
_MODE = 0o640
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

_Signature = tuple[int, int]
_Place = tuple[str, str, str]


class TreeArchive:
    """Archive (see `protocol.Archive`) of the files below a folder.

    Parameters
    ----------
    name : str
        Key of the archive in the configuration.
    folder : Path
        Its root.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._known: dict[Path, tuple[_Signature, Dataset | Damaged | NotDicom]] = {}
        self._last: tuple[tuple[tuple[Path, _Signature], ...], tuple[Dataset, ...]] = ((), ())
        self._lock = threading.Lock()

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """Read them from the headers of the files."""
        found = {(s.study_instance_uid, s.patient_id) for s in self._series() if s.series_instance_uid == series_uid}
        return tuple(sorted(found))

    def studies(self, query: Mapping[str, str], offset: int) -> tuple[str, ...]:
        """List the studies that match by the header of the first file of a series."""
        found = (
            series.study_instance_uid
            for series in self._series()
            if matches(self._read(series.files[0], stop_before_pixels=True), query)
        )
        return tuple(dict.fromkeys(found))[offset:]

    def series_of(self, study_uid: str, modality: str) -> tuple[str, ...]:
        """List the series of one modality from the headers of the files."""
        found = (s for s in self._series() if s.study_instance_uid == study_uid and s.modality == modality)
        return tuple(sorted({series.series_instance_uid for series in found}))

    def ct_series(self, study_uid: str) -> tuple[str, ...]:
        """List the CT series of a study from the headers of the files."""
        found = (s for s in self._series() if s.study_instance_uid == study_uid and s.modality == "CT")
        return tuple(sorted({series.series_instance_uid for series in found}))

    def mask_series(self, study_uid: str) -> tuple[str, ...]:
        """List the series with masks of a study from the headers of the files."""
        found = (s for s in self._series() if s.study_instance_uid == study_uid and s.modality in MASKS)
        return tuple(sorted({series.series_instance_uid for series in found}))

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Read the headers of the files, up to the pixels; those of the last series are kept while no file changes."""
        files = self._files(study_uid, series_uid)
        with self._lock:
            signatures = tuple((file, self._known[file][0]) for file in files if file in self._known)
            if self._last[0] == signatures:
                return self._last[1]
        headers = tuple(self._read(file, stop_before_pixels=True) for file in files)
        with self._lock:
            self._last = signatures, headers
        return headers

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """Read the files one by one."""
        files = self._files(study_uid, series_uid)
        if not files:
            raise InputError(Refusal.GONE, "the folder no longer holds the series")
        for file in files:
            yield self._read(file)

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Read the file that holds an instance."""
        check_uids(study_uid, series_uid, sop_uid)
        self._check_there()
        place = (study_uid, series_uid, sop_uid)
        if (own := self._read_place(self._path(place))) == place:
            return self._read(self._path(place))
        if own is not None:
            return None  # another object has the name; `store` says so
        with self._lock:
            held = [
                path for path, (_, ds) in self._refresh().items() if isinstance(ds, Dataset) and _place(ds) == place
            ]
        return self._read(held[0]) if held else None

    def holds(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Tell whether a file holds the instance."""
        return self.find(study_uid, series_uid, sop_uid) is not None

    def store(self, ds: Dataset) -> None:
        """Write one object as `STUDY/SERIES/SOP.dcm`, unless it is there.

        Raises
        ------
        StoreError
            Another object has that name.
        TransientError
            The folder is not there, or cannot be written.
        """
        place = _place(ds)
        check_uids(*place)
        self._check_there()
        path = self._path(place)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                self._write(ds, path)
        except OSError as error:
            raise self._away(f"cannot be written: {error.strerror or type(error).__name__}") from None
        if self._read_place(path) != place:
            raise StoreError(f"archive {self.name}: another object lies where {place[-1]} belongs; it stays")

    def _write(self, ds: Dataset, path: Path) -> None:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=_PARTIAL)
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                ds.save_as(stream, enforce_file_format=True)
                stream.flush()
                os.fsync(stream.fileno())
            partial.chmod(_MODE)
            with suppress(FileExistsError):  # somebody was faster: the first object stays
                _link(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def _series(self) -> tuple[FolderSeries, ...]:
        """Look through the folder again; raise TransientError if it is not there, or empty."""
        self._check_there()
        with self._lock:
            known = self._refresh()
            if not known:
                raise self._away("is empty; is it mounted?")

            def read(file: Path) -> Dataset:
                if isinstance(ds := known[file][1], Dataset):
                    return ds
                raise ds

            return scan(sorted(known), read)[0]

    def _refresh(self) -> dict[Path, tuple[_Signature, Dataset | Damaged | NotDicom]]:
        """Read the files that are new or changed, and forget those that are gone."""
        fresh = {}
        for path in self._folder.rglob("*"):
            with suppress(FileNotFoundError):
                if path.name.endswith(_PARTIAL) or not path.is_file():
                    continue
                status = path.stat()
                signature = (status.st_mtime_ns, status.st_size)
                before = self._known.get(path)
                fresh[path] = before if before and before[0] == signature else (signature, _identity(path))
        self._known = fresh
        return fresh

    def _files(self, study_uid: str, series_uid: str) -> tuple[Path, ...]:
        wanted = (study_uid, series_uid)
        same = [s for s in self._series() if (s.study_instance_uid, s.series_instance_uid) == wanted]
        if count := sum(len(s.unreadable) for s in same):
            message = f"{count} file(s) that may belong to the series cannot be read; copy the folder again"
            raise InputError(Refusal.UNREADABLE, message)
        return tuple(file for series in same for file in series.files)

    def _read(self, file: Path, *, stop_before_pixels: bool = False) -> Dataset:
        try:
            return read_instance(file, stop_before_pixels=stop_before_pixels)
        except (Damaged, NotDicom):
            self._check_there()
            raise InputError(Refusal.UNREADABLE, "a file of the series cannot be read; copy the folder again") from None

    def _read_place(self, path: Path) -> _Place | None:
        """Return the UIDs of the object that lies at a path: empty if it is no object, None if there is nothing."""
        if not path.exists():
            return None
        found = _identity(path)
        return _place(found) if isinstance(found, Dataset) else ("", "", "")

    def _path(self, place: _Place) -> Path:
        study, series, sop = place
        return self._folder / study / series / f"{sop}.dcm"

    def _check_there(self) -> None:
        if not self._folder.is_dir():
            raise self._away("is not there; is it mounted?")

    def _away(self, why: str) -> TransientError:
        return TransientError(f"archive {self.name}: the folder {self._folder} {why}")


def open_tree(name: str, folder: Path) -> TreeArchive:
    """Open the archive of that name in the configuration."""
    return TreeArchive(name, folder)


def _identity(path: Path) -> Dataset | Damaged | NotDicom:
    try:
        return identity_of_file(path)
    except (Damaged, NotDicom) as error:
        return error


def _place(ds: Dataset) -> _Place:
    study, series, sop = (str(ds.get(f"{level}InstanceUID") or "") for level in ("Study", "Series", "SOP"))
    return study, series, sop


def _link(partial: Path, path: Path) -> None:
    """Give a file its name, unless something has that name; some network drives know no links."""
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError from None
        partial.rename(path)
