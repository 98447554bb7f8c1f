"""The files of a folder that became part of no result, named for people and machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orthanc_plugin.archive.folder import FolderArchive, FolderSeries

_NAMED_FILES = 5


@dataclass(frozen=True, slots=True)
class UnreadFiles:
    """Files of a folder that were not read, as paths.

    of_series: files that may belong to the series; it is refused where there are any.
    damaged: further DICOM files that cannot be read; they lie beside no series.
    passed_over: files that are not DICOM instances.
    """

    of_series: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    @property
    def any_lost(self) -> bool:
        """Whether DICOM files could not be read: the exit code tells it."""
        return bool(self.of_series or self.damaged)

    def lines(self) -> Iterator[str]:
        """Say for people what was not read."""
        for text, files in (
            ("cannot be read and may belong to this series", self.of_series),
            ("of the folder cannot be read and lie beside no series", self.damaged),
            ("of the folder are not DICOM instances and were passed over", self.passed_over),
        ):
            if files:
                more = f" and {len(files) - _NAMED_FILES} more" if len(files) > _NAMED_FILES else ""
                yield f"{len(files)} file(s) {text}: {', '.join(files[:_NAMED_FILES])}{more}"


def unread_files(series: FolderSeries, archive: FolderArchive) -> UnreadFiles:
    """Give the files that were not read, as one series of the folder sees them."""
    damaged = set(archive.damaged)
    return UnreadFiles(
        of_series=tuple(map(str, archive.unread_of(series))),
        damaged=tuple(map(str, archive.damaged)),
        passed_over=tuple(str(file) for file in archive.skipped if file not in damaged),
    )
