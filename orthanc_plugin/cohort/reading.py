"""What one object says: SEG, SR or CT of any maker becomes a unit, as does what cannot be read, with a reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedSRStorage,
    ExtensibleSRStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SegmentationStorage,
)

from orthanc_plugin.archive.part10 import BROKEN
from orthanc_plugin.cohort import items
from orthanc_plugin.cohort.body_rows import is_about_body, is_landmarks, landmark_rows, region_rows
from orthanc_plugin.cohort.ct_rows import ct_unit
from orthanc_plugin.cohort.items import Evidence, text_of, uid_of
from orthanc_plugin.cohort.quality_rows import check_rows, input_rows, is_checks, is_input
from orthanc_plugin.cohort.report_rows import Group, loose_rows, measurement_rows
from orthanc_plugin.cohort.seg_rows import algorithm_of, rows_of_seg, series_of
from orthanc_plugin.cohort.unit import Row, Unit
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.uids import LABEL_MAP_SEGMENTATION
from orthanc_plugin.results.kinds import kind_of
from orthanc_plugin.results.provenance import MANUFACTURER
from orthanc_plugin.validation.timeline import TIMELINE

READER = 3
"""Raised when objects give other rows than before: a build then reads them all again."""
SEG, REPORT, CT = "SEG", "SR", "CT"
_DIGEST = "model_sha256"
_KINDS: Mapping[str, str] = {
    SegmentationStorage: SEG,
    LABEL_MAP_SEGMENTATION: SEG,
    BasicTextSRStorage: REPORT,
    EnhancedSRStorage: REPORT,
    ComprehensiveSRStorage: REPORT,
    Comprehensive3DSRStorage: REPORT,
    ExtensibleSRStorage: REPORT,
    CTImageStorage: CT,
    EnhancedCTImageStorage: CT,
    LegacyConvertedEnhancedCTImageStorage: CT,
}
"""What an object is by its SOP class; where that does not tell, its Modality counts."""
_NOTHING_TOLD = "the file is DICOM, and neither its SOP class nor its Modality can be read"
_NO_UID = "a UID of the object is missing or not valid"
_OVER_TIME = "values of several studies; the reports of each study state them"
_VIEWER = "Unspecified"
"""Manufacturer by default of dcmjs, which viewers such as OHIF use: it keeps the algorithm of what a person edited."""
_MASKS_OF_OTHERS = "masks"
"""Begins the name that our reports on masks of others give instead of a model (`pipeline.foreign`)."""
Patient = Callable[[str], str]


def unit_of(ds: Dataset, place: str, patient: Patient, instances: int = 1) -> Unit | None:
    """Read one object; None if it is neither SEG nor SR nor CT.

    Parameters
    ----------
    ds : Dataset
        The object; pixels are not needed.
    place : str
        Where it was, for people.
    patient : callable
        Turns PatientID into what the tables hold.
    instances : int
        How many instances of its series a CT stands for.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes odd values
            return _read(ds, place, patient, instances)
    except BROKEN as error:
        known = (uid_of(ds.get(f"{level}InstanceUID")) for level in ("SOP", "Study", "Series"))
        return Unit.unreadable(place, f"the object cannot be read: {type(error).__name__}", *known)


def modality_of(ds: Dataset) -> str:
    """Return SEG, SR or CT by the SOP class, and else the Modality that the object states."""
    return _KINDS.get(str(ds.get("SOPClassUID") or "")) or text_of(ds.get("Modality"))


def _read(ds: Dataset, place: str, patient: Patient, instances: int) -> Unit | None:
    modality = modality_of(ds)
    if not modality and not ds.get("SOPClassUID"):
        known = (uid_of(ds.get(f"{level}InstanceUID")) for level in ("SOP", "Study", "Series"))
        return Unit.unreadable(place, _NOTHING_TOLD, *known)
    if modality == CT:
        return ct_unit(ds, place, instances, patient)
    if modality == SEG:
        return _seg_unit(ds, place)
    return _report_unit(ds, place) if modality == REPORT else None


def _seg_unit(seg: Dataset, place: str) -> Unit:
    series, reason = series_of(seg)
    rows = rows_of_seg(seg)
    first = next(iter(seg.get("SegmentSequence") or ()), Dataset())
    described = [item for item in seg.get("SegmentSequence") or () if item.get("SegmentNumber") != 0]
    model, version, parameters = algorithm_of(next(iter(described), first))
    stated = dict(part.split("=", 1) for part in parameters.split("\\") if "=" in part)
    return _unit(
        seg, place, series, Output.SEG.value, (model, version, stated.get(_DIGEST, "")), {"segments": rows},
        reason or ("" if rows else "the SEG describes no segment"),
        "" if _is_automatic(seg, rows) else text_of(seg.get("SOPInstanceUID")),
    )  # fmt: skip


