"""Compare an AI object with an expert's on one CT, structure by structure: the rows of a validation.

Both objects are read onto the source slices of the CT. Nothing is resampled: an object whose pixels are not those of
the CT, or whose coordinates are those of another scan, is refused with the reason (see `results.foreign`). Where the
CT itself was resampled for the model (tilt, gaps), masks are compared on the resampled grid, on which the model ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import MaskError
from orthanc_plugin.pipeline.foreign import read_masks
from orthanc_plugin.results.foreign import made_by
from orthanc_plugin.results.source_text import plain_text, raw_text
from orthanc_plugin.validation.distances import compare_masks
from orthanc_plugin.validation.structures import (
    Mapped,
    MatchedBy,
    Pair,
    pair_by_overlap,
    pair_structures,
    structures_of,
)

TOLERANCE_MM = 3.0
"""Default tolerance of the surface Dice; state another where experts are known to agree better."""


class Status(StrEnum):
    """What a row tells of a structure."""

    BOTH = "both"
    MISSED = "missed"
    EXTRA = "extra"
    EMPTY = "empty"
    AMBIGUOUS = "ambiguous"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Row:
    """One structure of one pair of objects, or a pair that could not be compared.

    status: `both` sides have it; the AI `missed` it; it is `extra`; both are `empty`; it is `ambiguous` which is meant;
        it was `refused`. `reason` says more.
    patient: pseudonym, or what the configuration says. model: name and version of what made the AI object.
    scanner, kernel, slice_mm: of the CT. editor: what made the expert's object.
    dice, surface_dice: 0 to 1; 0 for a missed or extra structure. *_mm: None unless both sides have voxels.
    volume_difference_percent: of the expert's volume.
    recognised_by, unchanged_slices: of corrections only (see `corrections`).
    """

    status: Status
    structure: str = ""
    ai_label: str = ""
    expert_label: str = ""
    matched_by: MatchedBy | None = None
    reason: str = ""
    dice: float | None = None
    hausdorff_mm: float | None = None
    hd95_mm: float | None = None
    mean_surface_mm: float | None = None
    surface_dice: float | None = None
    tolerance_mm: float | None = None
    ai_ml: float | None = None
    expert_ml: float | None = None
    volume_difference_ml: float | None = None
    volume_difference_percent: float | None = None
    model: str = ""
    model_digest: str = ""
    editor: str = ""
    scanner: str = ""
    kernel: str = ""
    slice_mm: float | None = None
    patient: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    ai_sop_instance_uid: str = ""
    ai_segment: int | None = None
    expert_sop_instance_uid: str = ""
    expert_date: str = ""
    recognised_by: str = ""
    unchanged_slices: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An AI object and an expert's on one CT.

    pairs: the structures, in the order of `rows`.
    """

    series: CtSeries
    ai: Dataset
    expert: Dataset
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...] = field(default=())


def compare_objects(
    series: CtSeries,
    ai: Dataset,
    expert: Dataset,
    *,
    mapped: Mapped | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    by_overlap: bool = False,
    patient: Callable[[str], str] = lambda patient_id: "",
) -> Case:
    """Compare every structure of two objects.

    Parameters
    ----------
    series : CtSeries
        The CT on which both were drawn.
    ai, expert : Dataset
        SEG or RT structure set, with its content.
    mapped : mapping
        Of a mapping file (see `structures.read_mapping`).
    by_overlap : bool
        Pair what has neither code nor name in common by its place; for edits of the AI object only.
    patient : callable
        Turns PatientID into what the tables hold.

    Raises
    ------
    MaskError
        If an object does not fit the CT; the message names both frames of reference where they differ.
    """
    sides = [structures_of(read_masks(ds, series)) for ds in (ai, expert)]
    pairs = pair_structures(sides[0], sides[1], mapped or {})
    if by_overlap:
        pairs = pair_by_overlap(pairs, series.volume.voxels_hu.shape)
    common = common_row(series, ai, expert, patient)
    rows = tuple(_row(pair, series, common, tolerance_mm) for pair in pairs)
    order = sorted(range(len(rows)), key=lambda index: (rows[index].structure.casefold(), rows[index].status))
    return Case(series, ai, expert, tuple(rows[i] for i in order), tuple(pairs[i] for i in order))


def refused_row(ai: Dataset | None, expert: Dataset | None, error: Exception | str, common: Row | None = None) -> Row:
    """Make the row of objects that could not be compared."""
    row = common or Row(Status.REFUSED)
    uids = [str(ds.get("SOPInstanceUID") or "") if ds is not None else "" for ds in (ai, expert)]
    study = str((ai or expert or Dataset()).get("StudyInstanceUID") or "")
    return replace(
        row, status=Status.REFUSED, reason=str(error), ai_sop_instance_uid=uids[0], expert_sop_instance_uid=uids[1],
        study_instance_uid=row.study_instance_uid or study, model=model_of(ai)[0] if ai is not None else "",
    )  # fmt: skip


