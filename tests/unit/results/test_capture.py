"""Pictures for archives that show no SEG: left stays left, words are burned in, and none of them is the patient's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.phantoms.dicom import PatientPosition, encode_phantom
from orthanc_plugin.phantoms.phantom import LABELS, make_phantom
from orthanc_plugin.results import seg
from orthanc_plugin.results.sc import drawing
from orthanc_plugin.results.sc.capture import encode_capture, pictures
from orthanc_plugin.series.read import read_series
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

PANEL, TOP = 512, 40
ALERT = (255, 200, 60)
TEST_MODEL = "TEST MODEL, NOT FOR PATIENTS. Research use, not for diagnosis"
PHANTOM = make_phantom((48, 48, 56), (6.0, 6.0, 6.0))


def phantom_series(position: PatientPosition) -> tuple[CtSeries, Segmentation]:
    """Read the phantom as a scanner sends it, and put its truth onto the volume by millimetres."""
    series = read_series(encode_phantom(PHANTOM, position=position))
    shape = series.volume.voxels_hu.shape
    index = np.indices(shape).reshape(3, -1)[::-1]
    place = series.volume.affine @ np.vstack([index, np.ones(index.shape[1])])
    x, y, z = np.rint(np.linalg.solve(PHANTOM.volume.affine, place))[:3].astype(int)
    labels = PHANTOM.labels[z, y, x].reshape(shape)
    labels[labels == LABELS["body"]] = 0
    kinds = {LUNG_LEFT, LUNG_RIGHT, BONE}
    kept = np.where(np.isin(labels, [label.number for label in kinds]), labels, 0).astype(np.uint8)
    return series, Segmentation(kept, tuple(segment(label) for label in (LUNG_LEFT, LUNG_RIGHT, BONE)))


def centre_of(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[float, float]:
    """Give row and column of the middle of all pixels of a colour, within the plane."""
    rows, columns = np.nonzero((image[TOP : TOP + PANEL, :PANEL] == colour).all(axis=2))
    return float(rows.mean()), float(columns.mean())


def letter_at(image: NDArray[np.uint8], edge: str) -> str:
    """Read the letter that is drawn at an edge of the plane: drawn once more, it changes the picture least."""
    middle, end = PANEL // 2, PANEL - 6
    corner, anchor = {
        "left": ((6, middle), "lm"), "right": ((end, middle), "rm"),
        "top": ((middle, 4), "mt"), "bottom": ((middle, end), "mb"),
    }[edge]  # fmt: skip
    plane = image[TOP : TOP + PANEL, :PANEL]
    changes = {}
    for letter in "RLAPHF":
        again = Image.fromarray(np.ascontiguousarray(plane))
        drawing_on, written = ImageDraw.Draw(again), drawing.font(14)
        drawing_on.text(corner, letter, ALERT, written, anchor=anchor, stroke_width=2, stroke_fill=0)
        changes[letter] = int(np.abs(np.asarray(again).astype(int) - plane).sum())
    best, second, *_ = sorted(changes, key=changes.__getitem__)
    assert changes[best] * 2 < changes[second], "no letter is drawn there"
    return best


def images_of(series: CtSeries, found: Segmentation, card: ModelCard = CARD) -> list[NDArray[np.uint8]]:
    return [np.asarray(picture.image) for picture in pictures(series, found, card)]


@pytest.mark.parametrize("position", PatientPosition)
def test_left_is_left_on_the_phantom_however_it_lay(position: PatientPosition) -> None:
    """The left lung is drawn toward the letter L, the spine toward P, and the head is up."""
    montage, *planes = images_of(*phantom_series(position))
    assert montage.shape[1] > PANEL
    *axial, coronal, sagittal = planes
    assert len(axial) == 6
    for image in axial:
        assert [letter_at(image, edge) for edge in ("left", "right", "top", "bottom")] == ["R", "L", "A", "P"]
    middle = axial[3]
    assert centre_of(middle, LUNG_LEFT.colour)[1] > PANEL / 2 > centre_of(middle, LUNG_RIGHT.colour)[1]
    assert centre_of(middle, BONE.colour)[0] > centre_of(middle, LUNG_LEFT.colour)[0]
    assert [letter_at(coronal, edge) for edge in ("left", "right", "top", "bottom")] == ["R", "L", "H", "F"]
    assert centre_of(coronal, LUNG_LEFT.colour)[1] > centre_of(coronal, LUNG_RIGHT.colour)[1]
    assert [letter_at(sagittal, edge) for edge in ("left", "right", "top", "bottom")] == ["A", "P", "H", "F"]
    assert centre_of(sagittal, BONE.colour)[1] > PANEL / 2


@pytest.fixture(scope="module")
def captured() -> list[Dataset]:
    return encoded(small_series(64, 64, 20))


def encoded(series: CtSeries) -> list[Dataset]:
    found = ellipsoids(series)
    stored = encode(series, found)
    kept = seg.decode_seg(stored, series, CARD)
    return [
        encode_capture(provenance_of(series, f"2.25.770{number}"), stored, picture, number, "2.25.7701")
        for number, picture in enumerate(pictures(series, kept, CARD), 1)
    ]


def test_the_pictures_are_one_series_of_single_frames_that_no_archive_refuses(captured: Sequence[Dataset]) -> None:
    assert [ds.InstanceNumber for ds in captured] == list(range(1, len(captured) + 1))
    assert len({ds.SOPInstanceUID for ds in captured}) == len(captured) == 9
    assert len({(ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription) for ds in captured}) == 1
    for ds in captured:
        assert ds.SOPClassUID == SecondaryCaptureImageStorage
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (ds.PhotometricInterpretation, ds.BitsAllocated, "NumberOfFrames" in ds) == ("RGB", 8, False)


def test_each_picture_tells_what_it_shows(captured: Sequence[Dataset]) -> None:
    montage, *axial, coronal, sagittal = captured
    assert [list(ds.PatientOrientation) for ds in (axial[0], coronal, sagittal)] == [["L", "P"], ["L", "F"], ["P", "F"]]
    assert not montage.PatientOrientation
    for ds in axial:
        (of, stored) = ds.SourceImageSequence
        assert stored.ReferencedSOPInstanceUID == "2.25.1001"
        assert str(of.ReferencedSOPInstanceUID).startswith("2.25.300")
    assert {len(ds.SourceImageSequence) for ds in (montage, coronal, sagittal)} == {21}


@pytest.mark.parametrize(("source", "said"), [(None, None), ("NO", "NO"), ("YES", "YES"), ("MAYBE", None)])
def test_only_what_shows_a_profile_may_show_a_face(source: str | None, said: str | None) -> None:
    montage, *axial, coronal, sagittal = encoded(small_series(RecognizableVisualFeatures=source))
    assert {ds.RecognizableVisualFeatures for ds in (*axial, coronal)} == {"NO"}
    assert {ds.get("RecognizableVisualFeatures") for ds in (montage, sagittal)} == {said}


def test_no_text_of_the_patient_is_drawn(captured: Sequence[Dataset]) -> None:
    renamed = encoded(small_series(64, 64, 20, PatientName="Other^Name", PatientID="P2", StudyDate="19990101"))
    assert [ds.PixelData for ds in renamed] == [ds.PixelData for ds in captured]
    assert {ds.BurnedInAnnotation for ds in captured} == {"NO"}


def test_research_use_is_burned_into_every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(monkeypatch)
    series = small_series()
    test_model = replace(CARD, test_model=True)
    for card, said in ((CARD, "Software result, not verified, research use only"), (test_model, TEST_MODEL)):
        for _ in pictures(series, ellipsoids(series), card):
            assert said in texts
            assert any("not verified by a physician" in text for text in texts)
            texts.clear()


def test_a_long_name_of_a_test_model_does_not_push_the_warning_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are burned in only where they fit: the warning has a line of its own if the name is long."""
    texts = drawn_texts(monkeypatch)
    series, card = small_series(), replace(CARD, test_model=True, name="m" * 64)
    _, plane, *_ = pictures(series, ellipsoids(series), card)
    (title,) = {text for text in texts if text.startswith("mmm") and "…" in text}
    assert TEST_MODEL in texts
    for text in (TEST_MODEL, title):
        assert drawing.font(14).getlength(text) <= plane.image.width


