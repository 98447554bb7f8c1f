"""Rows of a SEG of any maker: one for each segment, without its pixels."""

from __future__ import annotations

from collections import Counter

from pydicom.dataset import Dataset

from orthanc_plugin.cohort.items import Coded, coded_of, text_of, uid_of, whole_of
from orthanc_plugin.cohort.unit import Row

NO_SOURCE = "the object does not name the series that it was made of"


def series_of(seg: Dataset) -> tuple[str, str]:
    """Return the series that a SEG was made of, and why there is none, or why there may be another."""
    found = [
        uid for item in seg.get("ReferencedSeriesSequence") or () if (uid := uid_of(item.get("SeriesInstanceUID")))
    ]
    if not found:
        return "", NO_SOURCE
    return found[0], f"the object names {len(found)} series; this is the first" if len(found) > 1 else ""


def rows_of_seg(seg: Dataset) -> list[Row]:
    """Give a row for each segment; the background of a LABELMAP (0) is none."""
    frames = _frames(seg)
    described = [item for item in seg.get("SegmentSequence") or () if item.get("SegmentNumber") != 0]
    numbers = Counter(whole_of(item.get("SegmentNumber")) for item in described)
    return [_row(item, frames, numbers) for item in described]


def algorithm_of(item: Dataset) -> tuple[str, str, str]:
    """Return name, version and parameters of the algorithm of a segment."""
    stated = next(iter(item.get("SegmentationAlgorithmIdentificationSequence") or ()), Dataset())
    name = text_of(stated.get("AlgorithmName") or item.get("SegmentAlgorithmName"))
    return name, text_of(stated.get("AlgorithmVersion")), text_of(stated.get("AlgorithmParameters"))


def _row(item: Dataset, frames: Counter[int] | None, numbers: Counter[int | None]) -> Row:
    number = whole_of(item.get("SegmentNumber"))
    kinds = item.get("SegmentedPropertyTypeCodeSequence")
    structure = coded_of(kinds)
    within = (kinds[0] if kinds else Dataset()).get("SegmentedPropertyTypeModifierCodeSequence")
    modifier = coded_of(within or item.get("SegmentedPropertyTypeModifierCodeSequence"))
    model, version, _ = algorithm_of(item)
    missing = ["the segment has no number"] if number is None else []
    missing += ["another segment has the same number"] if number is not None and numbers[number] > 1 else []
    missing += [] if structure.value else ["the segment has no code"]
    return {
        "segment_number": number,
        "tracking_uid": uid_of(item.get("TrackingUID")),
        "label": text_of(item.get("SegmentLabel")),
        **coded_cells("category", coded_of(item.get("SegmentedPropertyCategoryCodeSequence"))),
        **coded_cells("structure", structure),
        "structure_modifier": modifier.meaning,
        "region_meaning": coded_of(item.get("AnatomicRegionSequence")).meaning,
        "algorithm_type": text_of(item.get("SegmentAlgorithmType")),
        "model": model,
        "model_version": version,
        "frames": None if frames is None or number is None else frames[number],
        "reason": "; ".join(missing),
    }


def coded_cells(name: str, concept: Coded) -> Row:
    """Give the three cells of a concept."""
    return dict(zip((f"{name}_code", f"{name}_scheme", f"{name}_meaning"), concept.cells, strict=True))


def _frames(seg: Dataset) -> Counter[int] | None:
    """Count the frames of each segment; None where frames hold more than one."""
    if seg.get("SegmentationType") == "LABELMAP":
        return None
    shared = next(iter(seg.get("SharedFunctionalGroupsSequence") or ()), Dataset())
    counted: Counter[int] = Counter()
    for own in seg.get("PerFrameFunctionalGroupsSequence") or ():
        holder = own if "SegmentIdentificationSequence" in own else shared
        for item in holder.get("SegmentIdentificationSequence") or ():
            counted[whole_of(item.get("ReferencedSegmentNumber")) or 0] += 1
    return counted