def common_row(series: CtSeries, ai: Dataset, expert: Dataset, patient: Callable[[str], str]) -> Row:
    """Return what all rows of a case share."""
    header = series.headers[0]
    name, digest = model_of(ai)
    return Row(
        Status.BOTH,
        model=name,
        model_digest=digest,
        editor=made_by(expert),
        scanner=_text(header, "Manufacturer", "ManufacturerModelName"),
        kernel=_text(header, "ConvolutionKernel"),
        slice_mm=round(series.volume.spacing_mm[0], 4),
        patient=patient(series.identity.patient_id),
        study_instance_uid=series.identity.study_instance_uid,
        series_instance_uid=series.identity.series_instance_uid,
        ai_sop_instance_uid=str(ai.get("SOPInstanceUID") or ""),
        expert_sop_instance_uid=str(expert.get("SOPInstanceUID") or ""),
        expert_date=_text(expert, "ContentDate") or _text(expert, "StructureSetDate") or _text(expert, "SeriesDate"),
    )


def model_of(ds: Dataset) -> tuple[str, str]:
    """Say which model made an object, with its version, and its SHA-256 where it is one of ours; empty if unknown."""
    for segment in ds.get("SegmentSequence") or ():
        for item in segment.get("SegmentationAlgorithmIdentificationSequence") or ():
            name = f"{_text(item, 'AlgorithmName')} {_text(item, 'AlgorithmVersion')}".strip()
            texts = _text(item, "AlgorithmParameters").split(",")
            stated = dict(text.split("=", 1) for text in texts if "=" in text)
            return name, stated.get("model_sha256", "") or _digest(ds)
        if name := _text(segment, "SegmentAlgorithmName"):
            return name, ""
    return made_by(ds), ""


def _digest(ds: Dataset) -> str:
    serial = _text(ds, "DeviceSerialNumber")
    return serial if len(serial) == 64 else ""


def _text(ds: Dataset, *keywords: str) -> str:
    return " ".join(filter(None, (plain_text(raw_text(ds, keyword) or "") for keyword in keywords)))


def _row(pair: Pair, series: CtSeries, common: Row, tolerance_mm: float) -> Row:
    row = replace(
        common,
        structure=pair.name,
        ai_label=pair.ai.label if pair.ai else "",
        expert_label=pair.expert.label if pair.expert else "",
        matched_by=pair.matched_by,
        ai_segment=pair.ai.segment.number if pair.ai else None,
    )
    if pair.doubt:
        return replace(row, status=Status.AMBIGUOUS, reason=pair.doubt)
    shape = series.volume.voxels_hu.shape
    ai, expert = (side.mask(shape) if side else np.zeros(shape, bool) for side in (pair.ai, pair.expert))
    found = compare_masks(ai, expert, series.volume.spacing_mm, tolerance_mm)
    ai_ml, expert_ml = (count * series.volume.voxel_ml for count in (found.ai_voxels, found.expert_voxels))
    status = _status(bool(found.ai_voxels), bool(found.expert_voxels))
    row = replace(
        row,
        status=status,
        reason="; ".join(_reasons(pair, status)),
        dice=found.dice,
        ai_ml=ai_ml,
        expert_ml=expert_ml,
        volume_difference_ml=ai_ml - expert_ml,
        volume_difference_percent=100 * (ai_ml - expert_ml) / expert_ml if expert_ml else None,
        surface_dice=0.0 if status in (Status.MISSED, Status.EXTRA) else None,
        tolerance_mm=tolerance_mm,
    )
    if (measured := found.distances) is None:
        return row
    return replace(
        row,
        hausdorff_mm=measured.hausdorff_mm,
        hd95_mm=measured.hd95_mm,
        mean_surface_mm=measured.mean_mm,
        surface_dice=measured.surface_dice,
    )


def _status(ai: bool, expert: bool) -> Status:
    if ai and expert:
        return Status.BOTH
    return Status.EXTRA if ai else Status.MISSED if expert else Status.EMPTY


def _reasons(pair: Pair, status: Status) -> Iterator[str]:
    for side, name in ((pair.ai, "AI"), (pair.expert, "expert")):
        if side is not None and side.reason:
            yield f"{name}: {side.reason}"
    if status is Status.MISSED and pair.ai is None:
        yield "the AI object has no such structure"
    if status is Status.EXTRA and pair.expert is None:
        yield "the expert's object has no such structure"


def try_compare(
    series: CtSeries, ai: Dataset, expert: Dataset, compare: Callable[[CtSeries, Dataset, Dataset], Case]
) -> Case:
    """Compare as `compare` does; objects that do not fit become a row with the reason."""
    try:
        return compare(series, ai, expert)
    except MaskError as error:
        common = common_row(series, ai, expert, lambda patient_id: "")
        return Case(series, ai, expert, (refused_row(ai, expert, error, common),))
