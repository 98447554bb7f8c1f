"""Objects of a model and of an expert, compared structure by structure."""

from __future__ import annotations

import pytest

from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.validation.cases import Row, Status, compare_objects, model_of, try_compare
from orthanc_plugin.validation.landmarks import landmark_rows
from orthanc_plugin.validation.structures import MatchedBy
from tests.support.cases.expert_case import HEART, drawn_seg, edited, ellipsoid, organs, our_seg, read, small_ct
from tests.support.cases.foreign_case import rtstruct, square
from tests.support.cases.results_case import landmarks_report

SERIES = read(small_ct())
AI = our_seg(SERIES)


def by_structure(rows: tuple[Row, ...]) -> dict[str, Row]:
    return {row.structure: row for row in rows}


def test_rows_say_what_agrees_what_is_missed_and_what_is_extra() -> None:
    masks = {"Lung_L": edited(SERIES)["lung_left"], "heart": ellipsoid(SERIES, (0, 0.2, 0), (0.3, 0.2, 0.1))}
    rows = by_structure(compare_objects(SERIES, AI, drawn_seg(SERIES, masks, {"heart": HEART})).rows)
    left = rows["Lung_L"]
    assert (left.status, left.matched_by) == (Status.BOTH, MatchedBy.TG263)
    whole, part = organs(SERIES)["lung_left"].sum(), masks["Lung_L"].sum()
    assert left.dice == pytest.approx(2 * part / (whole + part))
    assert left.volume_difference_ml == pytest.approx((whole - part) * SERIES.volume.voxel_ml)
    assert left.volume_difference_percent == pytest.approx(100 * (whole - part) / part)
    assert (rows["Heart"].status, rows["Heart"].dice, rows["Heart"].hd95_mm) == (Status.MISSED, 0.0, None)
    assert rows["Heart"].reason == "the AI object has no such structure"
    assert rows["Lung_R"].status is Status.EXTRA
    assert {row.model for row in rows.values()} == {"chest_ellipsoids 1.0.0"}
    assert {row.model_digest for row in rows.values()} == {"ab" * 32}
    assert left.scanner != ""


def test_an_rtstruct_is_an_expert_too() -> None:
    contours = {z: [square(20, 10, 26, 20)] for z in range(8, 14)}
    rows = by_structure(compare_objects(SERIES, AI, rtstruct(SERIES, {"Lung_L": contours, "none": {}})).rows)
    assert rows["Lung_L"].status is Status.BOTH
    # Corners on the centres of pixels: a mask was traced, whose edge pixels belong to it.
    assert rows["Lung_L"].expert_ml == pytest.approx(6 * 7 * 11 * SERIES.volume.voxel_ml)
    assert (rows["none"].status, rows["none"].reason) == (
        Status.EMPTY,
        "expert: the ROI has no closed contour",
    )


def test_other_frames_of_reference_are_an_error_that_names_both() -> None:
    expert = drawn_seg(SERIES, {"Lung_L": organs(SERIES)["lung_left"]})
    expert.FrameOfReferenceUID = "2.25.9"
    with pytest.raises(MaskError, match=r"2\.25\.9, and the CT has " + SERIES.frame_of_reference_uid) as caught:
        compare_objects(SERIES, AI, expert)
    assert caught.value.reason is Refusal.MASK_FRAME_OF_REFERENCE
    (row,) = try_compare(SERIES, AI, expert, compare_objects).rows
    assert (row.status, "2.25.9" in row.reason) == (Status.REFUSED, True)
    assert row.series_instance_uid == SERIES.identity.series_instance_uid


def test_another_grid_is_refused() -> None:
    expert = drawn_seg(SERIES, {"Lung_L": organs(SERIES)["lung_left"]})
    expert.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [3.0, 3.0]
    with pytest.raises(MaskError, match="pixels"):
        compare_objects(SERIES, AI, expert)


def test_the_model_of_others_is_what_their_object_says() -> None:
    assert model_of(drawn_seg(SERIES, {"a": organs(SERIES)["airway"]})) == ("Somebody Editor", "")


def test_landmarks_are_measured_against_the_lungs_that_the_expert_drew() -> None:
    masks = organs(SERIES)
    masks["lung_left"][15:] = masks["lung_right"][15:] = False
    case = compare_objects(
        SERIES, AI, drawn_seg(SERIES, {"Lung_L": masks["lung_left"], "right lung": masks["lung_right"]})
    )
    report = landmarks_report(SERIES, AI)
    rows = list(landmark_rows(case, [report]))
    errors = {(row.landmark, row.source_sop_instance_uid): row.error_slices for row in rows}
    tops = organs(SERIES)["lung_left"].any(axis=(1, 2)).nonzero()[0]
    assert errors["lung top", str(AI.SOPInstanceUID)] == pytest.approx(tops[-1] - 14)
    assert errors["lung bottom", str(AI.SOPInstanceUID)] == 0
    assert errors["lung top", str(report.SOPInstanceUID)] == pytest.approx(tops[-1] - 14)
    assert errors["lung bottom", str(report.SOPInstanceUID)] == 0


def test_lungs_cut_by_the_scan_have_no_end_to_compare() -> None:
    masks = organs(SERIES)
    masks["lung_left"][:] |= ellipsoid(SERIES, (1, 0, 0.5), (2, 0.2, 0.2))
    case = compare_objects(SERIES, AI, drawn_seg(SERIES, {"Lung_L": masks["lung_left"]}))
    found = {row.landmark: (row.error_mm, row.reason) for row in landmark_rows(case, [])}
    assert found["lung top"] == (None, "the expert's lungs reach the end of the scan")
