"""Other forms of results, for destinations that do not support the first one: valid, derived, and equal in content."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage, SegmentationStorage

from orthanc_plugin import identity
from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.config.archives import Fallback
from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.results import seg
from orthanc_plugin.results.document.key_objects import encode_key_objects
from orthanc_plugin.results.document.summary import encode_summary
from orthanc_plugin.results.sc.capture import encode_capture, pictures
from orthanc_plugin.results.substitute import made_of, repointed, substitute
from tests.support.cases.results_case import (
    CARD,
    SEG_UID,
    ellipsoids,
    landmarks_report,
    provenance_of,
    radiomics_report,
    report_on,
    small_series,
)

SERIES = small_series()


def reread(ds: Dataset) -> Dataset:
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


def labelmap(encoding: SegEncoding = SegEncoding.LABELMAP_RLE) -> Dataset:
    found = ellipsoids(SERIES)
    return reread(seg.encode_seg(provenance_of(SERIES, SEG_UID), found, SegSettings(encoding=encoding)))


def binary(ds: Dataset) -> Dataset:
    made = substitute(ds, Fallback.BINARY_SEG)
    assert made is not None
    return made


def problems(ds: Dataset, folder: Path) -> list[str]:
    """What dciodvfy finds beside what only a DICOMDIR needs, IHE AIR's DeviceUID, and our private codes."""
    file = folder / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(file, enforce_file_format=True)
    command = [str(Path(sys.executable).with_name("dciodvfy")), "-new", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = f"{done.stdout}\n{done.stderr}".splitlines()
    expected = ("DICOMDIR", "DeviceUID", "Retired Person Name", "Unrecognized defined term = <99AIE>")
    return [line for line in said if line.startswith(("Error", "Warning")) and not any(e in line for e in expected)]


@pytest.mark.parametrize("encoding", [SegEncoding.LABELMAP, SegEncoding.LABELMAP_RLE])
def test_a_label_map_becomes_the_same_segments_as_binary(tmp_path: Path, encoding: SegEncoding) -> None:
    original = labelmap(encoding)
    made = reread(binary(original))
    assert (made.SOPClassUID, made.SegmentationType, made.BitsAllocated) == (SegmentationStorage, "BINARY", 1)
    one, other = seg.decode_seg(original, SERIES, CARD), seg.decode_seg(made, SERIES, CARD)
    assert np.array_equal(one.labels, other.labels)
    assert one.segments == other.segments
    assert [s.TrackingUID for s in made.SegmentSequence] == [
        s.TrackingUID for s in original.SegmentSequence if s.SegmentNumber
    ]
    assert problems(made, tmp_path) == []


def test_the_binary_form_is_that_of_the_writer_but_for_its_identity() -> None:
    made, written = reread(binary(labelmap())), labelmap(SegEncoding.BINARY)
    assert made.PixelData == written.PixelData
    frames = zip(made.PerFrameFunctionalGroupsSequence, written.PerFrameFunctionalGroupsSequence, strict=True)
    assert all(groups == wanted for groups, wanted in frames)
    derived = {"SOPInstanceUID", "SeriesInstanceUID", "DimensionOrganizationSequence", "DimensionIndexSequence"}
    derived |= {"ImageComments"}  # names the label map
    differing = {element.keyword for element in written if made.get(element.tag) != element}
    assert differing == derived
    assert {element.tag for element in made} == {element.tag for element in written}


def test_a_substitute_has_uids_that_follow_from_the_original_and_names_it() -> None:
    original = labelmap()
    one, other = binary(original), binary(labelmap())
    assert one.SOPInstanceUID == other.SOPInstanceUID == identity.substitute_uid(SEG_UID, "binary-seg")
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID != SEG_UID
    assert one.SeriesInstanceUID == identity.series_uid(one.SOPInstanceUID) != original.SeriesInstanceUID
    assert one.StudyInstanceUID == original.StudyInstanceUID
    assert f"the same segments as label map {SEG_UID}" in one.ImageComments
    assert reread(one) == reread(other)
    assert original == labelmap()  # not changed by it


@pytest.mark.parametrize("columns", [32, 30])
def test_a_label_map_that_viewers_would_scramble_as_binary_has_no_substitute(columns: int) -> None:
    series = small_series(columns=columns)
    settings = SegSettings(encoding=SegEncoding.LABELMAP)
    ds = reread(seg.encode_seg(provenance_of(series, SEG_UID), ellipsoids(series), settings))
    assert (substitute(ds, Fallback.BINARY_SEG) is None) == (columns == 30)


def test_a_binary_seg_and_a_report_are_no_label_maps() -> None:
    assert substitute(labelmap(SegEncoding.BINARY), Fallback.BINARY_SEG) is None
    assert substitute(report_on([]), Fallback.BINARY_SEG) is None
    assert substitute(labelmap(), Fallback.COMPREHENSIVE_SR) is None
    assert substitute(labelmap(), Fallback.RTSTRUCT) is None


def reports() -> dict[str, Dataset]:
    stored = labelmap(SegEncoding.BINARY)
    return {
        "radiomics": radiomics_report(SERIES, stored),
        "landmarks": landmarks_report(SERIES, stored),
        "checks": report_on([stored]),
    }


@pytest.mark.parametrize("kind", ["radiomics", "landmarks", "checks"])
@pytest.mark.parametrize(
    ("fallback", "sop_class"),
    [(Fallback.COMPREHENSIVE_SR, ComprehensiveSRStorage), (Fallback.ENHANCED_SR, EnhancedSRStorage)],
)
def test_a_3d_report_becomes_a_simpler_one_with_the_same_content(
    tmp_path: Path, kind: str, fallback: Fallback, sop_class: str
) -> None:
    original = reread(reports()[kind])
    made = substitute(original, fallback)
    assert made is not None
    made = reread(made)
    assert made.SOPClassUID == made.file_meta.MediaStorageSOPClassUID == sop_class
    assert made.ContentSequence == original.ContentSequence
    assert made.SOPInstanceUID == identity.substitute_uid(original.SOPInstanceUID, str(fallback))
    (predecessor,) = made.PredecessorDocumentsSequence
    (named,) = predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (
        original.SOPClassUID,
        original.SOPInstanceUID,
    )
    assert problems(made, tmp_path) == []


def test_what_a_simpler_report_cannot_hold_keeps_its_class() -> None:
    coordinates, reference = reread(reports()["checks"]), reread(reports()["checks"])
    item = Dataset()
    item.ValueType = "SCOORD3D"
    coordinates.ContentSequence[0].ContentSequence = [item]
    assert substitute(coordinates, Fallback.COMPREHENSIVE_SR) is None
    assert substitute(coordinates, Fallback.ENHANCED_SR) is None
    within = Dataset()
    within.RelationshipType, within.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 2]
    reference.ContentSequence[0].ContentSequence = [within]
    assert substitute(reference, Fallback.ENHANCED_SR) is None
    assert substitute(reference, Fallback.COMPREHENSIVE_SR) is not None