def _is_automatic(seg: Dataset, rows: Sequence[Row]) -> bool:
    """Tell whether no person drew or edited it, as far as the object says so."""
    return seg.get("Manufacturer") != _VIEWER and all(row["algorithm_type"] == "AUTOMATIC" for row in rows)


def _report_unit(ds: Dataset, place: str) -> Unit:
    shared = items.parameters_in(ds)
    name, _, version = shared.get("model", "").rpartition(" ")
    evidence = Evidence.of(ds)
    groups = [Group.of(item, evidence, shared, (name, version)) for item in items.groups_of(ds)]
    kind = _kind(ds)
    over_time = name == TIMELINE and text_of(ds.get("Manufacturer")) == MANUFACTURER
    rows = {} if over_time else {table: [*found] for table, found in _tables(groups, kind).items()}
    if loose := items.loose_numbers(ds):
        beside = Dataset()
        beside.ContentSequence = Items(loose)
        group = Group.of(beside, evidence, shared, (name, version))
        rows["measurements"] = [*rows.get("measurements", ()), *loose_rows(group)]
    series = next((group.series for group in groups if group.series), next(iter(evidence.sources), ""))
    model = next(((g.model, g.version) for g in groups if g.model), (name, version))
    reason = "" if groups else "the report holds no measurement group of TID 1500"
    reason = _OVER_TIME if over_time else reason
    digest = shared.get(_DIGEST) or next((g.stated[_DIGEST] for g in groups if _DIGEST in g.stated), "")
    measured = next(iter(rows["measurements"]), {}) if rows and model[0].startswith(_MASKS_OF_OTHERS) else {}
    subject = str(measured.get("seg_sop_instance_uid") or "")
    kept = {table: found for table, found in rows.items() if found}
    return _unit(ds, place, series, kind, (*model, digest), kept, reason, subject)


def _tables(groups: Sequence[Group], kind: str) -> dict[str, list[Row]]:
    checks = [group for group in groups if is_checks(group)]
    figures = [group for group in groups if is_input(group)]
    body = [group for group in groups if is_about_body(group)]
    if kind == Output.VIEWER_LANDMARKS:  # the points of the body landmarks once more
        return {}
    others = [group for group in groups if group not in checks and group not in figures and group not in body]
    marks = kind in (Output.LANDMARKS, Output.BODY_LANDMARKS) or (kind == REPORT_OF_OTHERS and is_landmarks(body))
    return {
        "measurements": [row for group in others for row in measurement_rows(group)],
        "landmarks": [*landmark_rows(body, kind)] if marks else [],
        "regions": [] if marks else [*region_rows(body)],
        "checks": [row for group in checks for row in check_rows(group)],
        "input_quality": [row for group in figures for row in input_rows(group)],
    }


REPORT_OF_OTHERS = "report"


def _kind(ds: Dataset) -> str:
    """Name the kind of one of our reports; `report` for those of others."""
    if text_of(ds.get("Manufacturer")) != MANUFACTURER:
        return REPORT_OF_OTHERS
    try:
        return kind_of(int(ds.SeriesNumber)).value
    except (KeyError, TypeError, ValueError, AttributeError):
        return REPORT_OF_OTHERS


def _unit(
    ds: Dataset,
    place: str,
    series: str,
    kind: str,
    model: tuple[str, str, str],
    rows: dict[str, list[Row]],
    reason: str,
    subject: str,
) -> Unit:
    sop, study = uid_of(ds.get("SOPInstanceUID")), uid_of(ds.get("StudyInstanceUID"))
    ids: Row = {"sop_instance_uid": sop, "study_instance_uid": study}
    for row in (row for of_table in rows.values() for row in of_table):
        row.update(ids)
        row.setdefault("series_instance_uid", series)
        if not row["series_instance_uid"] and not row.get("reason"):
            row["reason"] = reason
    name, version, digest = model
    created = "".join(text_of(ds.get(keyword)).partition(".")[0] for keyword in ("ContentDate", "ContentTime"))
    return Unit(
        sop, study, series,
        kind=kind,
        modality=text_of(ds.get("Modality")),
        object_series_instance_uid=uid_of(ds.get("SeriesInstanceUID")),
        manufacturer=text_of(ds.get("Manufacturer")),
        series_description=text_of(ds.get("SeriesDescription")),
        model=name,
        model_version=version,
        model_digest=digest,
        created=created,
        place=place,
        subject=subject,
        reason="; ".join(filter(None, (reason, "" if sop and study else _NO_UID))),
        rows=rows,
    )  # fmt: skip
