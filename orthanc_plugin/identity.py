"""Fingerprints of series, ids of jobs, and UIDs of results. All are derived, none is random.

A series that arrives a hundred times runs once, and a job that runs twice makes the same objects.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from orthanc_plugin import RESULTS_VERSION

_NAMESPACE = uuid.UUID("6f1f2c9e-5f0b-5c7e-9a43-0d1f6f1f8f0e")


@dataclass(frozen=True, slots=True)
class SeriesIdentity:
    """The UIDs and the patient identity that a fingerprint covers."""

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    frame_of_reference_uids: tuple[str, ...]


def digest(*parts: str | Iterable[str]) -> str:
    """Hash strings and lists of strings with SHA-256 (hex), unambiguously: `("ab", "c")` is not `("a", "bc")`."""
    canonical = [part if isinstance(part, str) else list(part) for part in parts]
    return hashlib.sha256(json.dumps(canonical, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def fingerprint(series: SeriesIdentity, generation: int) -> str:
    """Identify the content of a series as an archive holds it.

    Parameters
    ----------
    series : SeriesIdentity
        UIDs and PatientID; the order of the instances does not matter.
    generation : int
        0 at first; it grows when the source was deleted, or changed its identity, and arrived again.

    Returns
    -------
    str
        SHA-256, hex.
    """
    return digest(
        series.series_instance_uid,
        sorted(series.sop_instance_uids),
        series.study_instance_uid,
        series.patient_id,
        sorted(set(series.frame_of_reference_uids)),
        str(generation),
    )


def job_id(archive: str, series_fingerprint: str, plan_digest: str) -> str:
    """Return the id of the job that enriches this content by this plan."""
    return digest(archive, series_fingerprint, plan_digest)


def _uid(*parts: str | Iterable[str]) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, digest(*parts)).int}"


def seg_uid(series_fingerprint: str, model_digest: str, settings: str) -> str:
    """Return the SOPInstanceUID of the SEG of one model."""
    return _uid("seg", series_fingerprint, model_digest, settings, str(RESULTS_VERSION))


def sr_uid(seg_sop_instance_uid: str, kind: str, settings: str) -> str:
    """Return the SOPInstanceUID of a report made from that SEG; `kind` is `radiomics`, `landmarks`, ..."""
    return _uid("sr", seg_sop_instance_uid, kind, settings, str(RESULTS_VERSION))


def joint_sr_uid(seg_sop_instance_uids: Iterable[str], kind: str, settings: str) -> str:
    """Return the SOPInstanceUID of a report made from several SEGs, in any order."""
    return _uid("joint-sr", sorted(seg_sop_instance_uids), kind, settings, str(RESULTS_VERSION))


def body_sr_uid(series_fingerprint: str, model_digest: str, kind: str, settings: str) -> str:
    """Return the SOPInstanceUID of a body part regression report; `kind` is `body-landmarks`, `body-regions`, ..."""
    return _uid("body-sr", series_fingerprint, model_digest, kind, settings, str(RESULTS_VERSION))


def input_sr_uid(series_fingerprint: str, method_digest: str, settings: str) -> str:
    """SOPInstanceUID of the report on what a series is worth as input."""
    return _uid("input-sr", series_fingerprint, method_digest, settings, str(RESULTS_VERSION))


def series_uid(sop_instance_uid: str) -> str:
    """Return the SeriesInstanceUID of a result: one series per object (OHIF shows only the last SEG of a series)."""
    return _uid("series", sop_instance_uid)


def rejection_uid(sop_instance_uids: Iterable[str]) -> str:
    """Return the SOPInstanceUID of the note that rejects these results."""
    return _uid("rejection", sorted(sop_instance_uids))


def tracking_uid(seg_sop_instance_uid: str, item: str) -> str:
    """Return the TrackingUID of a segment (its number) or of a landmark (its name)."""
    return _uid("tracking", seg_sop_instance_uid, item)


def frame_of_reference_uid(series: SeriesIdentity) -> str:
    """Return one frame of reference for a series in which every slice has its own."""
    return _uid("frame-of-reference", series.series_instance_uid, sorted(set(series.frame_of_reference_uids)))


def dimension_organization_uid(sop_instance_uid: str) -> str:
    """Return the DimensionOrganizationUID of a SEG, so that a rerun gives the same bytes."""
    return _uid("dimension-organization", sop_instance_uid)


def device_uid(model_digest: str) -> str:
    """Return the DeviceUID of an algorithm, which changes with its card or weights (IHE AIR)."""
    return _uid("device", model_digest)


def substitute_uid(sop_instance_uid: str, kind: str) -> str:
    """Return the SOPInstanceUID of what a destination gets in place of an object; `kind` says how it was made."""
    return _uid("substitute", sop_instance_uid, kind)
