"""The protocol of an archive.

The same pipeline runs from a DICOMweb server and from a folder of files. UIDs are the only identifiers here; a server's
own ids do not cross this border.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from pydicom.dataset import Dataset

MASKS = ("SEG", "RTSTRUCT")
"""Modalities of objects that hold masks."""


class CutShort(tuple[str, ...]):
    """A list of UIDs that lacks some: the archive says that it left them out."""


class Archive(Protocol):
    """A store of DICOM objects: it returns series and accepts results."""

    @property
    def name(self) -> str:
        """Key of the archive in the configuration."""
        ...

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """List every (StudyInstanceUID, PatientID) that holds the series; more than one is a conflict.

        Raises
        ------
        TransientError
            The archive does not respond.

        Source
        ------
        QIDO-RS Search for Series, DICOM PS3.18 10.6.
        """
        ...

    def studies(self, query: Mapping[str, str], offset: int) -> tuple[str, ...]:
        """List the StudyInstanceUIDs of the studies that match, or of a part of them; empty after the last part.

        A part is `CutShort` if the archive says that there are more.

        Parameters
        ----------
        query : mapping
            Values to match, by DICOM keyword.
        offset : int
            Number of studies to leave out. An archive may ignore it and list the same studies again.

        Raises
        ------
        InputError
            The archive refuses the query.
        TransientError
            The archive does not respond.

        Source
        ------
        QIDO-RS Search for Studies, DICOM PS3.18 10.6.
        """
        ...

    def series_of(self, study_uid: str, modality: str) -> tuple[str, ...]:
        """List the SeriesInstanceUIDs of one modality in a study, sorted; raise as `ct_series` does."""
        ...

    def ct_series(self, study_uid: str) -> tuple[str, ...]:
        """List the SeriesInstanceUID of every CT series of a study; `CutShort` if the archive left some out.

        Raises
        ------
        TransientError
            The archive does not respond.

        Source
        ------
        QIDO-RS Search for Series, DICOM PS3.18 10.6.
        """
        ...

    def mask_series(self, study_uid: str) -> tuple[str, ...]:
        """List the SeriesInstanceUID of every series of a study that holds SEGs or RT structure sets.

        Raises
        ------
        TransientError
            The archive does not respond.

        Source
        ------
        QIDO-RS Search for Series, DICOM PS3.18 10.6.
        """
        ...

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Return the metadata of each instance, without pixels; empty if the archive lacks the series.

        Raises
        ------
        InputError
            The answer is not valid DICOM metadata.
        TransientError
            The archive does not respond.

        Source
        ------
        WADO-RS Retrieve Metadata, DICOM PS3.18 10.4.
        """
        ...

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """Yield the instances as stored (any transfer syntax), in any order.

        Raises
        ------
        InputError
            The series is gone, or an instance cannot be read.
        TransientError
            The archive does not respond.
        """
        ...

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Return one instance, or None if the archive lacks it.

        Raises
        ------
        InputError
            The instance cannot be read.
        TransientError
            The archive does not respond.
        """
        ...

    def holds(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Tell whether the archive has an instance; False too if it cannot be asked: storing twice does no harm.

        Raises
        ------
        TransientError
            The archive does not respond.
        """
        ...

    def store(self, ds: Dataset) -> None:
        """Store one instance.

        Raises
        ------
        StoreError
            The archive refused the instance; the message holds its answer.
        NotSupportedError
            The archive does not support this kind of object.
        TransientError
            The archive does not respond.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
