"""How far landmarks lie from where an expert's lungs begin and end, as the published study asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin.codes import BOTTOM, LUNG, TOP, Code
from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.foreign import made_by
from orthanc_plugin.validation.cases import Case, model_of
from orthanc_plugin.validation.structures import Structure, current, name_key, tg263_name

_MEASUREMENTS, _GROUP, _TARGET, _LEVEL = "126010", "125007", "123014", "BPR_LEVEL"
_SIDED = ("Lung_L", "Lung_R", "Lungs")


@dataclass(frozen=True, slots=True)
class LandmarkRow:
    """One end of the lungs in one case.

    landmark: `lung top` or `lung bottom`. source: what found it: a report, or the lungs of the AI object.
    z_mm, expert_z_mm: height in the patient (LPS z), of the slice. error_mm: the first minus the second; None where
        `reason` says why there is none.
    """

    landmark: str
    source: str
    z_mm: float | None
    expert_z_mm: float | None
    error_mm: float | None
    error_slices: float | None
    reason: str
    patient: str
    study_instance_uid: str
    series_instance_uid: str
    source_sop_instance_uid: str
    expert_sop_instance_uid: str


def landmark_rows(case: Case, reports: Sequence[Dataset]) -> Iterator[LandmarkRow]:
    """Compare the landmarks of reports, and of the AI's lungs, with the expert's lungs; nothing without such lungs."""
    lungs = {id(pair.expert): pair.expert for pair in case.pairs if pair.expert and _is_lung(pair.expert)}
    expert = _ends([*lungs.values()], case.series)
    if not expert:
        return
    own = _ends([pair.ai for pair in case.pairs if pair.ai and _is_lung(pair.ai)], case.series)
    if own:
        yield from _rows(case, expert, {end: z for end, (z, _) in own.items()}, model_of(case.ai)[0], case.ai)
    for report in reports:
        if levels := dict(lung_levels(report, case.series)):
            yield from _rows(case, expert, levels, _name_of(report), report)


def lung_levels(report: Dataset, series: CtSeries) -> Iterator[tuple[str, float]]:
    """Read top and bottom of the lungs from a report on this CT: the name of the end, and its height in mm.

    The slice that the report names counts, or the level itself where the report states it.

    Source
    ------
    PS3.16 TID 1501; the coding of Krishnaswamy et al., Scientific Data 2024.
    """
    heights = {str(h.SOPInstanceUID): float(h.ImagePositionPatient[2]) for h in series.headers}
    for part in _children(report, _MEASUREMENTS):
        for group in _children(part, _GROUP):
            end, z = _end_of(group), _stated(group)
            if z is None:
                z = next((heights[uid] for uid in _images(group) if uid in heights), None)
            elif not any(uid in heights for uid in _images(group)):
                continue
            if end and z is not None:
                yield end, z


def _rows(
    case: Case, expert: dict[str, tuple[float, bool]], found: dict[str, float], source: str, ds: Dataset
) -> Iterator[LandmarkRow]:
    step = case.series.volume.spacing_mm[0]
    row = case.rows[0]
    for end, (expert_z, is_cut) in expert.items():
        z = found.get(end)
        reason = "" if z is not None else "the landmark was not found"
        if is_cut:
            reason = "the expert's lungs reach the end of the scan"
        error = z - expert_z if z is not None and not is_cut else None
        yield LandmarkRow(
            end, source, z, expert_z, error, error / step if error is not None else None, reason, row.patient,
            row.study_instance_uid, row.series_instance_uid, str(ds.get("SOPInstanceUID") or ""),
            row.expert_sop_instance_uid,
        )  # fmt: skip


def _ends(lungs: Sequence[Structure], series: CtSeries) -> dict[str, tuple[float, bool]]:
    """Return the height of both ends of all lungs together, and whether it is an end of the scan."""
    shape = series.volume.voxels_hu.shape
    masks: list[Mask] = [lung.mask(shape) for lung in lungs]
    levels = np.flatnonzero(np.any([mask.any(axis=(1, 2)) for mask in masks], axis=0)) if masks else np.empty(0)
    if not levels.size:
        return {}
    affine, last = series.volume.affine, shape[0] - 1
    ends = {"lung bottom": int(levels[0]), "lung top": int(levels[-1])}
    return {name: (float(affine[2] @ (0, 0, index, 1)), index in (0, last)) for name, index in ends.items()}


def _is_lung(structure: Structure) -> bool:
    segment = structure.segment
    is_coded = current(segment.type).value == LUNG.value
    return is_coded or tg263_name(segment) in _SIDED or "lung" in name_key(segment).split()[:1]


def _end_of(group: Dataset) -> str:
    for item in _children(group, _TARGET):
        if _coded(item.get("ConceptCodeSequence")) != LUNG.value:
            continue
        for modifier in item.get("ContentSequence") or ():
            value = _coded(modifier.get("ConceptCodeSequence"))
            return {TOP.value: "lung top", BOTTOM.value: "lung bottom"}.get(value, "")
    return ""


def _stated(group: Dataset) -> float | None:
    for item in _children(group, _LEVEL):
        for value in item.get("MeasuredValueSequence") or ():
            return float(value.get("FloatingPointValue", value.NumericValue))
    return None


def _images(group: Dataset) -> Iterator[str]:
    for item in group.get("ContentSequence") or ():
        for reference in item.get("ReferencedSOPSequence") or ():
            yield str(reference.get("ReferencedSOPInstanceUID"))


def _children(item: Dataset, code: str) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        for name in child.get("ConceptNameCodeSequence") or ():
            if name.get("CodeValue") == code:
                yield child


def _coded(items: Sequence[Dataset] | None) -> str:
    for item in items or ():
        code = Code(str(item.get("CodeValue") or "?"), str(item.get("CodingSchemeDesignator") or "?"), "?")
        return current(code).value
    return ""


def _name_of(report: Dataset) -> str:
    description = str(report.get("SeriesDescription") or "")
    return description or made_by(report)
