"""RT Structure Sets: what they say about themselves, names of structures, and places of contours."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.codes import BILATERAL, LEFT, LUNG, RIGHT, Code
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.plan import ContourStyle, SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results import seg
from orthanc_plugin.results.rt.structure_set import describe, encode_rtstruct
from orthanc_plugin.results.rt.tg263 import PRIMARY_NAMES, primary_name, roi_names
from tests.support.cases.realct import ROOT
from tests.support.cases.results_case import (
    BODY,
    CARD,
    LUNG_LEFT,
    SEG_UID,
    ellipsoids,
    encode,
    provenance_of,
    segment,
    small_series,
)

UID = "2.25.1007"
SIDES = {"Left": LEFT, "Right": RIGHT, "Bilateral": BILATERAL, "": None}


def structure_set(series: CtSeries, found: Segmentation) -> Dataset:
    """Encode the structure set and read it back."""
    stored = encode(series, found)
    kept = seg.decode_seg(stored, series, CARD)
    file = io.BytesIO()
    encode_rtstruct(provenance_of(series, UID), stored, kept).save_as(file, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(file.getvalue()))


def points_of(contour: Dataset) -> np.ndarray:
    return np.array(contour.ContourData, float).reshape(-1, 3)


def test_it_is_unapproved_automatic_and_says_so_in_words() -> None:
    series = small_series()
    ds = structure_set(series, replace(ellipsoids(series), notes=("one lung only",)))
    assert (ds.ApprovalStatus, ds.Modality, ds.StructureSetLabel) == ("UNAPPROVED", "RTSTRUCT", "Research")
    assert {item.ROIGenerationAlgorithm for item in ds.StructureSetROISequence} == {"AUTOMATIC"}
    assert {str(item.ROIInterpreter) for item in ds.RTROIObservationsSequence} == {""}
    assert ds.StructureSetName == "Unapproved, research: chest_ellipsoids 1.0.0"
    assert "Research use only" in ds.StructureSetDescription
    assert "one lung only" in ds.StructureSetDescription
    devices = [item.DeviceUID for item in ds.ContributingEquipmentSequence if "DeviceUID" in item]
    assert devices == [identity.device_uid(CARD.digest)]


def test_saving_copies_the_encoded_contours() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    ds = encode_rtstruct(provenance_of(series, UID), stored, seg.decode_seg(stored, series, CARD))
    ds.save_as(io.BytesIO(), enforce_file_format=True)
    assert all(item.get_item("ContourSequence").is_raw for item in ds.ROIContourSequence)


def test_names_codes_colours_and_types_are_those_of_the_structures() -> None:
    series = small_series()
    ds = structure_set(series, ellipsoids(series))
    names = [item.ROIName for item in ds.StructureSetROISequence]
    assert names == ["Lung_L", "Lung_R", "Trachea and main bronchi", "Bone", "Body"]
    types = [item.RTROIInterpretedType for item in ds.RTROIObservationsSequence]
    assert types == [*["ORGAN"] * 4, "EXTERNAL"]
    code = ds.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    assert (code.CodeValue, code.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue) == (LUNG.value, LEFT.value)
    assert tuple(ds.ROIContourSequence[0].ROIDisplayColor) == LUNG_LEFT.colour


def test_the_body_is_whole_again_though_the_seg_holds_what_is_left_of_it() -> None:
    series = small_series()
    found = ellipsoids(series)
    body = structure_set(series, found).StructureSetROISequence[-1]
    assert float(body.ROIVolume) == pytest.approx(np.count_nonzero(found.labels) * series.volume.voxel_ml)


@pytest.mark.parametrize(("encoding", "told"), [(SegEncoding.BINARY, [1, 2, 3, 4, 5]), (SegEncoding.LABELMAP, None)])
def test_the_segments_of_a_binary_seg_are_named_as_source(encoding: SegEncoding, told: list[int] | None) -> None:
    series = small_series()
    stored = seg.encode_seg(provenance_of(series, SEG_UID), ellipsoids(series), SegSettings(encoding, body=True))
    ds = encode_rtstruct(provenance_of(series, UID), stored, seg.decode_seg(stored, series, CARD))
    (source,) = ds.StructureSetROISequence[-1].DefinitionSourceSequence
    assert source.ReferencedSOPInstanceUID == stored.SOPInstanceUID
    assert source.get("ReferencedSegmentNumber") == told


def test_contours_lie_on_the_slices_they_refer_to() -> None:
    series = small_series()
    ds = structure_set(series, ellipsoids(series))
    heights = {str(h.SOPInstanceUID): float(h.ImagePositionPatient[2]) for h in series.headers}
    for roi in ds.ROIContourSequence:
        for contour in roi.ContourSequence:
            (image,) = contour.ContourImageSequence
            points = points_of(contour)
            assert set(points[:, 2]) == {heights[image.ReferencedSOPInstanceUID]}
            assert len(points) == contour.NumberOfContourPoints >= 3
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
    (frame,) = ds.ReferencedFrameOfReferenceSequence
    (source,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in source.ContourImageSequence] == list(heights)
    assert {frame.FrameOfReferenceUID, ds.FrameOfReferenceUID} == {series.frame_of_reference_uid}


def test_a_single_pixel_is_a_square_round_its_centre() -> None:
    series = small_series()
    labels = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    labels[3, 10, 20] = LUNG_LEFT.number
    ds = structure_set(series, Segmentation(labels, (segment(LUNG_LEFT),)))
    (contour,) = ds.ROIContourSequence[0].ContourSequence
    centre = (series.volume.affine @ (20, 10, 3, 1))[:3]
    points = points_of(contour)
    np.testing.assert_allclose(points.mean(axis=0), centre)
    np.testing.assert_allclose(abs(points - centre), [[4.0, 4.0, 0.0]] * 4)


def test_oblique_slices_carry_their_contours_in_their_own_plane() -> None:
    turn = np.array([[0.8, 0.0, -0.6], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    series = small_series(ImageOrientationPatient=[*turn[:, 0], *turn[:, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * (8.0, 8.0, 5.0)
    for index, header in enumerate(series.headers):
        header.ImagePositionPatient = (affine @ (0, 0, index, 1))[:3].tolist()
    series = replace(series, volume=replace(series.volume, affine=affine))
    found = ellipsoids(series)
    ds = structure_set(series, found)
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    index = [h.SOPInstanceUID for h in series.headers].index(
        contour.ContourImageSequence[0].ReferencedSOPInstanceUID
    )  # fmt: skip
    voxels = np.linalg.solve(affine, np.column_stack((points_of(contour), np.ones(contour.NumberOfContourPoints))).T)
    np.testing.assert_allclose(voxels[2], index, atol=1e-3)
    assert abs(np.abs(voxels[:2] % 1) - 0.5).max() < 1e-3


def test_separate_contours_give_a_hole_its_own_and_round_to_pixels() -> None:
    series = small_series()
    labels = np.zeros(series.volume.voxels_hu.shape, np.uint8)
    labels[3, 10:15, 20:25] = LUNG_LEFT.number
    labels[3, 12, 22] = 0
    found = Segmentation(labels, (segment(LUNG_LEFT),))
    stored = encode(series, found)
    kept = seg.decode_seg(stored, series, CARD)
    for style, contours in ((ContourStyle.KEYHOLE, 1), (ContourStyle.SEPARATE, 2)):
        ds = encode_rtstruct(provenance_of(series, UID), stored, kept, style)
        assert len(ds.ROIContourSequence[0].ContourSequence) == contours
    points = np.concatenate([points_of(contour) for contour in ds.ROIContourSequence[0].ContourSequence])
    voxels = np.linalg.solve(series.volume.affine, np.column_stack((points, np.ones(len(points)))).T)[:3].T
    x, y, z = np.rint(voxels).astype(int).T
    assert (kept.labels[z, y, x] > 0).all()
    assert describe(ContourStyle.KEYHOLE) != describe(ContourStyle.SEPARATE)


def test_a_contour_too_long_for_explicit_vr_is_kept_whole() -> None:
    series = small_series(256, 256, 2)
    labels = np.zeros((2, 256, 256), np.uint8)
    labels[0, ::2] = LUNG_LEFT.number
    labels[0, :, 0] = labels[0, :, 128::3] = LUNG_LEFT.number
    ds = structure_set(series, Segmentation(labels, (segment(LUNG_LEFT),)))
    (contour,) = ds.ROIContourSequence[0].ContourSequence
    assert 3 * contour.NumberOfContourPoints == len(contour.ContourData) > 65534 / 4
    assert ds.file_meta.TransferSyntaxUID.is_implicit_VR
    assert max(map(len, map(str, contour.ContourData))) <= 16


@pytest.mark.parametrize("origin", [(-128.0, -128.0), (-12345.678901, 98765.432109), (1e-7, -1e-7)])
def test_coordinates_are_decimal_strings_of_micrometres(origin: tuple[float, float]) -> None:
    series = small_series()
    for header in series.headers:
        header.ImagePositionPatient = [*origin, header.ImagePositionPatient[2]]
    ds = structure_set(series, ellipsoids(series))
    texts = [str(number) for roi in ds.ROIContourSequence for c in roi.ContourSequence for number in c.ContourData]
    assert all(re.fullmatch(r"-?\d+(\.\d{1,3})?", text) and len(text) <= 16 and text != "-0" for text in texts)


def test_a_rerun_gives_the_same_bytes() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    kept = seg.decode_seg(stored, series, CARD)

    def written() -> bytes:
        file = io.BytesIO()
        encode_rtstruct(provenance_of(series, UID), stored, kept).save_as(file, enforce_file_format=True)
        return file.getvalue()

    assert written() == written()


def test_without_a_structure_nothing_is_written() -> None:
    series = small_series()
    empty = Segmentation(np.zeros(series.volume.voxels_hu.shape, np.uint8), ())
    with pytest.raises(EncodingError):
        encode_rtstruct(provenance_of(series, UID), encode(series, ellipsoids(series)), empty)


def test_primary_names_fit_planning_systems_and_are_listed_in_the_docs() -> None:
    assert max(map(len, PRIMARY_NAMES.values())) <= 16
    meanings = {LEFT.value: "Left", RIGHT.value: "Right", BILATERAL.value: "Bilateral", None: "-"}
    rows = re.findall(r"^\| (\d+) \| (Left|Right|Bilateral|-) \| `(\w+)` \|$", page(), re.MULTILINE)
    assert {(code, side): name for code, side, name in rows} == {
        (code, meanings[side]): name for (code, side), name in PRIMARY_NAMES.items()
    }


def test_structures_of_the_catalogue_without_a_primary_name_are_listed_in_the_docs() -> None:
    table = resources.files("orthanc_plugin.catalog").joinpath("anatomy.csv").read_text().splitlines()
    unnamed = {
        row["name"]
        for row in csv.DictReader(table)
        if primary_name(Code(row["type"], "SCT", row["meaning"]), SIDES[row["modifier"]]) is None
    }
    told = re.search(r"No primary name: (.+?)\n\n", page(), re.DOTALL)
    assert told
    assert set(re.findall(r"`(\w+)`", told[1])) == unnamed


def page() -> str:
    return (ROOT / "docs" / "rtstruct.md").read_text()


def test_names_never_come_twice_and_fit_their_type() -> None:
    lung = segment(LUNG_LEFT)
    long = replace(lung, type=Code("1", "99X", "Thing"), label="a\\" + "b" * 62)
    named = [long, replace(long, number=9), lung, replace(lung, number=8), replace(lung, number=7)]
    names = roi_names(named)
    assert names[2:] == ("Lung_L", "Lung_L 2", "Lung_L 3")
    assert len(set(names)) == 5
    assert all(len(name) <= 64 and "\\" not in name for name in names)
    assert roi_names([Segment(1, "b", "Body", BODY.category, BODY.type, None, (0, 0, 0), (1,))]) == ("Body",)
