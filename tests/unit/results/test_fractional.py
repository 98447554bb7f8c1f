"""Probabilities as FRACTIONAL SEG: what it holds, how readers see it, and that nothing is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from orthanc_plugin import identity
from orthanc_plugin.domain.masks import Probability, Segmentation
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results import seg
from tests.conformance import readers
from tests.support.cases.results_case import CARD, SEG_UID, ellipsoids, encode, provenance_of, small_series

SERIES = small_series(slices=14)
FOUND = ellipsoids(SERIES)
KEPT = seg.decode_seg(encode(SERIES, FOUND), SERIES, CARD)
UID = "2.25.1020"


def soft(found: Segmentation = FOUND) -> tuple[Probability, ...]:
    """Blurred masks, as a network is unsure of its borders."""
    masks = ((one.key, (found.labels == one.number).astype(np.float32)) for one in found.segments)
    blurred = ((key, ndimage.gaussian_filter(mask, 1.0)) for key, mask in masks if key != "body")
    return tuple(Probability(key, np.rint(255 * values).astype(np.uint8)) for key, values in blurred)


def written(folder: Path, probabilities: tuple[Probability, ...] = ()) -> Path:
    provenance = provenance_of(SERIES, UID, CARD)
    ds = seg.encode_fractional(provenance, SEG_UID, KEPT, probabilities or soft())
    ds.save_as(folder / "probabilities.dcm", enforce_file_format=True)
    return folder / "probabilities.dcm"


def test_readers_get_the_bytes_of_each_structure(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert readers.complaints(path) == []
    made = highdicom.seg.segread(path)
    uids = [str(header.SOPInstanceUID) for header in SERIES.headers]
    values = made.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    expected = {one.key: one.values for one in soft()}
    stored = [segment for segment in KEPT.segments if segment.key in expected]
    assert [item.SegmentLabel for item in made.SegmentSequence] == [segment.label for segment in stored]
    for number, segment in enumerate(stored):
        np.testing.assert_allclose(values[..., number], expected[segment.key] / 255, atol=1e-6)


def test_dcmqi_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    where = ("--outputDirectory", str(folder), "--outputType", "nrrd")
    status, text = readers.output_of(readers.tool("segimage2itkimage"), "--inputDICOM", str(written(tmp_path)), *where)
    assert status == 0, text
    assert not readers.DCMQI_TROUBLE.search(text), text
    assert len([*folder.glob("*.nrrd")]) == len(soft())


def test_it_says_what_its_numbers_are_and_belongs_to_its_seg(tmp_path: Path) -> None:
    ds = pydicom.dcmread(written(tmp_path))
    assert (ds.SegmentationType, ds.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert (ds.MaximumFractionalValue, ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (255, 8, 8, 7)
    assert "not calibrated" in ds.ImageComments
    assert ds.SeriesDescription.startswith("Probabilities ")
    stored = next(segment for segment in KEPT.segments if segment.key == "lung_left")
    item = next(one for one in ds.SegmentSequence if one.SegmentLabel == stored.label)
    assert item.TrackingUID == identity.tracking_uid(SEG_UID, str(stored.number))


def test_slices_of_a_crop_lie_where_they_were(tmp_path: Path) -> None:
    part = tuple(replace(one, values=one.values[4:9], first=4) for one in soft())
    made = highdicom.seg.segread(written(tmp_path, part))
    uids = [str(header.SOPInstanceUID) for header in SERIES.headers]
    values = made.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    assert not values[:4].any()
    assert not values[9:].any()
    whole = {one.key: one.values for one in soft()}
    first = next(segment.key for segment in KEPT.segments if segment.key in whole)
    np.testing.assert_allclose(values[4:9, ..., 0], whole[first][4:9] / 255, atol=1e-6)


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    assert written(tmp_path).read_bytes() == written(tmp_path).read_bytes()


def test_a_structure_without_a_chance_gets_no_segment_and_nothing_no_object(tmp_path: Path) -> None:
    first, *others = soft()
    nothing = replace(first, values=np.zeros_like(first.values))
    ds = pydicom.dcmread(written(tmp_path, (nothing, *others)))
    assert len(ds.SegmentSequence) == len(others)
    with pytest.raises(EncodingError, match="without a segment"):
        written(tmp_path, (nothing,))
