"""The chest model where a lung is missing and where the edge of the image lies at the patient or cuts a lung."""

from __future__ import annotations

import numpy as np
import pytest

from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import Volume
from tests.integration.test_chest_engine import (
    AIRWAY,
    LEFT,
    RIGHT,
    dice,
    engine,
    keys,
    phantom,
    segmented,
    volume_of,
)
from tests.support.cases.odd_chests import (
    AIR_HU,
    cropped,
    filled,
    half_filled_at_edge,
    in_circle,
    with_voxels,
    without_body,
)

SIDES = {"left": (LEFT, RIGHT), "right": (RIGHT, LEFT)}
CUT = "cut by the edge of the image"


def told(found: Segmentation) -> str:
    return "; ".join(found.notes)


def one_lung(found: Segmentation, side: str) -> bool:
    return [key for key in keys(found) if key.startswith("lung")] == [f"lung_{side}"]


def at_edge(volume: Volume) -> Volume:
    """Crop the phantom so that its body reaches both sides of the image while its lungs stay whole."""
    body = phantom().labels > 0
    x = np.flatnonzero(body.any(axis=(0, 1)))
    lungs = np.flatnonzero(np.isin(phantom().labels, (LEFT, RIGHT)).any(axis=(0, 1)))
    right = (x[0] + lungs[0]) // 2 + 3
    left = volume.voxels_hu.shape[2] - 1 - ((x[-1] + lungs[-1]) // 2 - 3)
    return cropped(volume, int(left), int(right))


@pytest.mark.real_ct
def test_right_lung_filled_and_body_at_the_edge_keeps_the_left_lung() -> None:
    name = "cip_ct64/dicom"
    found = engine().segment(half_filled_at_edge(volume_of(name)))
    assert one_lung(found, "left")
    assert dice(found.labels == LEFT, segmented(name).labels[:, :, 4:-4] == LEFT) > 0.99
    assert "only the left lung was found" in found.notes
    assert CUT not in told(found)


@pytest.mark.real_ct
def test_lungs_that_only_touch_the_edge_stay_with_a_note() -> None:
    name = "cip_ct64/dicom"
    found = engine().segment(cropped(volume_of(name), 4, 4))
    for number in (LEFT, RIGHT, AIRWAY):
        assert dice(found.labels == number, segmented(name).labels[:, :, 4:-4] == number) > 0.97
    assert "the left lung touches the edge of the image and may be incomplete" in found.notes


@pytest.mark.real_ct
@pytest.mark.parametrize(
    ("rows", "columns"),
    [((2, 62), (2, 62)), ((3, 62), (3, 62)), ((2, 64), (2, 62)), ((0, 64), (0, 62)), ((0, 64), (3, 64))],
)
def test_an_image_that_shows_both_lungs_whole_keeps_them(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """The experts' lungs lie in rows 9 to 51 and columns 4 to 60; the wall beside them is at times part of a voxel."""
    name, volume = "cip_ct64/dicom", volume_of("cip_ct64/dicom")
    inside = (slice(None), slice(*rows), slice(*columns))
    found = engine().segment(with_voxels(volume, volume.voxels_hu[inside]))
    for number, least in ((LEFT, 0.998), (RIGHT, 0.998), (AIRWAY, 0.97)):
        assert dice(found.labels == number, segmented(name).labels[inside] == number) > least
    assert found.notes == ()


@pytest.mark.real_ct
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_cut_lung_does_not_take_the_other_one_with_it(side: str) -> None:
    name, (other, _) = "cip_ct64/dicom", SIDES["right" if side == "left" else "left"]
    cut = {side: 12}
    found = engine().segment(cropped(volume_of(name), **cut))
    kept = segmented(name).labels[:, :, cut.get("right", 0) : 64 - cut.get("left", 0)]
    assert one_lung(found, "right" if side == "left" else "left")
    assert dice(found.labels == other, kept == other) > 0.98
    assert dice(found.labels == AIRWAY, kept == AIRWAY) > 0.9
    assert f"the {side} lung is {CUT}: not segmented" in found.notes


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("hu", [20.0, AIR_HU], ids=["fluid", "pneumothorax"])
def test_missing_lung_at_the_edge_keeps_the_other_lung_and_the_airway(side: str, hu: float) -> None:
    made, (kept, lost) = phantom(), SIDES[side]
    found = engine().segment(at_edge(filled(made.volume, made.labels == lost, hu)))
    truth = at_edge(Volume(made.labels.astype(np.float32), made.volume.spacing_mm, made.volume.affine)).voxels_hu
    assert one_lung(found, side)
    assert dice(found.labels == kept, truth == kept) > 0.97
    assert dice(found.labels == AIRWAY, truth == AIRWAY) > 0.9
    assert f"only the {side} lung was found" in found.notes
    assert CUT not in told(found)


@pytest.mark.parametrize("side", ["left", "right"])
def test_lung_at_the_reconstruction_circle_is_withheld_and_the_other_stays(side: str) -> None:
    made, (kept, _) = phantom(), SIDES["right" if side == "left" else "left"]
    size = made.labels.shape[2]
    centre = (size / 2, size / 2 + (-1 if side == "left" else 1) * 0.16 * size)
    found = engine().segment(in_circle(made.volume, 0.46 * size, centre))
    assert one_lung(found, "right" if side == "left" else "left")
    assert dice(found.labels == kept, made.labels == kept) > 0.95
    assert f"the {side} lung is {CUT}: not segmented" in found.notes


def test_a_couch_is_no_chest() -> None:
    found = engine().segment(without_body(phantom().volume))
    assert not any(key.startswith(("lung", "airway")) for key in keys(found))
    assert CUT not in told(found)
