"""RT structure sets of other makers: shapes with known areas, holes in every form, and what is refused or noted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.plan import ContourStyle
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.results import seg
from orthanc_plugin.results.rt.contours import outlines, separate_outlines
from orthanc_plugin.results.rt.filling import filled
from orthanc_plugin.results.rt.foreign import read_foreign_rtstruct
from orthanc_plugin.results.rt.structure_set import encode_rtstruct
from tests.support.cases.foreign_case import Contour, by_number, rtstruct, square
from tests.support.cases.results_case import CARD, ellipsoids, encode, provenance_of, small_series

SERIES = small_series()
SHAPE = (40, 50)


def circle(x: float, y: float, radius: float, corners: int = 720, way: int = 1) -> NDArray[np.float64]:
    angle = way * np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return np.stack((x + radius * np.cos(angle), y + radius * np.sin(angle)), axis=1)


def by_formula(x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def one_by_one(contours: list[NDArray[np.float64]]) -> Mask:
    """A second implementation: for each pixel, the turns of all contours around it; odd is inside."""
    inside = np.zeros(SHAPE, bool)
    for points in contours:
        for row, column in np.ndindex(SHAPE):
            to = points - (column, row)
            angle = np.arctan2(to[:, 1], to[:, 0])
            turn = np.diff(np.append(angle, angle[0]))
            turn = (turn + math.pi) % (2 * math.pi) - math.pi
            inside[row, column] ^= round(turn.sum() / (2 * math.pi)) % 2 == 1
    return inside


@pytest.mark.parametrize("radius", [0.6, 3.3, 9.7, 17.2])
@pytest.mark.parametrize("way", [1, -1])
def test_a_circle_is_filled_as_its_formula_says(radius: float, way: int) -> None:
    mask = filled([circle(24.3, 19.6, radius, way=way)], SHAPE)
    np.testing.assert_array_equal(mask, by_formula(24.3, 19.6, radius))
    if radius > 9:
        assert mask.sum() == pytest.approx(math.pi * radius**2, rel=0.02)


STAR = np.array(
    [
        (20.13 + (8 + 6 * (k % 2)) * math.cos(k * 0.61), 18.21 + (8 + 6 * (k % 2)) * math.sin(k * 0.61))
        for k in range(10)
    ]
)
KEYHOLE = np.array(
    [(5, 5), (30.2, 5), (30.2, 15.4), (22, 15.4), (22, 10), (12, 10), (12, 22), (22, 22), (22, 15.4), (30.2, 15.4),
     (30.2, 30), (5, 30)], float
) + 0.013  # fmt: skip


@pytest.mark.parametrize(
    "contours",
    [
        pytest.param([circle(22.1, 18.4, 12.3), circle(23.2, 19.1, 5.5)], id="ring"),
        pytest.param(
            [circle(22.1, 18.4, 12.3), circle(22.1, 18.4, 5.5), circle(22.1, 18.4, 2.2)], id="ring with a core"
        ),
        pytest.param([circle(12.1, 12.4, 6.3), circle(33.2, 27.1, 8.5)], id="two islands"),
        pytest.param([STAR], id="star"),
        pytest.param([KEYHOLE], id="keyhole"),
        pytest.param([np.array([(3.2, 3.1), (44.7, 20.3), (8.9, 35.6)])], id="triangle"),
        pytest.param([np.array([(5.1, 5.2), (30.3, 30.4), (30.1, 5.3), (5.4, 30.2)])], id="crosses itself"),
    ],
)
def test_shapes_are_filled_as_a_second_implementation_fills_them(contours: list[NDArray[np.float64]]) -> None:
    np.testing.assert_array_equal(filled(contours, SHAPE), one_by_one(contours))


def test_rectangles_that_share_an_edge_share_no_pixel_and_miss_none() -> None:
    left, right = (np.array(square(*edges), float) for edges in ((4, 4, 10, 20), (10, 4, 18, 20)))
    masks = [filled([one], SHAPE) for one in (left, right)]
    assert not (masks[0] & masks[1]).any()
    np.testing.assert_array_equal(masks[0] | masks[1], filled([np.array(square(4, 4, 18, 20), float)], SHAPE))
    assert masks[0].sum() == 6 * 16


def test_what_lies_beyond_the_image_is_cut_off() -> None:
    mask = filled([circle(0.0, 0.0, 10.2)], SHAPE)
    np.testing.assert_array_equal(mask, by_formula(0.0, 0.0, 10.2))
    assert not filled([circle(-30.0, 20.0, 10.2), circle(20, 200, 5)], SHAPE).any()
    assert filled([np.array(square(-9, -9, 90, 90), float)], SHAPE).all()


@pytest.mark.parametrize("trace", [outlines, separate_outlines])
def test_outlines_of_masks_give_the_masks_back(trace: object) -> None:
    mask = np.random.default_rng(0).random(SHAPE) > 0.4
    mask[10:20, 10:30] = True
    mask[13:16, 14:20] = False
    np.testing.assert_array_equal(filled(trace(mask), SHAPE), mask)


@pytest.mark.parametrize("style", ContourStyle)
def test_structure_sets_of_our_own_are_read_as_those_of_others(style: ContourStyle) -> None:
    stored = encode(SERIES, ellipsoids(SERIES))
    kept = seg.decode_seg(stored, SERIES, CARD)
    ours = encode_rtstruct(provenance_of(SERIES, "2.25.1", CARD), stored, kept, style)
    found = read_foreign_rtstruct(ours, SERIES)
    assert found.refused == ()
    read = by_number(found)
    whole = {one.key: ellipsoids(SERIES).mask(one) for one in ellipsoids(SERIES).segments}
    for segment in kept.segments:
        np.testing.assert_array_equal(read[segment.number], whole[segment.key.removesuffix("_remainder")])
    assert len(found.layers) == 2  # the body holds the others


HOLE: list[Contour] = [square(3.6, 3.6, 20.4, 20.4), square(7.6, 7.6, 12.4, 12.4)]


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_inside_another_is_a_hole(kind: str) -> None:
    mask = by_number(read_foreign_rtstruct(rtstruct(SERIES, {"GTV": {4: HOLE}}, kind), SERIES))[1]
    assert mask.sum() == 17 * 17 - 5 * 5
    assert mask[4].sum() == mask.sum()
    assert not mask[4, 8:13, 8:13].any()


def test_several_contours_of_a_slice_count_together() -> None:
    ds = rtstruct(SERIES, {"both": {2: [square(1.6, 1.6, 5.4, 5.4), square(10.6, 10.6, 13.4, 15.4)]}})
    assert by_number(read_foreign_rtstruct(ds, SERIES))[1].sum() == 4 * 4 + 3 * 5


def test_overlapping_rois_keep_their_voxels() -> None:
    ds = rtstruct(SERIES, {"PTV": {3: [square(1.6, 1.6, 20.4, 20.4)]}, "GTV": {3: [square(5.6, 5.6, 9.4, 9.4)]}})
    found = read_foreign_rtstruct(ds, SERIES)
    assert {number: mask.sum() for number, mask in by_number(found).items()} == {1: 19 * 19, 2: 16}
    assert [segment.label for segment in found.segments] == ["PTV", "GTV"]


@pytest.mark.parametrize(
    ("slices", "kind", "reason"),
    [
        pytest.param(
            {3.5: HOLE}, "CLOSED_PLANAR", "a contour lies between the slices of the CT, or beyond them", id="between"
        ),
        pytest.param(
            {40: HOLE}, "CLOSED_PLANAR", "a contour lies between the slices of the CT, or beyond them", id="beyond"
        ),
        pytest.param({3: HOLE}, "OPEN_PLANAR", "the ROI has no closed contour", id="open"),
        pytest.param({3: HOLE}, "POINT", "the ROI has no closed contour", id="points"),
        pytest.param({}, "CLOSED_PLANAR", "the ROI has no closed contour", id="none"),
        pytest.param(
            {3: [square(5.1, 5.1, 5.4, 5.4)]},
            "CLOSED_PLANAR",
            "no pixel of the CT lies inside the contours of the ROI",
            id="smaller than a pixel",
        ),
        pytest.param(
            {3: [square(-50, -50, -40, -40)]},
            "CLOSED_PLANAR",
            "no pixel of the CT lies inside the contours of the ROI",
            id="outside",
        ),
    ],
)
def test_an_roi_without_a_mask_on_the_ct_is_refused_and_the_others_are_read(
    slices: dict[float, list[Contour]], kind: str, reason: str
) -> None:
    ds = rtstruct(SERIES, {"odd": slices}, kind)
    good = rtstruct(SERIES, {"odd": {}, "good": {5: HOLE}})
    ds.StructureSetROISequence, (_, contour) = good.StructureSetROISequence, good.ROIContourSequence
    ds.ROIContourSequence = [*ds.ROIContourSequence, contour]
    found = read_foreign_rtstruct(ds, SERIES)
    assert [(one.number, one.label, why) for one, why in found.refused] == [(1, "odd", reason)]
    assert [*by_number(found)] == [2]


def test_a_contour_across_the_slices_is_refused() -> None:
    ds = rtstruct(SERIES, {"tilted": {3: HOLE}})
    data = ds.ROIContourSequence[0].ContourSequence[0].ContourData
    data[2] = float(data[2]) + 4
    ds.ROIContourSequence[0].ContourSequence[0].ContourData = data
    ((_, why),) = read_foreign_rtstruct(ds, SERIES).refused
    assert why == "a contour is not parallel to the slices of the CT"


def test_what_people_should_know_is_noted() -> None:
    ds = rtstruct(SERIES, {"GTV": {2: [square(-9, 3, 5, 8)], 6: [*HOLE, [(1, 1)]]}})
    assert read_foreign_rtstruct(ds, SERIES).notes[1:] == (
        "GTV: 1 contours are not closed or have fewer than three points and were left out",
        "GTV: no contour on 3 slices between the first and the last",
        "GTV: contours reach beyond the image and were cut off there",
    )


def test_another_frame_of_reference_is_refused_with_a_typed_error() -> None:
    ds = rtstruct(SERIES, {"GTV": {4: HOLE}})
    with pytest.raises(MaskError, match="frame of reference") as refused:
        read_foreign_rtstruct(
            ds,
            replace(
                SERIES,
                frame_of_reference_uid="2.25.9",
                identity=replace(SERIES.identity, frame_of_reference_uids=("2.25.9",)),
            ),
        )
    assert refused.value.reason is Refusal.MASK_FRAME_OF_REFERENCE


def test_an_roi_of_another_frame_of_reference_is_refused_alone() -> None:
    ds = rtstruct(SERIES, {"other": {4: HOLE}, "GTV": {4: HOLE}})
    ds.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "2.25.9"
    found = read_foreign_rtstruct(ds, SERIES)
    assert [one.label for one, why in found.refused] == ["other"]
    assert [*by_number(found)] == [2]


def test_another_series_is_refused() -> None:
    ds = rtstruct(SERIES, {"GTV": {4: HOLE}})
    study = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.9"
    with pytest.raises(MaskError) as refused:
        read_foreign_rtstruct(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_OTHER_SERIES


@pytest.mark.parametrize("spoil", ["no number", "two coordinates", "a word"])
def test_a_structure_set_that_cannot_be_read_is_refused(spoil: str) -> None:
    ds = rtstruct(SERIES, {"GTV": {4: HOLE}})
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    if spoil == "no number":
        del ds.StructureSetROISequence[0].ROINumber
    elif spoil == "two coordinates":
        contour.ContourData = contour.ContourData[:-1]
    else:
        del contour.ContourData
    with pytest.raises(MaskError) as refused:
        read_foreign_rtstruct(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_UNREADABLE


@pytest.mark.parametrize("sequence", ["StructureSetROISequence", "ROIContourSequence"])
def test_rois_that_share_a_number_are_refused(sequence: str) -> None:
    """One of them would have vanished, or have had the contours of the other."""
    ds = rtstruct(SERIES, {"A": {4: HOLE}, "B": {5: HOLE}})
    for item in ds[sequence].value:
        setattr(item, "ROINumber" if sequence == "StructureSetROISequence" else "ReferencedROINumber", 1)
    with pytest.raises(MaskError, match=f"two items of {sequence} have the number 1") as refused:
        read_foreign_rtstruct(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_UNREADABLE


def test_an_empty_structure_set_has_no_structure() -> None:
    assert read_foreign_rtstruct(rtstruct(SERIES, {}), SERIES).segments == ()
