"""Recognise what people made of our segmentations, and measure how much they changed.

A person opens one of our SEGs in a viewer, edits it and stores it back: as a new object, of another maker, often
without our codes and names, and rarely with a reference to ours. An object of the same CT that we did not make is a
correction

- if it refers to one of our results (`reference`), or
- if some slice of a structure is exactly ours (`unchanged slices`): an edit leaves slices as they were, and nobody
  draws an organ anew and hits every voxel of a slice.

Any other object was drawn independently: it is an expert's, and no correction. Nothing here writes: the AI result and
its correction both stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.archive.rested import asked_again
from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.pipeline.foreign import named_series
from orthanc_plugin.results.provenance import MANUFACTURER
from orthanc_plugin.validation.cases import TOLERANCE_MM, Case, Row, Status, common_row, compare_objects, refused_row

REFERENCE, UNCHANGED = "reference", "unchanged slices"
_LEAST_VOXELS = 16
"""A slice with fewer voxels may be equal by chance."""

Patient = Callable[[str], str]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An object of a CT that we did not make, beside our SEGs of this CT; headers only."""

    other: Dataset
    ours: tuple[Dataset, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A candidate that was looked at. is_correction: False for what was drawn independently, or could not be read."""

    case: Case
    is_correction: bool


def is_ours(ds: Dataset) -> bool:
    """Tell whether a result is as we stored it; an edit that kept our name has other UIDs.

    The SeriesInstanceUID of a result follows from its SOPInstanceUID. De-identification replaces both, so there the
    object counts as ours unless it says that a person touched it.
    """
    if ds.get("Manufacturer") != MANUFACTURER:
        return False
    if ds.get("SeriesInstanceUID") == identity.series_uid(str(ds.get("SOPInstanceUID") or "")):
        return True
    kinds = {str(item.get("SegmentAlgorithmType")) for item in ds.get("SegmentSequence") or ()}
    return ds.get("PatientIdentityRemoved") == "YES" and kinds <= {"AUTOMATIC"}


def referenced_instances(ds: Dataset) -> set[str]:
    """Return every SOPInstanceUID to which an object refers, at any depth."""
    found: set[str] = set()
    for element in ds.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            found.add(str(element.value))
    return found


def candidates(archive: Archive, study_uid: str, series_uid: str = "") -> tuple[Candidate, ...]:
    """List the objects of a study that may be corrections of our SEGs, by their headers.

    Parameters
    ----------
    archive : Archive
    study_uid : str
    series_uid : str
        Only those of this CT.

    Raises
    ------
    TransientError
        If the archive is away.
    """
    series_uids = asked_again(lambda: archive.mask_series(study_uid))
    headers = [ds for uid in series_uids for ds in archive.headers(study_uid, uid)]
    ours = [ds for ds in headers if is_ours(ds) and ds.get("Modality") == "SEG"]
    if series_uid:
        ours = [ds for ds in ours if series_uid in named_series(ds)]
    found = []
    for other in (ds for ds in headers if not is_ours(ds)):
        named = named_series(other)
        mine = tuple(ds for ds in ours if not named or named & named_series(ds))
        if mine:
            found.append(Candidate(other, mine))
    return tuple(found)


def compare_candidate(
    archive: Archive, candidate: Candidate, series: CtSeries, patient: Patient, tolerance_mm: float = TOLERANCE_MM
) -> Compared:
    """Compare a candidate with the one of our SEGs that it corrects: that it names, or that it resembles most."""
    other = _whole(archive, candidate.other)
    named = referenced_instances(other)
    mine = [ds for ds in candidate.ours if str(ds.SOPInstanceUID) in named] or list(candidate.ours)
    because = REFERENCE if any(str(ds.SOPInstanceUID) in named for ds in mine) else ""
    compared: list[Case] = []
    for header in mine:
        ours = _whole(archive, header)
        try:
            case = compare_objects(series, ours, other, tolerance_mm=tolerance_mm, by_overlap=True, patient=patient)
        except MaskError as error:
            row = replace(refused_row(ours, other, error, common_row(series, ours, other, patient)),
                          recognised_by=because)  # fmt: skip
            return Compared(Case(series, ours, other, (row,)), bool(because))
        compared.append(replace(case, rows=tuple(_rows(case, because))))
    best = max(compared, key=_likeness)
    return Compared(best, bool(best.rows and best.rows[0].recognised_by))


def corrections_of(
    archive: Archive,
    study_uid: str,
    read: Callable[[str, str], CtSeries],
    patient: Patient,
    series_uid: str = "",
    tolerance_mm: float = TOLERANCE_MM,
) -> Iterator[Compared]:
    """Compare every candidate of a study; CTs are read by `read`, given study and series."""  # fmt: skip
    for candidate in candidates(archive, study_uid, series_uid):
        names = named_series(candidate.other) & named_series(candidate.ours[0]) or named_series(candidate.ours[0])
        yield compare_candidate(archive, candidate, read(study_uid, min(names)), patient, tolerance_mm)


def _whole(archive: Archive, header: Dataset) -> Dataset:
    """Read an object whole, of which only the header is known."""
    uids = str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
    found = asked_again(lambda: next((ds for ds in archive.retrieve(*uids[:2]) if ds.SOPInstanceUID == uids[2]), None))
    if found is None:
        raise MaskError(Refusal.NO_MASKS, f"the object {uids[2]} is gone from its archive")
    return found


def _rows(case: Case, because: str) -> Iterator[Row]:
    """Add to each row what part of its slices nobody touched, and why the object is a correction."""
    shape = case.series.volume.voxels_hu.shape
    parts, hit = [], False
    for pair in case.pairs:
        ours, theirs = (side.mask(shape) if side else np.zeros(shape, bool) for side in (pair.ai, pair.expert))
        part, is_exact = _unchanged(ours, theirs)
        parts.append(part)
        hit = hit or is_exact
    because = because or (UNCHANGED if hit else "")
    for row, part in zip(case.rows, parts, strict=True):
        yield replace(row, recognised_by=because, unchanged_slices=part)


def _unchanged(ours: Mask, theirs: Mask) -> tuple[float | None, bool]:
    """Return the part of the slices with the structure that are equal, and whether one of them is no chance."""
    sizes = ours.sum(axis=(1, 2))
    shown = np.flatnonzero(sizes | theirs.sum(axis=(1, 2)))
    if not shown.size:
        return None, False
    equal = (ours[shown] == theirs[shown]).all(axis=(1, 2))
    return float(equal.mean()), bool((equal & (sizes[shown] >= _LEAST_VOXELS)).any())


def _likeness(case: Case) -> float:
    return sum(row.dice or 0.0 for row in case.rows if row.status is Status.BOTH)