def test_a_report_follows_the_segmentation_that_was_replaced(tmp_path: Path) -> None:
    original = labelmap()
    made = binary(original)
    report = reread(radiomics_report(SERIES, original))
    other = reread(repointed(report, {SEG_UID: made}))
    assert other.SOPInstanceUID not in (report.SOPInstanceUID, SEG_UID)
    assert other.SOPInstanceUID == repointed(report, {SEG_UID: made}).SOPInstanceUID
    text = str(other)
    assert SEG_UID not in text.replace(str(made.SOPInstanceUID), "")
    assert str(original.SeriesInstanceUID) not in text
    assert str(made.SOPInstanceUID) in text
    assert str(made.SeriesInstanceUID) in text
    assert str(report.SOPInstanceUID) in str(other.PredecessorDocumentsSequence)
    assert problems(other, tmp_path) == []
    assert repointed(report, {"1.2.3": made}) is report


def test_pictures_that_follow_a_replaced_segmentation_stay_one_series(tmp_path: Path) -> None:
    original = labelmap()
    made, kept = binary(original), seg.decode_seg(original, SERIES, CARD)
    captured = [
        reread(encode_capture(provenance_of(SERIES, f"2.25.770{number}"), original, picture, number, "2.25.7701"))
        for number, picture in enumerate(pictures(SERIES, kept, CARD), 1)
    ]
    others = [repointed(ds, {SEG_UID: made}) for ds in captured]
    assert len({ds.SOPInstanceUID for ds in (*captured, *others)}) == len(captured) * 2
    (series,) = {ds.SeriesInstanceUID for ds in others}
    assert series != captured[0].SeriesInstanceUID
    assert all(SEG_UID not in made_of(ds) and str(made.SOPInstanceUID) in made_of(ds) for ds in others)
    assert [ds.PixelData for ds in others] == [ds.PixelData for ds in captured]
    assert problems(reread(others[1]), tmp_path) == []


def test_a_summary_and_key_images_follow_a_replaced_segmentation(tmp_path: Path) -> None:
    original = reread(labelmap(SegEncoding.BINARY))
    replaced = reread(original)
    replaced.SOPInstanceUID, replaced.SeriesInstanceUID = "2.25.88", "2.25.89"
    kept = seg.decode_seg(original, SERIES, CARD)
    for ds in (
        encode_key_objects(provenance_of(SERIES, "2.25.71"), original, kept),
        encode_summary(provenance_of(SERIES, "2.25.72"), original, kept, title=REPORT_TITLE),
    ):
        other = reread(repointed(reread(ds), {SEG_UID: replaced}))
        assert "2.25.88" in str(other)
        assert SEG_UID not in str(other)
        assert str(original.SeriesInstanceUID) not in str(other)
        assert "PredecessorDocumentsSequence" not in other
        assert problems(other, tmp_path) == []
