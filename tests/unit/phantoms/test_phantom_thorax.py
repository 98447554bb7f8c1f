"""The thorax phantom has organs in their places and another patient for every seed; the old phantom is unchanged."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import pytest

from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from orthanc_plugin.phantoms.thorax import ORGANS, make_thorax_phantom

SEEDS = range(3)
TEXTBOOK_ML = {
    "esophagus": (25, 80),
    "heart": (300, 900),
    "trachea": (15, 60),
    "aorta": (70, 250),
    "lung_left": (700, 3000),
    "lung_right": (800, 3500),
}


@cache
def phantom(seed: int) -> Phantom:
    return make_thorax_phantom((60, 64, 64), seed=seed)


def centre_mm(found: Phantom, organ: str) -> np.ndarray:
    """Compute the centre of an organ, (x, y, z) in LPS millimetres."""
    z, y, x = np.argwhere(found.labels == ORGANS[organ]).mean(axis=0)
    return np.asarray((found.volume.affine @ [x, y, z, 1])[:3])


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_the_volumes_of_adults(seed: int) -> None:
    for organ, (low, high) in TEXTBOOK_ML.items():
        assert low < phantom(seed).volumes_ml[organ] < high, organ


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_where_anatomy_has_them(seed: int) -> None:
    """LPS: x grows to the left, y to the back, z to the head."""
    at = {organ: centre_mm(phantom(seed), organ) for organ in ORGANS}
    assert at["lung_right"][0] < at["heart"][0] < at["lung_left"][0]
    assert at["heart"][0] > at["trachea"][0], "the heart lies left of the midline"
    assert at["heart"][2] < at["trachea"][2]
    assert at["esophagus"][1] > at["heart"][1]
    below = slice_of(phantom(seed), -40.0)
    assert below["aorta"][0] > below["esophagus"][0], "the descending aorta is on the left of the esophagus"
    assert below["aorta"][1] > below["esophagus"][1] > below["heart"][1]
    above = slice_of(phantom(seed), 85.0)
    assert above["esophagus"][1] > above["trachea"][1], "the esophagus is behind the trachea"


def slice_of(found: Phantom, z_mm: float) -> dict[str, tuple[float, float]]:
    """Compute the centre (x, y) of each organ in the slice at that height."""
    index = round((z_mm - found.volume.affine[2, 3]) / found.volume.spacing_mm[0])
    points = {organ: np.argwhere(found.labels[index] == number) for organ, number in ORGANS.items()}
    return {organ: (xy[:, 1].mean(), xy[:, 0].mean()) for organ, xy in points.items() if len(xy)}


def test_the_arch_of_the_aorta_passes_over_the_left_main_bronchus() -> None:
    found = phantom(0)
    aorta = np.argwhere(found.labels == ORGANS["aorta"])
    arch_mm = found.volume.affine[2, 3] + aorta[:, 0].max() * found.volume.spacing_mm[0]
    carina = (
        found.volume.affine[2, 3]
        + np.argwhere(found.labels == ORGANS["trachea"])[:, 0].min() * found.volume.spacing_mm[0]
    )
    assert arch_mm > carina + 20


def test_organs_can_be_told_by_their_hounsfield_units() -> None:
    for seed in SEEDS:
        hu, labels = phantom(seed).volume.voxels_hu, phantom(seed).labels
        typical = {organ: float(np.median(hu[labels == number])) for organ, number in ORGANS.items()}
        assert typical["trachea"] < -700
        assert typical["lung_left"] < -700
        assert typical["heart"] > 20
        assert typical["aorta"] > 20


def test_every_seed_is_another_patient_and_the_same_one_each_time() -> None:
    volumes = [phantom(seed).volumes_ml["heart"] for seed in SEEDS]
    assert len(set(volumes)) == len(SEEDS)
    again = make_thorax_phantom((60, 64, 64), seed=1)
    assert np.array_equal(again.volume.voxels_hu, phantom(1).volume.voxels_hu)
    assert np.array_equal(again.labels, phantom(1).labels)


def test_another_spacing_shows_more_of_the_same_patient() -> None:
    wide = make_thorax_phantom((50, 56, 56), (6.5, 7.0, 7.0), seed=1)
    for organ in ("heart", "lung_left", "lung_right"):
        assert wide.volumes_ml[organ] == pytest.approx(phantom(1).volumes_ml[organ], rel=0.1)


def test_it_is_another_series_than_the_chest_phantom_of_the_same_seed() -> None:
    small = (4, 16, 16)
    chest, thorax = make_phantom(small, (5, 5, 5)), make_thorax_phantom(small, (5, 5, 5))
    assert encode_phantom(chest)[0].SeriesInstanceUID != encode_phantom(thorax)[0].SeriesInstanceUID


def test_the_chest_phantom_and_its_uids_are_what_they_were() -> None:
    """Voxels, labels and SOPInstanceUID are those from before there were organs: stored results refer to them."""
    chest = make_phantom((56, 64, 64), seed=3)
    content = chest.volume.voxels_hu.tobytes() + chest.labels.tobytes() + chest.volume.affine.tobytes()
    assert hashlib.sha256(content).hexdigest() == "2dff62d28801660bcb6c430aaeee8d6882ebe3429349f7e83cec91d6ba8539d5"
    assert encode_phantom(chest)[0].SOPInstanceUID == "2.25.149823719781200190845703304687568429098"
