"""Results of a multi-frame CT refer to its frames by their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pydicom
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.plan import Output, SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results import seg
from orthanc_plugin.results.headers import image_references, instance_number
from orthanc_plugin.results.rt.structure_set import encode_rtstruct
from orthanc_plugin.results.sc.preview import encode_preview
from orthanc_plugin.series.read import read_series
from tests.support.cases.body_results_case import body_report, items, whole_body
from tests.support.cases.results_case import (
    CARD,
    SEG_UID,
    ellipsoids,
    encode,
    landmarks_report,
    provenance_of,
    radiomics_report,
    small_series,
)
from tests.support.phantoms.multiframe import concatenated, enhanced_ct

SLICES = 20


@cache
def enhanced() -> CtSeries:
    return read_series([enhanced_ct(encode_phantom(make_phantom((SLICES, 32, 32))))])


@cache
def stored() -> Dataset:
    return encode(enhanced(), ellipsoids(enhanced()))


def known(series: CtSeries) -> set[tuple[str, int | None]]:
    return {(str(header.SOPInstanceUID), frame_number(header)) for header in series.headers}


def image_items(ds: Dataset) -> Iterator[tuple[str, int]]:
    """The source images that an SR names."""
    source = enhanced().headers[0].SOPInstanceUID
    for item in items(ds):
        for reference in item.get("ReferencedSOPSequence", ()):
            if reference.ReferencedSOPInstanceUID == source:
                yield str(source), int(reference.ReferencedFrameNumber)


@pytest.mark.parametrize("encoding", [SegEncoding.BINARY, SegEncoding.LABELMAP_RLE])
def test_a_seg_names_frames_and_is_read_back_by_them(encoding: SegEncoding) -> None:
    found = ellipsoids(enhanced())
    made = seg.encode_seg(provenance_of(enhanced(), SEG_UID), found, SegSettings(encoding, body=True))
    kept = seg.decode_seg(made, enhanced(), CARD)
    assert (kept.labels > 0).sum() == (found.labels > 0).sum()
    (listed,) = made.ReferencedSeriesSequence
    (instance,) = listed.ReferencedInstanceSequence
    assert (instance.ReferencedSOPInstanceUID, instance.ReferencedSOPClassUID) == (
        enhanced().headers[0].SOPInstanceUID, pydicom.uid.EnhancedCTImageStorage,
    )  # fmt: skip


def test_a_seg_of_a_concatenation_names_each_instance() -> None:
    series = read_series(concatenated(encode_phantom(make_phantom((SLICES, 32, 32))), 2))
    made = encode(series, ellipsoids(series))
    (listed,) = made.ReferencedSeriesSequence
    named = {item.ReferencedSOPInstanceUID for item in listed.ReferencedInstanceSequence}
    assert named == set(series.identity.sop_instance_uids)
    assert (seg.decode_seg(made, series, CARD).labels > 0).any()


def test_reports_name_frames() -> None:
    body = whole_body(enhanced())
    for report in (
        landmarks_report(enhanced(), stored()),
        *(body_report(kind, enhanced(), body) for kind in (Output.BODY_LANDMARKS, Output.BODY_REGIONS)),
    ):
        named = set(image_items(report))
        assert named
        assert named <= known(enhanced())
        texts = " ".join(str(item.TextValue) for item in items(report) if "TextValue" in item)
        assert "instance 1 frame " in texts


def test_points_for_a_viewer_name_frames() -> None:
    report = body_report(Output.VIEWER_LANDMARKS, enhanced(), whole_body(enhanced()))
    assert set(image_items(report)) <= known(enhanced())
    assert len(set(image_items(report))) > 1


def test_the_evidence_of_a_report_holds_the_instance_once() -> None:
    (study,) = radiomics_report(enhanced(), stored()).CurrentRequestedProcedureEvidenceSequence
    uids = [
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert uids.count(enhanced().headers[0].SOPInstanceUID) == 1


def test_a_structure_set_names_the_frame_of_each_contour() -> None:
    kept = seg.decode_seg(stored(), enhanced(), CARD)
    made = encode_rtstruct(provenance_of(enhanced(), "2.25.1007"), stored(), kept)
    study = made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    (image,) = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert list(image.ReferencedFrameNumber) == list(range(1, SLICES + 1))
    heights = {frame_number(header): float(header.ImagePositionPatient[2]) for header in enhanced().headers}
    for contour in made.ROIContourSequence[0].ContourSequence:
        (source,) = contour.ContourImageSequence
        assert float(contour.ContourData[2]) == pytest.approx(heights[int(source.ReferencedFrameNumber)], abs=1e-3)


def test_a_preview_names_the_instance_with_its_frames() -> None:
    kept = seg.decode_seg(stored(), enhanced(), CARD)
    made = encode_preview(provenance_of(enhanced(), "2.25.1008"), stored(), kept)
    source, mask = made.SourceImageSequence
    assert list(source.ReferencedFrameNumber) == list(range(1, SLICES + 1))
    assert "ReferencedFrameNumber" not in mask


def test_single_frames_are_named_as_before() -> None:
    header = small_series().headers[3]
    header.ReferencedFrameNumber = 7  # means nothing in a classic slice
    (reference,) = image_references([header])
    assert (instance_number(header), "ReferencedFrameNumber" in reference) == ("4", False)