def test_the_legend_of_a_plane_has_its_structures_and_says_how_many_more() -> None:
    series = small_series(96, 96)
    found = ellipsoids(series)
    (_, *planes) = images_of(series, found)
    for image in planes:
        legend = {tuple(colour) for colour in image[TOP : TOP + PANEL, PANEL + 4 :].reshape(-1, 3).tolist()}
        outlines = {tuple(colour) for colour in image[TOP : TOP + PANEL, :PANEL].reshape(-1, 3).tolist()}
        colours = {s.colour for s in found.segments}
        assert outlines & colours == legend & colours


def test_a_hundred_structures_on_one_plane_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(monkeypatch)
    series = small_series()
    labels = np.arange(series.volume.voxels_hu.size, dtype=np.int64).reshape(series.volume.voxels_hu.shape) % 105
    many = tuple(
        replace(segment(LUNG_LEFT), number=n, covers=(n,), label=f"{n} " + "long " * 12) for n in range(1, 105)
    )
    images = images_of(series, Segmentation(labels.astype(np.uint8), many))
    assert "and 80 more" in texts
    assert {image.shape[:2] for image in images[1:]} == {images[1].shape[:2]}


def test_without_a_structure_there_is_no_picture() -> None:
    series = small_series()
    with pytest.raises(EncodingError):
        next(pictures(series, Segmentation(np.zeros(series.volume.voxels_hu.shape, np.uint8), ()), CARD))
