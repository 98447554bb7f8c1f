"""Find the studies of one patient."""

from __future__ import annotations

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.errors import InputError, Refusal


def studies_of_patient(archive: Archive, patient_id: str) -> tuple[str, ...]:
    """List the StudyInstanceUIDs of a patient.

    An archive may compare without regard to case, so callers look at the PatientID of what they read.

    Raises
    ------
    InputError
        If the PatientID is empty or has a wildcard: it would stand for other patients as well.
    TransientError
        If the archive is away.
    """
    if not patient_id.strip() or set(patient_id) & set("*?\\"):
        raise InputError(Refusal.INVALID_IDENTITY, "name one PatientID, without wildcards")
    known: dict[str, None] = {}
    while part := [uid for uid in archive.studies({"PatientID": patient_id}, len(known)) if uid not in known]:
        known |= dict.fromkeys(part)
    return tuple(known)
