"""SEG objects: what they hold, how they are named, and that reading gives back what was written."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from orthanc_plugin import identity
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.masks import Segmentation
from orthanc_plugin.results import seg
from tests.results_case import (
    AIRWAY,
    BODY,
    BONE,
    CARD,
    LUNG_LEFT,
    LUNG_RIGHT,
    SEG_UID,
    ellipsoids,
    encode,
    segment,
    small_series,
)


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def reread(ds: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(written(ds)))


@pytest.mark.parametrize(
    ("rows", "columns", "kind"), [(32, 32, "BINARY"), (33, 40, "BINARY"), (40, 33, "LABELMAP"), (201, 204, "LABELMAP")]
)
def test_only_whole_bytes_a_row_make_a_binary_seg(rows: int, columns: int, kind: str) -> None:
    series = small_series(rows, columns)
    assert encode(series, ellipsoids(series)).SegmentationType == kind


def test_segments_of_a_binary_seg_never_overlap() -> None:
    series = small_series()
    found = ellipsoids(series)
    stored = reread(encode(series, found))
    kept = seg.decode_seg(stored, series, CARD)
    body = kept.segment("body_remainder")
    assert body is not None
    assert (stored.SegmentationType, body.label) == ("BINARY", "Body outside the other segments")
    np.testing.assert_array_equal(kept.mask(body), found.labels == BODY.number)
    np.testing.assert_array_equal(kept.labels > 0, found.labels > 0)


def test_a_labelmap_gives_back_body_without_the_others_and_says_so() -> None:
    series = small_series(31, 29)
    found = ellipsoids(series)
    kept = seg.decode_seg(reread(encode(series, found)), series, CARD)
    body = kept.segment("body_remainder")
    assert body is not None
    assert (body.label, body.covers) == ("Body outside the other segments", (BODY.number,))
    np.testing.assert_array_equal(kept.mask(body), found.labels == BODY.number)


def test_absent_structures_have_no_segment_and_the_rest_is_numbered_from_one() -> None:
    series = small_series()
    found = ellipsoids(series, LUNG_LEFT, AIRWAY)
    stored = reread(encode(series, found))
    kept = seg.decode_seg(stored, series, CARD)
    assert [item.SegmentNumber for item in stored.SegmentSequence] == [1, 2, 3]
    assert [s.key for s in kept.segments] == ["body_remainder", "lung_right", "bone"]
    for before, after in zip(found.segments, kept.segments, strict=True):
        only_them = found.labels == before.number
        if before.key == "body":  # what has no segment of its own belongs to it
            only_them |= np.isin(found.labels, (LUNG_LEFT.number, AIRWAY.number))
        np.testing.assert_array_equal(kept.mask(after), only_them)


def test_voxels_of_a_label_without_segment_belong_to_what_covers_them() -> None:
    series = small_series(31, 29)
    whole = ellipsoids(series)
    found = Segmentation(whole.labels, tuple(s for s in whole.segments if s.key != AIRWAY.key))
    kept = seg.decode_seg(encode(series, found), series, CARD)
    body = kept.segment("body_remainder")
    assert body is not None
    np.testing.assert_array_equal(kept.mask(body), np.isin(whole.labels, (BODY.number, AIRWAY.number)))


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (31, 29)])
def test_a_structure_that_those_inside_it_fill_has_no_segment(rows: int, columns: int) -> None:
    series = small_series(rows, columns)
    whole = ellipsoids(series)
    filled = Segmentation(np.where(whole.labels == BODY.number, 0, whole.labels).astype(np.uint8), whole.segments)
    kept = seg.decode_seg(reread(encode(series, filled)), series, CARD)
    assert [s.key for s in kept.segments] == [s.key for s in whole.segments if s.key != BODY.key]
    assert all(kept.mask(s).any() for s in kept.segments)


def test_a_seg_of_one_segment_reads_back() -> None:
    series = small_series()
    labels = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    labels[3:5, 4:9, 4:9] = LUNG_LEFT.number
    kept = seg.decode_seg(reread(encode(series, Segmentation(labels, (segment(LUNG_LEFT),)))), series, CARD)
    np.testing.assert_array_equal(kept.labels > 0, labels > 0)


def test_reading_does_not_mind_the_order_of_frames() -> None:
    series = small_series()
    found = ellipsoids(series)
    stored = encode(series, found)
    size = stored.Rows * stored.Columns // 8
    frames = [stored.PixelData[start : start + size] for start in range(0, len(stored.PixelData), size)]
    stored.PixelData = b"".join(reversed(frames))
    stored.PerFrameFunctionalGroupsSequence = list(reversed(stored.PerFrameFunctionalGroupsSequence))
    np.testing.assert_array_equal(seg.decode_seg(reread(stored), series, CARD).labels, found.labels)


def test_an_odd_sized_binary_seg_of_other_software_reads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seg, "is_binary", lambda columns: True)
    series = small_series(31, 29)
    found = ellipsoids(series)
    np.testing.assert_array_equal(seg.decode_seg(reread(encode(series, found)), series, CARD).labels, found.labels)


def test_a_compressed_labelmap_reads_back() -> None:
    series = small_series(31, 29)
    stored = encode(series, ellipsoids(series))
    expected = seg.decode_seg(stored, series, CARD).labels
    packed = pydicom.dcmread(io.BytesIO(written(stored)))
    packed.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    np.testing.assert_array_equal(seg.decode_seg(reread(packed), series, CARD).labels, expected)


def test_empty_frames_are_omitted() -> None:
    series = small_series()
    found = ellipsoids(series)
    expected = sum(int(found.mask(s).any(axis=(1, 2)).sum()) for s in found.segments)
    assert encode(series, found).NumberOfFrames == expected


def test_encoding_twice_gives_equal_bytes() -> None:
    for columns in (32, 29):
        series = small_series(32, columns)
        assert written(encode(series, ellipsoids(series))) == written(encode(series, ellipsoids(series)))


def test_every_uid_is_derived_or_of_the_source() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    assert stored.SeriesInstanceUID == identity.series_uid(SEG_UID)
    organizations = {item.DimensionOrganizationUID for item in stored.DimensionIndexSequence}
    assert organizations == {identity.dimension_organization_uid(SEG_UID)}
    assert stored.SegmentSequence[1].TrackingUID == identity.tracking_uid(SEG_UID, "2")


def test_the_seg_says_who_made_it_and_what_for() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    assert stored.SeriesDescription.startswith("AI research:")
    assert stored.ContentDescription == "Research use only, not for diagnosis"
    item = stored.SegmentSequence[0]
    assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("AUTOMATIC", CARD.name)
    algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
    assert f"model_sha256={CARD.digest}" in algorithm.AlgorithmParameters
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    devices = [item.DeviceUID for item in stored.ContributingEquipmentSequence if "DeviceUID" in item]
    assert devices == [identity.device_uid(CARD.digest)]


def test_segments_carry_side_and_colour() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    left = stored.SegmentSequence[1]
    modifier = left.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeValue == "7771000"
    assert all("RecommendedDisplayCIELabValue" in item for item in stored.SegmentSequence)


def test_source_series_is_referenced_in_one_frame_of_reference() -> None:
    series = replace(small_series(FrameOfReferenceUID=None), frame_of_reference_uid="2.25.999")
    stored = encode(series, ellipsoids(series))
    assert stored.FrameOfReferenceUID == "2.25.999"
    assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == series.identity.series_instance_uid
    assert "FrameOfReferenceUID" not in series.headers[0]


def test_no_segment_or_an_empty_one_is_never_encoded() -> None:
    series = small_series()
    empty = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    for segmentation in (Segmentation(empty, ()), Segmentation(empty, (segment(BONE),))):
        with pytest.raises(EncodingError):
            encode(series, segmentation)


def test_a_seg_of_other_content_is_refused() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    with pytest.raises(EncodingError, match="image size"):
        seg.decode_seg(stored, small_series(32, 40), CARD)
    with pytest.raises(EncodingError, match="does not know"):
        seg.decode_seg(stored, series, replace(CARD, labels=(BODY, LUNG_RIGHT)))
    stranger = replace(series, headers=tuple(reversed(small_series(slices=13).headers[12:])))
    with pytest.raises(EncodingError, match="names no slice"):
        seg.decode_seg(stored, stranger, CARD)


def test_overlaps_of_other_software_are_refused() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    stored.PixelData = b"\xff" * len(stored.PixelData)
    with pytest.raises(EncodingError, match="overlap"):
        seg.decode_seg(stored, series, CARD)
