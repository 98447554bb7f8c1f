"""Write studies of an archive as folders without identities.

Every object of CT, SEG, SR and RTSTRUCT is de-identified by the same key and written as it is read: memory holds one.
What cannot be de-identified with confidence is refused with a reason, never copied: pictures of screens, objects of
other kinds, and CTs that say that their pixels hold words.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedSRStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from orthanc_plugin import __version__
from orthanc_plugin.archive.part10 import BROKEN
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.domain.uids import LABEL_MAP_SEGMENTATION
from orthanc_plugin.errors import InputError, StoreError
from orthanc_plugin.sharing.profile import METHOD, Deidentifier

MODALITIES = ("CT", "SEG", "RTSTRUCT", "SR")
_IMAGES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_CLASSES = (
    *_IMAGES, SegmentationStorage, LABEL_MAP_SEGMENTATION, RTStructureSetStorage,
    EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage,
)  # fmt: skip
_SCREENS = ("SCREEN", "DOSE", "SECONDARY", "LOCALIZER", "REPORT", "CAPTURE")
_BIDS_VERSION = "1.10.0"


class Layout(StrEnum):
    """How the folder is laid out: `dicom`, PATIENT/STUDY/SERIES, or `bids`, sub-X/ses-N/modality."""

    DICOM = "dicom"
    BIDS = "bids"


@dataclass(frozen=True, slots=True)
class Written:
    """A file of an export; all UIDs are new."""

    file: str
    sha256: str
    modality: str
    patient: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Refused:
    """What was not exported; the UID is the one that the series would have had."""

    patient: str
    series_instance_uid: str
    modality: str
    reason: str


class Export:
    """Writes one folder.

    Parameters
    ----------
    out : Path
        Empty, or not there.
    deidentifier : Deidentifier
    layout : Layout

    Attributes
    ----------
    written : list of Written
    refused : list of Refused
    sources : dict
        Study and series that were read, with their own UIDs: for the audit log, never for the folder.

    Raises
    ------
    StoreError
        If the folder holds something.
    """

    def __init__(self, out: Path, deidentifier: Deidentifier, layout: Layout) -> None:
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"{out.name} is not empty; an export goes into a folder of its own")
        self._out, self._by, self._layout = out, deidentifier, layout
        self.written: list[Written] = []
        self.refused: list[Refused] = []
        self._sessions: dict[str, dict[str, int]] = {}
        self._seen: dict[str, int] = {}
        self.sources: dict[str, list[str]] = {}

    def add_study(self, archive: Archive, study_uid: str, patient_id: str = "") -> None:
        """Export a study; if a PatientID is given, only its objects of exactly this patient.

        Raises
        ------
        TransientError
            If the archive is away.
        """
        for modality in MODALITIES:
            for series_uid in archive.series_of(study_uid, modality):
                self.sources.setdefault(study_uid, []).append(series_uid)
                try:
                    for ds in archive.retrieve(study_uid, series_uid):
                        self._add(ds, patient_id)
                except InputError as error:
                    self.refused.append(Refused("", self._by.pseudonyms.uid(series_uid), modality, str(error.reason)))

    def _add(self, source: Dataset, patient_id: str) -> None:
        is_other = patient_id and str(source.get("PatientID") or "").strip() != patient_id.strip()
        reason = "the object is of another patient" if is_other else refusal(source)
        if reason:
            self._refuse(source, reason)
            return
        try:
            ds = self._by.clean(source)
        except BROKEN as error:  # a syntax that pydicom cannot write, or values that are none
            self._refuse(source, f"the object cannot be written anew: {type(error).__name__}")
            return
        path = self._out / self._place(ds)
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.written.append(
            Written(
                path.relative_to(self._out).as_posix(), digest, str(ds.Modality), str(ds.PatientID),
                str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID),
            )
        )  # fmt: skip

    def _refuse(self, source: Dataset, reason: str) -> None:
        pseudonyms = self._by.pseudonyms
        self.refused.append(
            Refused(
                pseudonyms.patient(str(source.get("PatientID") or "")),
                pseudonyms.uid(str(source.get("SeriesInstanceUID") or "")),
                str(source.get("Modality") or "")[:16],
                reason,
            )
        )

    def _place(self, ds: Dataset) -> Path:
        patient, study, series = str(ds.PatientID), str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
        studies = self._sessions.setdefault(patient, {})
        session = studies.setdefault(study, len(studies) + 1)
        number = self._seen[series] = self._seen.get(series, 0) + 1
        kind = str(ds.Modality).lower()
        short = hashlib.sha256(series.encode()).hexdigest()[:8]
        if self._layout is Layout.BIDS:
            subject, ses = f"sub-{patient}", f"ses-{session:02d}"
            stem = f"{subject}_{ses}_acq-{short}_{kind}"
            return Path(subject, ses, kind, stem, f"{stem}_{number:05d}.dcm")
        return Path(patient, f"study-{session:02d}", f"{kind}-{short}", f"{number:05d}.dcm")

    def finish(self) -> None:
        """Write the manifest, what was refused, and the files that a layout asks for."""
        self._out.mkdir(parents=True, exist_ok=True)
        _write(self._out / "manifest.csv", Written, self.written)
        _write(self._out / "refused.csv", Refused, self.refused)
        options = ", ".join(f"{code.value} {code.meaning}" for code in self._by.options)
        text = (
            f"De-identified by orthanc-enrichment {__version__}: {METHOD} ({options}).\n"
            "Pixels were not changed: a head can be recognised from its surface. Masks and reports of models are for "
            "research use only.\n"
        )
        (self._out / "README").write_text(text, encoding="utf-8")
        if self._layout is Layout.BIDS:
            described = {"Name": "De-identified CT cohort", "BIDSVersion": _BIDS_VERSION, "DatasetType": "raw"}
            (self._out / "dataset_description.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
            (self._out / ".bidsignore").write_text("**/*.dcm\nmanifest.csv\nrefused.csv\n", encoding="utf-8")
            rows = "".join(f"sub-{patient}\n" for patient in sorted(self._sessions))
            (self._out / "participants.tsv").write_text(f"participant_id\n{rows}", encoding="utf-8")


def refusal(ds: Dataset) -> str:
    """Say why an object is not exported; empty if it is."""
    if ds.get("SOPClassUID") not in _CLASSES:
        return "an object of this kind is not exported"
    if str(ds.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        return "the object says that words are burned into its pixels"
    kinds = str(ds.get("ImageType") or "").upper()  # one value or several
    if ds.SOPClassUID in _IMAGES and any(screen in kinds for screen in _SCREENS):
        return "the image is a localizer, a screen or a derived picture"
    if not str(ds.get("PatientID") or "").strip():
        return "the object has no PatientID"
    return ""


def _write(file: Path, kind: type[Written | Refused], rows: Iterable[Written | Refused]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(kind)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
