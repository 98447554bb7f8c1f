"""What an archive is to the rest of the program.

The same pipeline runs from a DICOMweb server and from a folder of files. UIDs are the only names used here; nothing
of a server's own numbering crosses this border.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pydicom.dataset import Dataset


class Archive(Protocol):
    """Holds DICOM objects: gives series, takes results."""

    @property
    def name(self) -> str:
        """Its key in the configuration."""
        ...

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """Every (StudyInstanceUID, PatientID) under which the series lies; more than one is a conflict.

        Raises
        ------
        TransientError
            The archive is away.

        Source
        ------
        QIDO-RS Search for Series, DICOM PS3.18 10.6.
        """
        ...

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Metadata of each instance, without pixels; empty where the series is not there.

        Raises
        ------
        InputError
            What came back is no DICOM metadata.
        TransientError
            The archive is away.

        Source
        ------
        WADO-RS Retrieve Metadata, DICOM PS3.18 10.4.
        """
        ...

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """The instances as stored (any transfer syntax), in any order, one after the other.

        Raises
        ------
        InputError
            The series is gone, or an instance cannot be read.
        TransientError
            The archive is away.
        """
        ...

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """One instance, or None where it is not there; raises TransientError when the archive is away."""
        ...

    def store(self, ds: Dataset) -> None:
        """Store one instance.

        Raises
        ------
        StoreError
            The archive refused it; the message holds its answer.
        TransientError
            The archive is away.
        """
        ...
