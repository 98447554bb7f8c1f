"""Previews show left on the right, head up, coloured outlines, a legend, and no text about the patient."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import Affine, CtSeries, Volume
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results import seg
from orthanc_plugin.results.sc.planes import Plane, planes
from orthanc_plugin.results.sc.preview import encode_preview, preview_png
from tests.support.cases.results_case import (
    BONE,
    CARD,
    LUNG_LEFT,
    LUNG_RIGHT,
    ellipsoids,
    encode,
    provenance_of,
    segment,
    small_series,
)
from tests.support.fakes.drawn import drawn_texts

FLIPS = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]


def scene(affine: Affine, shape: tuple[int, int, int] = (20, 30, 40)) -> tuple[Volume, Segmentation]:
    """Put a left lung on the left, a right lung on the right, and bone at the back toward the feet, in LPS."""
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    index = np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1)
    place = (affine @ index)[:3]
    left, back, up = (place - place.mean(axis=1, keepdims=True)).reshape(3, *shape)
    labels = np.zeros(shape, np.uint8)
    labels[(left > 5) & (back < 5)] = LUNG_LEFT.number
    labels[(left < -5) & (back < 5)] = LUNG_RIGHT.number
    labels[(back > 8) & (up < 0)] = BONE.number
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    volume = Volume(np.zeros(shape, np.float32), (float(spacing[2]), float(spacing[1]), float(spacing[0])), affine)
    return volume, Segmentation(labels, tuple(segment(label) for label in (LUNG_LEFT, LUNG_RIGHT, BONE)))


def column_of(plane: Plane, number: int) -> float:
    return float(np.nonzero(plane.labels == number)[1].mean())


def row_of(plane: Plane, number: int) -> float:
    return float(np.nonzero(plane.labels == number)[0].mean())


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 2, 0)], ids=["axial", "coronal", "sagittal"])
def test_left_is_on_the_right_and_the_head_is_up_however_the_patient_lay(
    flips: tuple[int, int, int], axes: tuple[int, int, int]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, axes] * flips
    found = list(planes(*scene(affine)))
    axial = [plane for plane in found if plane.name == "axial"]
    assert [plane.index for plane in axial] == sorted((plane.index for plane in axial), reverse=True)
    low = axial[-1]
    assert low.edges == ("R", "L", "A", "P")
    assert column_of(low, LUNG_LEFT.number) > column_of(low, LUNG_RIGHT.number)
    assert row_of(low, BONE.number) > row_of(low, LUNG_LEFT.number)
    coronal, sagittal = found[-2:]
    assert (coronal.edges, sagittal.edges) == (("R", "L", "H", "F"), ("A", "P", "H", "F"))
    assert column_of(coronal, LUNG_LEFT.number) > column_of(coronal, LUNG_RIGHT.number)
    assert row_of(sagittal, BONE.number) > sagittal.labels.shape[0] / 2
    assert column_of(sagittal, BONE.number) > sagittal.labels.shape[1] / 2


def test_axial_planes_are_spread_over_what_was_found_without_the_body() -> None:
    series = small_series(slices=40)
    found = ellipsoids(series, BONE)
    labels = np.where(np.arange(40)[:, None, None] < 20, found.labels, np.minimum(found.labels, 1)).astype(np.uint8)
    shown = [plane.index for plane in planes(series.volume, replace(found, labels=labels)) if plane.name == "axial"]
    assert len(shown) == 6
    assert max(shown) < 20


def test_a_thin_series_shows_the_planes_it_has() -> None:
    series = small_series(slices=2)
    assert [plane.name for plane in planes(series.volume, ellipsoids(series))] == ["axial"] * 2 + [
        "coronal",
        "sagittal",
    ]


def test_a_single_slice_has_a_preview() -> None:
    volume, found = scene(np.eye(4), (1, 30, 40))
    assert [plane.name for plane in planes(volume, found)] == ["axial", "coronal", "sagittal"]
    assert picture(volume, found).shape[2] == 3


@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (1.0, 3.0, 1.0), (1.0, 1.0, 3.0)])
def test_a_panel_has_the_aspect_of_the_patient(spacing: tuple[float, float, float]) -> None:
    """A cube of 60 mm is a square in every panel, whatever the size of its voxels."""
    shape = tuple(int(60 / mm) for mm in spacing)
    affine = np.diag((*spacing[::-1], 1.0))
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(size // 4, size - size // 4) for size in shape)] = LUNG_LEFT.number
    image = picture(
        Volume(np.full(shape, -1000, np.float32), spacing, affine), Segmentation(labels, (segment(LUNG_LEFT),))
    )
    panels = [image[40 + row * 324 :, column * 324 :][:320, :320] for row in range(2) for column in range(4)]
    for panel in panels:
        rows, columns = np.nonzero((panel == LUNG_LEFT.colour).all(axis=2))
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 320 * max(spacing) / 60 / 2 + 2
        assert abs(np.ptp(rows) - 160) <= 320 * max(spacing) / 60 + 2


def picture(volume: Volume, found: Segmentation, card: ModelCard = CARD) -> NDArray[np.uint8]:
    series = replace(small_series(slices=len(volume.voxels_hu)), volume=volume)
    return np.asarray(Image.open(io.BytesIO(preview_png(series, found, card))))


def test_outlines_have_the_colours_of_the_segments_and_the_legend_has_a_row_for_each() -> None:
    series = small_series()
    found = ellipsoids(series)
    image = picture(series.volume, found)
    for part in (image[: 2 * 324], image[2 * 324 + 40 :]):
        shown = {tuple(colour) for colour in part.reshape(-1, 3).tolist()}
        assert {s.colour for s in found.segments} <= shown


def texts_drawn(monkeypatch: pytest.MonkeyPatch, series: CtSeries, card: ModelCard = CARD) -> list[str]:
    """Draw the preview of a series, and give every text that was drawn."""
    drawn = drawn_texts(monkeypatch)
    preview_png(series, ellipsoids(series), card)
    return drawn


def test_a_plane_is_named_as_in_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """By InstanceNumber and position: a series that begins at the head has its last instance at the feet."""
    series = small_series()
    for index, header in enumerate(series.headers):
        header.InstanceNumber = 100 - index
    drawn = texts_drawn(monkeypatch, series)
    assert "axial, instance 95\nz -275.0 mm" in drawn
    assert [text for text in drawn if text.startswith(("coronal, ", "sagittal, "))] == []
    (coronal,) = {text for text in drawn if text.startswith("coronal\ny ")}
    assert -128 <= float(coronal.split()[2]) <= 128


def test_the_limits_of_the_model_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(CARD, test_model=True, intended_use="Phantoms.", limits=("No lung below 100 mL.",))
    drawn = texts_drawn(monkeypatch, small_series(), card)
    assert drawn[0].startswith("TEST MODEL, NOT FOR PATIENTS")
    assert {"Intended use: Phantoms.", "Limitations: No lung below 100 mL."} <= set(drawn)
    plain = texts_drawn(monkeypatch, small_series())
    assert plain[0] == "Software result, not verified, research use only"


def test_the_window_follows_what_was_found() -> None:
    series = small_series()
    found = ellipsoids(series)
    soft = picture(series.volume, found)
    air = replace(series.volume, voxels_hu=np.where(found.labels > 1, -800, 0).astype(np.float32))
    lung = picture(air, found)
    assert soft[200, 160].max() != lung[200, 160].max()
    assert not np.array_equal(soft[:40], lung[:40])


def test_a_hundred_labels_of_any_length_fit() -> None:
    series = small_series()
    labels = np.arange(series.volume.voxels_hu.size, dtype=np.int64).reshape(series.volume.voxels_hu.shape) % 105
    names = tuple(
        replace(segment(LUNG_LEFT), number=n, covers=(n,), label=f"{n} " + "long " * 12) for n in range(1, 105)
    )
    image = picture(series.volume, Segmentation(labels.astype(np.uint8), names))
    assert image.shape[1] == 1292
    assert image.shape[0] > 2 * 324 + 26 * 20


def test_a_preview_is_a_secondary_capture_without_names_of_patients() -> None:
    series = small_series()
    stored = encode(series, ellipsoids(series))
    kept = seg.decode_seg(stored, series, CARD)

    def encoded(**attributes: object) -> Dataset:
        other = small_series(**attributes)  # type: ignore[arg-type]
        return encode_preview(provenance_of(other, "2.25.1008"), stored, kept)

    ds, renamed = encoded(), encoded(PatientName="Other^Name", PatientID="P2", StudyDate="19990101")
    assert ds.PixelData == renamed.PixelData
    assert ds == encoded()
    assert (ds.BurnedInAnnotation, ds.SamplesPerPixel) == ("NO", 3)
    assert ds.PatientName == "Doe^Jane"
    assert "not verified, research use only" in ds.DerivationDescription
    assert ds.ImageComments.splitlines()[0].startswith("Research use only, not for diagnosis. Generated by software")
    sources = [item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence]
    assert sources == [*series.identity.sop_instance_uids, stored.SOPInstanceUID]


def test_without_a_structure_there_is_no_preview() -> None:
    series = small_series()
    with pytest.raises(EncodingError):
        preview_png(series, Segmentation(np.zeros(series.volume.voxels_hu.shape, np.uint8), ()), CARD)
