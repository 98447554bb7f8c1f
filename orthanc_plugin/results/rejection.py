"""Rejection notes: tell an archive that results of ours no longer count, where nobody can remove them.

Source: IHE RAD TF-2, Image Rejection Note Stored [RAD-66] of Imaging Object Change Management, which is a Key Object
Selection (DICOM PS3.3 A.35.4, PS3.16 TID 2010). Of the titles that it knows (CID 7011), "Rejected for Quality Reasons"
is the only one that says nothing untrue: the others speak of the patient's safety, of a wrong worklist entry and of the
time for which an archive keeps data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from orthanc_plugin import __version__, identity
from orthanc_plugin.results.listing import FIRST_NUMBER
from orthanc_plugin.results.provenance import MANUFACTURER, PRODUCT

SERIES_NUMBER = FIRST_NUMBER + 990
TITLE = CodedConcept("113001", "DCM", "Rejected for Quality Reasons")
_TYPE_2 = (
    "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip


def encode_rejection(rejected: Sequence[Dataset], created: datetime) -> Dataset:
    """Reject results of one study.

    Parameters
    ----------
    rejected : sequence of Dataset
        The results as their archive gives them back, at least one.
    created : datetime
        When the note is made.

    Returns
    -------
    Dataset
        The note. Its UID follows from the results, so that a rerun makes no second one.
    """
    evidence = [_evidence(ds) for ds in rejected]
    uid = identity.rejection_uid(str(ds.SOPInstanceUID) for ds in rejected)
    note = KeyObjectSelectionDocument(
        evidence,
        KeyObjectSelection(TITLE, evidence, description="Results of AI that newer ones replace, or whose CT is gone"),
        series_instance_uid=identity.series_uid(uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        series_description="AI research: rejection of outdated results",
        specific_character_set=rejected[0].get("SpecificCharacterSet"),
    )
    note.PatientName = rejected[0].get("PatientName", "")  # highdicom quotes some names in a warning
    for kind in ("InstanceCreation", "Content"):
        setattr(note, f"{kind}Date", f"{created:%Y%m%d}")
        setattr(note, f"{kind}Time", f"{created:%H%M%S.%f}")
    return note


def _evidence(ds: Dataset) -> Dataset:
    evidence = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(evidence, keyword, ds[keyword].value)
    for keyword in _TYPE_2:
        setattr(evidence, keyword, ds.get(keyword, ""))
    evidence.PatientName = ""
    if ds.get("Rows"):
        evidence.Rows, evidence.Columns = ds.Rows, ds.Columns
    return evidence
