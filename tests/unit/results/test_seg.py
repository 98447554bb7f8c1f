"""SEG objects: content, names, and reading back what was written."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentDescription
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.masks import Labels, Segmentation
from orthanc_plugin.domain.plan import DEFAULT_SEG, SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results import seg
from orthanc_plugin.results.headers import result_headers
from orthanc_plugin.results.provenance import statements_of
from tests.support.cases.results_case import (
    AIRWAY,
    BODY,
    BONE,
    CARD,
    LUNG_LEFT,
    LUNG_RIGHT,
    SEG_UID,
    ellipsoids,
    provenance_of,
    segment,
    small_series,
)

WHOLE = replace(DEFAULT_SEG, body=True)
"""With the rest of the body, so that there is a structure that covers others."""


def encode(series: CtSeries, found: Segmentation, settings: SegSettings = WHOLE, card: ModelCard = CARD) -> Dataset:
    return seg.encode_seg(provenance_of(series, SEG_UID, card), found, settings)


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def reread(ds: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(written(ds)))


def with_body(labels: Labels) -> Labels:
    """Number the structures of the card as a SEG does that holds the rest of the body, last."""
    return np.array([0, 5, 1, 2, 3, 4], np.uint8)[labels]


def without_body(labels: Labels) -> Labels:
    """Number the structures of the card as a SEG of default settings does."""
    return np.array([0, 0, 1, 2, 3, 4], np.uint8)[labels]


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
    assert (body.label, body.covers) == ("Body outside the other segments", (5,))
    np.testing.assert_array_equal(kept.mask(body), found.labels == BODY.number)


def test_absent_structures_have_no_segment_and_the_rest_is_numbered_from_one() -> None:
    series = small_series()
    found = ellipsoids(series, LUNG_LEFT, AIRWAY)
    stored = reread(encode(series, found))
    kept = seg.decode_seg(stored, series, CARD)
    assert [item.SegmentNumber for item in stored.SegmentSequence] == [1, 2, 3]
    assert [s.key for s in kept.segments] == ["lung_right", "bone", "body_remainder"]
    for before, after in zip((*found.segments[1:], found.segments[0]), kept.segments, strict=True):
        only_them = found.labels == before.number
        if before.key == "body":  # voxels without a segment of their own belong to the body
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


def test_the_rest_of_the_body_is_left_out_unless_it_is_asked_for() -> None:
    """It would paint the whole patient, and its frames would make every SEG a LABELMAP."""
    series = small_series()
    found = ellipsoids(series)
    kept = seg.decode_seg(reread(encode(series, found, DEFAULT_SEG)), series, CARD)
    assert [s.key for s in kept.segments] == ["lung_left", "lung_right", "airway", "bone"]
    np.testing.assert_array_equal(kept.labels, without_body(found.labels))
    assert "not found" not in "".join(kept.notes)


def test_a_body_alone_and_other_structures_that_cover_are_kept() -> None:
    series = small_series()
    alone = replace(ellipsoids(series), segments=(segment(BODY),))
    kept = seg.decode_seg(reread(encode(series, alone, DEFAULT_SEG)), series, CARD)
    assert [(s.key, s.label) for s in kept.segments] == [("body", "Body")]
    heart = replace(BODY, key="heart", label="Heart", type=Code("80891009", "SCT", "Heart"))
    card = replace(CARD, labels=(heart, *CARD.labels[1:]))
    stored = reread(encode(series, ellipsoids(series, card=card), DEFAULT_SEG, card))
    assert [item.SegmentLabel for item in stored.SegmentSequence][-1] == "Heart outside the other segments"


@pytest.mark.parametrize("encoding", [SegEncoding.LABELMAP, SegEncoding.LABELMAP_RLE])
def test_a_labelmap_describes_its_background_last(encoding: SegEncoding) -> None:
    """PS3.3 C.8.20.2.3.3 asks for an item for each value; OHIF 3.13.2 takes the n-th item for segment n."""
    series = small_series(31, 29)
    stored = reread(encode(series, ellipsoids(series), SegSettings(encoding)))
    assert [item.SegmentNumber for item in stored.SegmentSequence] == [1, 2, 3, 4, 0]
    background = stored.SegmentSequence[-1]
    assert background.SegmentedPropertyTypeCodeSequence[0].CodeValue == "125040"
    assert background.RecommendedDisplayCIELabValue == [0, 32896, 32896]
    assert "TrackingUID" not in background
    assert stored.PixelPaddingValue == 0
    described = {item.SegmentNumber for item in stored.SegmentSequence}
    assert set(np.unique(stored.pixel_array)) <= described


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
    np.testing.assert_array_equal(seg.decode_seg(reread(stored), series, CARD).labels, with_body(found.labels))


def test_an_odd_sized_binary_seg_of_other_software_reads_back() -> None:
    series = small_series(31, 29)
    found = ellipsoids(series)
    items = [SegmentDescription.from_dataset(item) for item in encode(series, found).SegmentSequence[:5]]
    numbers = with_body(found.labels)
    stored = seg.highdicom_seg(
        result_headers(series), numbers, items, SegEncoding.BINARY, provenance_of(series, SEG_UID)
    )
    np.testing.assert_array_equal(seg.decode_seg(reread(stored), series, CARD).labels, numbers)


@pytest.mark.parametrize("encoding", [SegEncoding.LABELMAP, SegEncoding.LABELMAP_RLE, SegEncoding.BINARY])
@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (33, 40), (31, 29)])
def test_every_encoding_reads_back(encoding: SegEncoding, rows: int, columns: int) -> None:
    series = small_series(rows, columns)
    found = ellipsoids(series)
    if encoding is SegEncoding.BINARY and columns % 8:
        with pytest.raises(EncodingError, match="29 columns: set the encoding to auto or labelmap"):
            encode(series, found, SegSettings(encoding))
        return
    stored = reread(encode(series, found, SegSettings(encoding)))
    np.testing.assert_array_equal(seg.decode_seg(stored, series, CARD).labels, without_body(found.labels))
    assert (stored.SegmentationType == "BINARY") is (encoding is SegEncoding.BINARY)
    assert (stored.file_meta.TransferSyntaxUID == RLELossless) is (encoding is SegEncoding.LABELMAP_RLE)
    if encoding is not SegEncoding.BINARY:
        assert (stored.PixelPaddingValue, stored["PixelPaddingValue"].VR) == (0, "US")
        assert [item.SegmentNumber for item in stored.SegmentSequence] == [1, 2, 3, 4, 0]


@pytest.mark.parametrize(
    ("ceiling", "bits", "kind"),
    [(1.0, 16, "BINARY"), (0.18, 16, "LABELMAP"), (0.18, 32, "BINARY"), (0, 16, "LABELMAP")],
)
def test_above_the_ceiling_a_seg_is_a_compressed_labelmap(ceiling: float, bits: int, kind: str) -> None:
    series = small_series(BitsAllocated=bits)
    found = ellipsoids(series)  # 35 frames of 12 slices: 18.2 % of 16 bits per voxel
    stored = encode(series, found, SegSettings(ceiling=ceiling))
    assert stored.SegmentationType == kind
    assert stored.file_meta.TransferSyntaxUID.is_compressed is (kind == "LABELMAP")


def test_the_text_of_settings_holds_what_decides_the_pixels() -> None:
    texts = [
        seg.describe(settings)
        for settings in (
            DEFAULT_SEG,
            SegSettings(ceiling=0.5),
            WHOLE,
            *(SegSettings(kind) for kind in list(SegEncoding)[1:]),
        )
    ]
    assert len(set(texts)) == len(texts)
    assert seg.describe(SegSettings(SegEncoding.BINARY, 0.5)) == seg.describe(SegSettings(SegEncoding.BINARY))
    assert texts[0] == seg.SETTINGS == "encoding=auto; ceiling=1; no overlaps; empty frames omitted"


def test_structures_that_were_not_found_are_named_and_read_back() -> None:
    series = small_series()
    found = replace(ellipsoids(series, LUNG_LEFT, AIRWAY), notes=("one lung only",))
    stored = reread(encode(series, found))
    said = [*statements_of(CARD), "one lung only", "not found: Left lung, Trachea and main bronchi"]
    assert stored.ImageComments == "\n".join(said)
    assert seg.decode_seg(stored, series, CARD).notes == (
        "one lung only", "not found: Left lung, Trachea and main bronchi",
    )  # fmt: skip
    assert seg.decode_seg(reread(encode(series, ellipsoids(series))), series, CARD).notes == ()


def test_a_long_list_of_what_was_not_found_ends_with_a_count() -> None:
    series = small_series()
    others = tuple(
        replace(BONE, number=n, key=f"b{n}", label=f"Bone with a rather long name, number {n:03}", covers=(n,))
        for n in range(6, 256)
    )
    comments = encode(series, ellipsoids(series), card=replace(CARD, labels=(*CARD.labels, *others))).ImageComments
    match = re.fullmatch(r"not found: (.*) and (\d+) more", comments.splitlines()[-1])
    assert match is not None
    assert match[1].count("Bone") + int(match[2]) == 250
    assert len(comments.splitlines()[-1]) < 4200


def test_long_labels_are_cut_stay_apart_and_lead_back_to_the_card() -> None:
    long = "Muscle of the posterior compartment of the lower leg, deep layer, part "
    labels = (
        replace(BODY, label=long + "0"), replace(LUNG_LEFT, label=long + "1"), replace(LUNG_RIGHT, label=long + "2")
    )  # fmt: skip
    card = replace(CARD, labels=(*labels, AIRWAY, BONE))
    series = small_series()
    whole = ellipsoids(series)
    found = replace(whole, segments=(*(segment(label) for label in labels), *whole.segments[3:]))
    stored = reread(encode(series, found, card=card))
    names = [item.SegmentLabel for item in stored.SegmentSequence]
    assert len(set(names)) == 5
    assert max(map(len, names)) == 64
    assert [item.TrackingID for item in stored.SegmentSequence] == names
    kept = seg.decode_seg(stored, series, card)
    assert [s.key for s in kept.segments] == ["lung_left", "lung_right", "airway", "bone", "body_remainder"]


def test_more_segments_than_eight_bits_hold_are_refused() -> None:
    series = small_series()
    whole = ellipsoids(series)
    crowd = replace(whole, segments=tuple(replace(whole.segments[0], key=str(n)) for n in range(256)))
    with pytest.raises(EncodingError, match="256 segments: a SEG of 8 bits holds at most 255"):
        encode(series, crowd)


def test_overlapping_models_lie_in_series_of_their_own() -> None:
    series = small_series()
    found = ellipsoids(series)
    other = replace(CARD, name="other", digest="cd" * 32)
    uids = [identity.seg_uid("f" * 64, card.digest, seg.SETTINGS) for card in (CARD, other)]
    made = [
        seg.encode_seg(provenance_of(series, uid, card), found) for card, uid in zip((CARD, other), uids, strict=True)
    ]
    assert len({ds.SOPInstanceUID for ds in made}) == len({ds.SeriesInstanceUID for ds in made}) == 2
    for ds, card in zip(made, (CARD, other), strict=True):
        np.testing.assert_array_equal(seg.decode_seg(ds, series, card).labels, without_body(found.labels))


def test_groups_are_encoded_once_and_written_as_they_are() -> None:
    stored = encode(series := small_series(), ellipsoids(series))
    before = written(stored)
    assert stored.get_item("PerFrameFunctionalGroupsSequence").is_raw
    assert len(stored.PerFrameFunctionalGroupsSequence) == stored.NumberOfFrames
    assert written(stored) == before


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
    assert stored.SeriesDescription.endswith(", research")
    assert stored.ContentDescription == "Research use only, not for diagnosis"
    assert stored.ImageComments.splitlines() == [*statements_of(CARD)]
    item = stored.SegmentSequence[0]
    assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("AUTOMATIC", CARD.name)
    algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
    assert f"model_sha256={CARD.digest}" in algorithm.AlgorithmParameters
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123104"
    devices = [item.DeviceUID for item in stored.ContributingEquipmentSequence if "DeviceUID" in item]
    assert devices == [identity.device_uid(CARD.digest)]


def test_segments_carry_side_and_colour() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    left = stored.SegmentSequence[0]
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
