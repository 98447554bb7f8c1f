"""Masks that others made give the report and the tables that masks of ours give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom.config
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin import pipeline
from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.pipeline.foreign import measure_masks, named_series, read_masks
from orthanc_plugin.results.sr.radiomics_table import TableRow, read_radiomics_sr
from tests.support.cases.foreign_case import FOREIGN_UID, balls, highdicom_seg, rtstruct, square
from tests.support.cases.results_case import CARD, SEG_UID, ellipsoids, encode, landmarks_report, small_series
from tests.unit.pipeline.test_pipeline import Store, context

SMALL = RadiomicsSettings(classes=(FeatureClass.SHAPE, FeatureClass.FIRSTORDER))


def noisy(**attributes: object) -> CtSeries:
    series = small_series(**attributes)
    voxels = np.random.default_rng(4).normal(0, 50, series.volume.voxels_hu.shape).round().astype(np.float32)
    return replace(series, volume=replace(series.volume, voxels_hu=voxels))


SERIES = noisy(SeriesNumber=3)
VOXEL_MM3 = np.prod(SERIES.volume.spacing_mm)
MASKS = balls(SERIES, (0.2, 0.1, 0.4), (-0.3, 0.0, -0.5), radius=0.4)


def measured(mask: Dataset, settings: RadiomicsSettings = SMALL) -> tuple[Dataset, tuple[TableRow, ...]]:
    store = Store()
    result = measure_masks(SERIES, mask, replace(context(store), radiomics=settings))
    assert result.stored is not None
    report = store.objects[result.stored.sop_instance_uid]
    return report, read_radiomics_sr(report)


def values(rows: tuple[TableRow, ...]) -> dict[tuple[int, str], float | None]:
    return {(row.segment_number, row.feature): row.value for row in rows}


def test_a_mask_has_the_values_it_has_as_a_mask_of_ours() -> None:
    stored = encode(SERIES, ellipsoids(SERIES))
    store = Store(stored)
    reference = pipeline.segment(SERIES, _Engine(), replace(context(store), radiomics=SMALL)).seg
    assert reference is not None
    ours = pipeline.measure(SERIES, CARD, reference, "cpu", replace(context(store), radiomics=SMALL)).stored
    assert ours is not None
    own = values(read_radiomics_sr(store.objects[ours.sop_instance_uid]))
    foreign = values(measured(store.objects[reference.sop_instance_uid])[1])
    assert own.items() <= foreign.items()
    assert len(foreign) > len(own)  # bone has its shape measured here, too


class _Engine:
    card, provider = CARD, "cpu"

    def segment(self, volume: object) -> object:
        return ellipsoids(SERIES)


def test_the_report_names_the_masks_and_who_made_them() -> None:
    report, rows = measured(highdicom_seg(SERIES, MASKS))
    texts = [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]
    assert "masks of a SEG (BINARY) made by Somebody Else" in texts
    assert any("not verified by a physician" in text for text in texts)
    assert not any("AI software" in text for text in texts)
    assert report.SeriesDescription.startswith("Radiomics S3 masks S41")
    assert {(row.seg_sop_instance_uid, row.series_instance_uid) for row in rows} == {(FOREIGN_UID, "2.25.200")}
    assert {(row.segment_number, row.label, row.segment_code) for row in rows} == {
        (1, "Lesion 1", "52988006"),
        (2, "Lesion 2", "52988006"),
    }
    voxels = {row.segment_number: row.voxels for row in rows}
    assert voxels == {1: MASKS[0].sum(), 2: MASKS[1].sum()}


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_without_a_tracking_uid_get_one_that_stays(kind: str) -> None:
    reports = [measured(highdicom_seg(SERIES, MASKS, kind))[0] for _ in range(2)]
    uids = [
        [group.ContentSequence[1].UID for group in report.ContentSequence[-1].ContentSequence] for report in reports
    ]
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 2


def test_rois_are_measured_and_those_that_cannot_be_are_rows_with_a_reason() -> None:
    ds = rtstruct(
        SERIES,
        {"GTV": {4: [square(3.6, 3.6, 9.4, 9.4)], 5: [square(3.6, 3.6, 9.4, 9.4)]}, "gap": {4.5: [square(3, 3, 9, 9)]}},
    )
    report, rows = measured(ds)
    assert {row.reason for row in rows if row.label == "GTV"} == {""}
    assert {row.voxels for row in rows if row.label == "GTV"} == {72}
    gap = [row for row in rows if row.label == "gap"]
    assert {(row.value, row.reason) for row in gap} == {
        (None, "a contour lies between the slices of the CT, or beyond them")
    }
    assert {row.feature for row in gap} == {row.feature for row in rows if row.label == "GTV"}
    assert {row.seg_sop_instance_uid for row in rows} == {FOREIGN_UID}
    assert report.SeriesDescription.startswith("Radiomics S3 masks S42")


def test_overlapping_structures_have_all_their_voxels() -> None:
    masks = balls(SERIES, (0.0, 0.0, 0.1), (0.0, 0.0, -0.1))
    _, rows = measured(highdicom_seg(SERIES, masks))
    assert {row.segment_number: row.voxels for row in rows} == {1: masks[0].sum(), 2: masks[1].sum()}


def test_an_empty_segment_is_rows_with_a_reason() -> None:
    empty = np.zeros(SERIES.source_shape, bool)
    _, rows = measured(highdicom_seg(SERIES, [MASKS[0], empty]))
    assert {row.reason for row in rows if row.segment_number == 2} == {"the segment has no voxel"}
    assert all(row.value is None for row in rows if row.segment_number == 2)


def test_masks_of_no_and_of_one_voxel_give_a_report_that_says_what_is_there() -> None:
    empty = np.zeros(SERIES.source_shape, bool)
    one = empty.copy()
    one[3, 4, 5] = True
    _, rows = measured(highdicom_seg(SERIES, [empty, one], omit_empty_frames=False))
    assert {row.reason for row in rows if row.segment_number == 1} == {"the segment has no voxel"}
    alone = {row.feature: row.value for row in rows if row.segment_number == 2}
    assert (alone["shape_VoxelVolume"], alone["firstorder_Range"]) == (pytest.approx(VOXEL_MM3), 0)
    assert all(row.reason for row in rows if row.value is None)


def test_a_report_that_is_there_is_adopted() -> None:
    store, mask = Store(), highdicom_seg(SERIES, MASKS)
    first, second = (measure_masks(SERIES, mask, replace(context(store), radiomics=SMALL)).stored for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.adopted, second.adopted) == (False, True)
    assert first.sop_instance_uid == second.sop_instance_uid


def test_other_settings_and_other_masks_have_other_reports_and_series_numbers() -> None:
    other = highdicom_seg(SERIES, MASKS)
    other.SOPInstanceUID, other.SeriesNumber = "2.25.7003", 42
    reports = [
        measured(highdicom_seg(SERIES, MASKS))[0],
        measured(highdicom_seg(SERIES, MASKS), replace(SMALL, bin_width_hu=10.0))[0],
        measured(other)[0],
    ]
    assert len({report.SOPInstanceUID for report in reports}) == 3
    assert reports[0].SeriesNumber != reports[2].SeriesNumber
    assert reports[0].SeriesDescription != reports[2].SeriesDescription


def test_what_holds_no_masks_is_refused() -> None:
    stored = encode(SERIES, ellipsoids(SERIES), sop_instance_uid=SEG_UID)
    with pytest.raises(MaskError) as refused:
        read_masks(landmarks_report(SERIES, stored), SERIES)
    assert refused.value.reason is Refusal.MASK_UNREADABLE
    with pytest.raises(MaskError) as refused:
        measure_masks(SERIES, rtstruct(SERIES, {}), context(Store()))
    assert refused.value.reason is Refusal.NO_MASKS


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("value", [None, "Doe^Jane", "1..2"])
def test_an_object_that_a_report_cannot_refer_to_is_refused(keyword: str, value: str | None) -> None:
    mask = highdicom_seg(SERIES, MASKS)
    with pydicom.config.disable_value_validation():
        setattr(mask, keyword, value)
        with pytest.raises(MaskError, match=f"{keyword} of the object is missing or not a valid UID"):
            measure_masks(SERIES, mask, context(Store()))


def test_what_is_no_uid_is_not_repeated_in_a_message() -> None:
    mask = highdicom_seg(SERIES, MASKS)
    with pydicom.config.disable_value_validation():
        mask.FrameOfReferenceUID = "Doe^Jane"
        with pytest.raises(MaskError) as refused:
            read_masks(mask, SERIES)
    assert "Doe" not in str(refused.value)


def test_the_series_that_masks_name() -> None:
    assert named_series(highdicom_seg(SERIES, MASKS)) == {"2.25.200"}
    assert named_series(rtstruct(SERIES, {})) == {"2.25.200"}
    assert named_series(Dataset()) == set()
