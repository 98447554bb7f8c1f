"""To which series of a folder a file may belong that cannot be read.

What the file still tells decides: a SeriesInstanceUID, a StudyInstanceUID, its transfer syntax. After that its
neighbours do: the series in its folder, and among these the ones whose files are named alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

_TEXT_BYTES_LOOKED_AT = 4096
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})


class Series(Protocol):
    """What has to be known of a series of the folder."""

    @property
    def study_instance_uid(self) -> str:
        """StudyInstanceUID of its files."""
        ...

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID of its files."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Where they lie."""
        ...

    @property
    def transfer_syntaxes(self) -> frozenset[str]:
        """Their transfer syntaxes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """A file that was not read.

    seen: what could be read of it.
    is_dicom: whether it begins as DICOM does.
    is_directory: whether it is a whole DICOMDIR, which belongs to no series.
    """

    file: Path
    seen: Dataset
    is_dicom: bool
    is_directory: bool = False


def may_be_instance(unread: Unread, series: Sequence[Series]) -> bool:
    """Tell whether a file may be an instance that was damaged, not a text or a picture that lies beside the series.

    Empty and garbled files count where they are named as the files of a series in the same folder are.
    """
    if unread.is_dicom or unread.is_directory:
        return unread.is_dicom
    file = unread.file
    if file.name.startswith(".") or not any(file.suffix == other.suffix for other in _beside(file, series)):
        return False
    return bool(file.suffix) or not _is_text(file)


def is_empty_dicom(unread: Unread) -> bool:
    """Tell whether a file is empty and named as DICOM files are: its content was lost."""
    return unread.file.suffix.lower() in _DICOM_SUFFIXES and unread.file.stat().st_size == 0


def owners(unread: Unread, series: Sequence[Series]) -> tuple[int, ...]:
    """Give the indices of the series to which a file may belong; none where it lies beside none."""
    if uid := str(unread.seen.get("SeriesInstanceUID") or ""):
        return tuple(index for index, s in enumerate(series) if s.series_instance_uid == uid)
    file, meta = unread.file, getattr(unread.seen, "file_meta", Dataset())
    study, syntax = str(unread.seen.get("StudyInstanceUID") or ""), str(meta.get("TransferSyntaxUID") or "")
    candidates = [index for index, s in enumerate(series) if any(other.parent == file.parent for other in s.files)]
    evidence: tuple[Callable[[Series], bool], ...] = (
        lambda s: s.study_instance_uid == study,
        lambda s: syntax in s.transfer_syntaxes,
        lambda s: any(other.parent == file.parent and _shape(other) == _shape(file) for other in s.files),
    )
    for speaks_for in evidence:
        candidates = [index for index in candidates if speaks_for(series[index])] or candidates
    return tuple(candidates)


def _beside(file: Path, series: Sequence[Series]) -> list[Path]:
    return [other for s in series for other in s.files if other.parent == file.parent]


def _shape(file: Path) -> str:
    """Reduce a name to what files of one export share: numbers become one sign."""
    return re.sub(r"\d+", "#", file.name)


def _is_text(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_TEXT_BYTES_LOOKED_AT)
    return bool(head) and not re.search(rb"[\x00-\x08\x0e-\x1f]", head)
