"""Pictures of a scan: each structure on its side of the patient, however the slices are stored."""

from __future__ import annotations

import io
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.sc.scan import LARGEST, SMALLEST, Scan, make_scan
from tests.support.cases.results_case import CARD, ellipsoids, encode, small_series

LEFT, RIGHT, AIRWAY, BONE = "Left lung", "Right lung", "Trachea and main bronchi", "Bone"


@pytest.fixture(scope="module")
def stored() -> Dataset:
    series = small_series()
    return encode(series, ellipsoids(series))


@pytest.fixture(scope="module")
def scan(stored: Dataset) -> Scan:
    return make_scan(small_series(), [stored])


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def drawn(scan: Scan, plane: str, label: str, index: int | None = None) -> tuple[float, float]:
    """Middle of the outline of one structure, as parts of height and width of the picture."""
    hidden = {structure.key for structure in scan.structures if structure.label != label}
    at = next(view.best for view in scan.planes if view.name == plane) if index is None else index
    picture, plain = (pixels(scan.png(plane, at, "wide", without)) for without in (hidden, None))
    rows, columns = np.nonzero((picture != plain).any(axis=2))
    assert rows.size, f"{label} has no outline"
    return float(rows.mean() / picture.shape[0]), float(columns.mean() / picture.shape[1])


def test_left_is_on_the_right_the_head_at_the_top_and_the_back_at_the_bottom(scan: Scan) -> None:
    for plane in ("axial", "coronal"):
        assert drawn(scan, plane, LEFT)[1] > 0.6
        assert drawn(scan, plane, RIGHT)[1] < 0.4
    assert drawn(scan, "axial", BONE)[0] > 0.6
    assert drawn(scan, "sagittal", BONE, 16)[1] > 0.6
    assert drawn(scan, "coronal", AIRWAY, 16)[0] < 0.5


def test_structures_name_their_model(stored: Dataset, scan: Scan) -> None:
    assert {structure.model for structure in scan.structures} == {CARD.name}
    bare = deepcopy(stored)
    for item in bare.SegmentSequence:
        del item.SegmentationAlgorithmIdentificationSequence
    (model,) = {structure.model for structure in make_scan(small_series(), [bare]).structures}
    assert model == stored.SegmentSequence[1].SegmentAlgorithmName


def test_what_two_models_found_has_two_colours(stored: Dataset, scan: Scan) -> None:
    other = deepcopy(stored)
    other.SOPInstanceUID = "2.25.9"
    both = make_scan(small_series(), [stored, other]).structures
    assert [structure.colour for structure in both[: len(both) // 2]] == [one.colour for one in scan.structures]
    assert len({structure.colour for structure in both}) == len(both)


@pytest.mark.parametrize("mirrored", [(1,), (2,), (1, 2)])
def test_a_patient_who_lay_otherwise_is_shown_the_same_way(scan: Scan, mirrored: tuple[int, ...]) -> None:
    """Feet first or prone: rows and columns run the other way, and the affine says so."""
    series, segmentation = small_series(), ellipsoids(small_series())
    affine = series.volume.affine.copy()
    for axis in mirrored:  # of (z, y, x)
        column = 2 - axis
        affine[:3, 3] += affine[:3, column] * (segmentation.labels.shape[axis] - 1)
        affine[:3, column] *= -1
    turned = replace(series, volume=replace(series.volume, affine=affine))
    flipped = replace(segmentation, labels=np.ascontiguousarray(np.flip(segmentation.labels, mirrored)))
    other = make_scan(turned, [encode(turned, flipped)])
    for plane, label in (("axial", LEFT), ("axial", BONE), ("coronal", AIRWAY), ("sagittal", BONE)):
        index = None if plane == "axial" else 16
        assert drawn(other, plane, label, index) == pytest.approx(drawn(scan, plane, label, index), abs=0.04)
    assert [view.at_mm[0] < view.at_mm[-1] for view in other.planes] == [True, True, True]


def test_planes_say_where_they_lie(scan: Scan) -> None:
    axial, coronal, sagittal = scan.planes
    assert (axial.count, axial.at_mm[0], axial.at_mm[-1]) == (12, -300.0, -245.0)
    assert (coronal.count, coronal.at_mm[0], sagittal.at_mm[-1]) == (32, -128.0, 120.0)
    assert scan.slice_from_feet(3) == 3


def test_pictures_have_square_pixels_and_a_useful_size(scan: Scan) -> None:
    axial, coronal, _ = scan.planes
    assert (axial.width, axial.height) == (SMALLEST, SMALLEST)
    assert coronal.width / coronal.height == pytest.approx(32 * 8 / (12 * 5), rel=0.01)
    assert all(SMALLEST <= max(view.width, view.height) <= LARGEST for view in scan.planes)


def test_windows_and_outlines_can_be_chosen(scan: Scan) -> None:
    water = {window: int(pixels(scan.png("axial", 5, window, None))[0, 0, 0]) for window in ("wide", "bone", "lung")}
    assert water == {"wide": 100, "bone": 55, "lung": 180}
    plain, outlined = (pixels(scan.png("axial", 5, "wide", hidden)) for hidden in (None, ()))
    assert np.ptp(plain.astype(int), axis=2).max() == 0
    assert np.ptp(outlined.astype(int), axis=2).max() > 50
    everything = {structure.key for structure in scan.structures}
    assert np.array_equal(pixels(scan.png("axial", 5, "wide", everything)), plain)


@pytest.mark.parametrize(
    ("plane", "index", "window"), [("oblique", 0, "wide"), ("axial", 12, "wide"), ("axial", 0, "x")]
)
def test_what_cannot_be_drawn_is_refused(scan: Scan, plane: str, index: int, window: str) -> None:
    with pytest.raises(LookupError):
        scan.png(plane, index, window)


def test_a_series_without_segmentation_is_drawn_from_its_middle() -> None:
    plain = make_scan(small_series(), [])
    assert [view.best for view in plain.planes] == [6, 16, 16]
    assert plain.png("axial", 6, "wide").startswith(b"\x89PNG")


def test_colours_and_names_are_those_of_the_segmentation(scan: Scan, stored: Dataset) -> None:
    assert [structure.label for structure in scan.structures] == [str(i.SegmentLabel) for i in stored.SegmentSequence]
    left = next(structure for structure in scan.structures if structure.label == LEFT)
    assert left.colour == pytest.approx((60, 140, 220), abs=4)
    assert [s.label for s in scan.structures if s.surrounds] == ["Body outside the other segments"]


def test_a_segmentation_of_another_series_is_refused(stored: Dataset) -> None:
    other: CtSeries = small_series(slices=6)
    with pytest.raises(Exception, match="names no slice"):
        make_scan(replace(other, headers=other.headers[:6]), [stored])
