"""An archive in memory that behaves like Orthanc.

The first object of a UID wins, changes are counted, and a series knows when its last new instance came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from orthanc_plugin.archive.matching import matches
from orthanc_plugin.archive.orthanc import Changes, Mark, OrthancSeries
from orthanc_plugin.errors import TransientError
from orthanc_plugin.identity import digest


class MemoryArchive:
    """Archive and feed in one. `away` makes every call fail; `seconds` is its clock; `named`: name of its index."""

    def __init__(self, name: str = "local") -> None:
        self.name = name
        self.instances: dict[tuple[str, str, str, str], Dataset] = {}
        self.received: dict[str, int] = {}
        self.rows: list[str] = []
        self.away = False
        self.seconds = 0
        self.asked = 0
        self.most_listed = 1000
        self.kept_mark: Mark | None = None
        self.named = "index of the memory"

    def put(self, *instances: Dataset) -> None:
        for ds in instances:
            key = (str(ds.PatientID), str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID))
            if key not in self.instances:
                self.instances[key] = ds
                self.received[self._id(key)] = self.seconds
                self.rows.append(self._id(key))

    def overwrite(self, *instances: Dataset) -> None:
        """Replace what has these UIDs, as Orthanc does with OverwriteInstances."""
        uids = {str(ds.SOPInstanceUID) for ds in instances}
        self.instances = {key: ds for key, ds in self.instances.items() if key[3] not in uids}
        self.put(*instances)

    def delete(self, series_uid: str) -> None:
        self.instances = {key: ds for key, ds in self.instances.items() if key[2] != series_uid}

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        self._answer()
        return tuple(sorted({(key[1], key[0]) for key in self.instances if key[2] == series_uid}))

    def studies(self, query: Mapping[str, str], offset: int) -> tuple[str, ...]:
        self._answer()
        found = {key[1] for key, ds in self.instances.items() if matches(ds, query)}
        return tuple(sorted(found))[offset : offset + self.most_listed]

    def ct_series(self, study_uid: str) -> tuple[str, ...]:
        self._answer()
        return tuple(sorted({k[2] for k, ds in self.instances.items() if k[1] == study_uid and ds.Modality == "CT"}))

    def series_of(self, study_uid: str, modality: str) -> tuple[str, ...]:
        self._answer()
        found = {k[2] for k, ds in self.instances.items() if k[1] == study_uid and ds.Modality == modality}
        return tuple(sorted(found))

    def mask_series(self, study_uid: str) -> tuple[str, ...]:
        self._answer()
        masks = ("SEG", "RTSTRUCT")
        return tuple(sorted({k[2] for k, ds in self.instances.items() if k[1] == study_uid and ds.Modality in masks}))

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        self._answer()
        return tuple(ds for key, ds in self.instances.items() if key[1:3] == (study_uid, series_uid))

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        return iter(self.headers(study_uid, series_uid))

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        self._answer()
        found = (ds for key, ds in self.instances.items() if key[1:] == (study_uid, series_uid, sop_uid))
        return next(found, None)

    def holds(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        return self.find(study_uid, series_uid, sop_uid) is not None

    def close(self) -> None:
        """Nothing to close."""

    def store(self, ds: Dataset) -> None:
        self._answer()
        self.put(ds)

    def index(self) -> str:
        self._answer()
        return self.named

    def mark(self) -> Mark | None:
        self._answer()
        return self.kept_mark

    def last_sequence(self) -> int:
        self._answer()
        return len(self.rows)

    def changes(self, since: int) -> Changes:
        self._answer()
        page = self.rows[since : since + 3]
        last = since + len(page)
        known = {self._id(key) for key in self.instances}
        return Changes(tuple(dict.fromkeys(i for i in page if i in known)), last, last >= len(self.rows))

    def series(self, orthanc_id: str) -> OrthancSeries | None:
        self._answer()
        members = {key: ds for key, ds in self.instances.items() if self._id(key) == orthanc_id}
        if not members:
            return None
        key, ds = next(iter(members.items()))
        content, received = digest(sorted(k[3] for k in members)), f"20260101T{self.received[orthanc_id]:06d}"
        return OrthancSeries(
            orthanc_id, key[1], key[2], str(ds.Modality), content, received, "CT1", "", "DicomProtocol", "", ""
        )

    def lookup(self, study_uid: str, series_uid: str) -> str:
        self._answer()
        return next((self._id(key) for key in self.instances if key[1:3] == (study_uid, series_uid)), "")

    def listed(self, series_uids: frozenset[str]) -> frozenset[str]:
        self._answer()
        return frozenset(key[2] for key in self.instances) & series_uids

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise TransientError(f"archive {self.name} is away")

    @staticmethod
    def _id(key: tuple[str, str, str, str]) -> str:
        return "|".join(key[:3])


def ct_slice(number: int, *, series: str = "1.2.3", study: str = "1.2", patient: str = "P1") -> Dataset:
    """Make a slice of 8 x 8 pixels; 20 of them, 1 mm apart, match the default rule."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"{series}.{number}"
    ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = patient, study, series
    ds.FrameOfReferenceUID, ds.Modality, ds.ImageType = "1.2.9", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyDate, ds.StudyTime, ds.PatientName, ds.InstanceNumber = "20260101", "120000", "A^B", number
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, float(number)]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, 0, "HU"
    ds.PixelData = bytes(128)
    return ds


def ct_series(
    slices: int = 20, *, series: str = "1.2.3", study: str = "1.2", patient: str = "P1", modality: str = "CT"
) -> list[Dataset]:
    """Make a series of such slices."""
    made = [ct_slice(n, series=series, study=study, patient=patient) for n in range(1, slices + 1)]
    for ds in made:
        ds.Modality = modality
    return made
