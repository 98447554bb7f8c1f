"""Read the masks of an RT structure set of any maker: closed planar contours on the slices of the CT.

Contours are placed by their coordinates. All contours of an ROI on one slice count together by the even-odd rule (see
`filling`). An ROI with contours between slices is refused: any slice chosen for them would be a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc_plugin.domain.found_masks import FoundMasks, Layers, Planes, Structure
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.results.foreign import (
    OFF_SLICE,
    Grid,
    check_frame_of_reference,
    check_numbers,
    check_series,
    code_of,
    label_of,
    made_by,
)
from orthanc_plugin.results.rt.contours import Points
from orthanc_plugin.results.rt.filling import are_traced, filled, with_border

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_PIXEL = 0.5


class _Unmeasurable(Exception):
    """An ROI that has no mask on this CT; the message says why."""


def read_foreign_rtstruct(structure_set: Dataset, series: CtSeries) -> FoundMasks:
    """Read the ROIs of an RT structure set onto the grid of a CT.

    Parameters
    ----------
    structure_set : Dataset
    series : CtSeries
        The CT on which the contours were drawn.

    Returns
    -------
    FoundMasks
        ROIs without closed contours, with contours between or beyond the slices, and in another frame of reference
        are refused there, one by one.

    Raises
    ------
    MaskError
        If no ROI has the frame of reference of the CT, the object names other series only, or it cannot be read.

    Source
    ------
    DICOM PS3.3 A.19, C.8.8.5, C.8.8.6.
    """
    try:
        rois = _by_number(structure_set, "StructureSetROISequence", "ROINumber")
        contours = _by_number(structure_set, "ROIContourSequence", "ReferencedROINumber")
        kinds = _kinds(structure_set)
        notes = [
            f"masks of an RT structure set made by {made_by(structure_set)}",
            *check_series(series_of_rtstruct(structure_set), series),
        ]
        grid, layers, refused = Grid.of(series), Layers(series.source_shape), []
        frames = []
        for number, item in sorted(rois.items()):
            structure = _structure(item, kinds.get(number))
            try:
                check_frame_of_reference(str(item.get("ReferencedFrameOfReferenceUID") or ""), series)
            except MaskError as error:
                frames.append(error)
                refused.append((structure, str(error)))
                continue
            try:
                planes, told = _planes(contours.get(number), grid)
            except _Unmeasurable as why:
                refused.append((structure, str(why)))
                continue
            layers.add(structure, planes)
            notes += [f"{structure.label}: {note}" for note in told]
    except (AttributeError, ValueError, TypeError, KeyError, IndexError) as error:
        raise MaskError(
            Refusal.MASK_UNREADABLE, f"the RT structure set cannot be read: {type(error).__name__}"
        ) from error
    if frames and len(frames) == len(rois):
        raise frames[0]
    kept = (Segmentation(series.on_volume(labels), segments) for labels, segments in layers)
    return FoundMasks(tuple(kept), tuple(refused), tuple(notes))


def _by_number(structure_set: Dataset, sequence: str, keyword: str) -> dict[int, Dataset]:
    """Return the items of a sequence by the number of their ROI, which no two may share."""
    items = [(int(item[keyword].value), item) for item in structure_set.get(sequence) or ()]
    check_numbers([number for number, _ in items], f"items of {sequence}")
    return dict(items)


def _kinds(structure_set: Dataset) -> dict[int, Dataset]:
    observations = structure_set.get("RTROIObservationsSequence") or ()
    return {int(item.ReferencedROINumber): item for item in observations}


def _structure(item: Dataset, observation: Dataset | None) -> Structure:
    number = int(item.ROINumber)
    codes = observation.get("RTROIIdentificationCodeSequence") if observation is not None else None
    category = code_of(codes[0].get("SegmentedPropertyCategoryCodeSequence") if codes else None)
    return Structure(number, label_of(item, "ROIName", number), category, code_of(codes))


def series_of_rtstruct(structure_set: Dataset) -> set[str]:
    """Return the SeriesInstanceUIDs that an RT structure set names as its source."""
    return set(_named_series(structure_set))


def _named_series(structure_set: Dataset) -> Iterator[str]:
    for frame in structure_set.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield str(series.get("SeriesInstanceUID"))


def _planes(roi: Dataset | None, grid: Grid) -> tuple[Planes, list[str]]:
    """Fill the contours of an ROI slice by slice; also return what people should know."""
    outlines: dict[int, list[Points]] = defaultdict(list)
    short: dict[int, list[Points]] = defaultdict(list)
    drawn, odd = list((roi.get("ContourSequence") if roi is not None else None) or ()), 0
    for contour in drawn:
        if contour.get("ContourGeometricType") not in _CLOSED:
            odd += 1
            continue
        points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
        if not points.size:
            odd += 1
            continue
        index = _slice_of(points, grid)
        (outlines if len(points) > 2 else short)[index].append(grid.pixels(points, index))
    shape = grid.shape[1:]
    traced = all(are_traced(contours, shape) for contours in (*outlines.values(), *short.values()))
    if traced:  # a line of pixels, traced, has two corners
        for index, lines in short.items():
            outlines[index] += lines
    else:
        odd += sum(map(len, short.values()))
    if not outlines:
        raise _Unmeasurable("the ROI has no closed contour")
    filled_planes = {index: filled(contours, shape) for index, contours in outlines.items()}
    if traced:
        filled_planes = {index: with_border(mask, outlines[index]) for index, mask in filled_planes.items()}
    planes = {index: np.flatnonzero(mask) for index, mask in filled_planes.items()}
    planes = {index: pixels for index, pixels in planes.items() if pixels.size}
    if not planes:
        raise _Unmeasurable("no pixel of the CT lies inside the contours of the ROI")
    told = ["the contours run from centre to centre of pixels; those pixels are inside"] if traced else []
    return planes, told + list(_remarks(planes, outlines, odd, shape))


def _slice_of(points: NDArray[np.float64], grid: Grid) -> int:
    """Return the slice on which a contour lies."""
    heights = grid.heights(points)
    if np.ptp(heights) > 2 * OFF_SLICE * grid.step_mm:
        raise _Unmeasurable("a contour is not parallel to the slices of the CT")
    index = grid.slice_at(points.mean(axis=0))
    if index is None:
        raise _Unmeasurable("a contour lies between the slices of the CT, or beyond them")
    return index


def _remarks(planes: Planes, outlines: dict[int, list[Points]], odd: int, shape: tuple[int, ...]) -> Iterator[str]:
    if odd:
        yield f"{odd} contours are not closed or have fewer than three points and were left out"
    if skipped := max(planes) - min(planes) + 1 - len(planes):
        yield f"no contour on {skipped} slices between the first and the last"
    corner = np.array(shape[::-1]) - _PIXEL
    if any((points < -_PIXEL).any() or (points > corner).any() for drawn in outlines.values() for points in drawn):
        yield "contours reach beyond the image and were cut off there"
