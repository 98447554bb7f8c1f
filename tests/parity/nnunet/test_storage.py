"""One patient stored head first, feet first, prone, backward and obliquely has the same organs in the same places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage
from scipy.spatial.transform import Rotation

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.dicom import PatientPosition, StorageOrder, encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom
from orthanc_plugin.phantoms.thorax import ORGANS, make_thorax_phantom
from orthanc_plugin.series.read import read_series
from tests.parity.nnunet.cts import dice

STORED = [
    (PatientPosition.FFS, StorageOrder.SCANNED),
    (PatientPosition.HFS, StorageOrder.REVERSED),
    (PatientPosition.HFP, StorageOrder.SCANNED),
    (PatientPosition.FFP, StorageOrder.SHUFFLED),
]
OBLIQUE_DEGREES = (7.0, -5.0, 6.0)
LARGE = [ORGANS[key] for key in ("heart", "aorta", "lung_left", "lung_right")]


@pytest.fixture(scope="module")
def engine() -> NnunetEngine:
    return NnunetEngine(find_model("thorax_standin", None), Provider.CPU)


@pytest.fixture(scope="module")
def patient() -> Phantom:
    return make_thorax_phantom((72, 96, 96), seed=1_000_001)


@pytest.fixture(scope="module")
def head_first(engine: NnunetEngine, patient: Phantom) -> Labels:
    """Labels of the usual storage, which are the patient's organs, each on its own side."""
    labels = engine.segment(read_series(encode_phantom(patient)).volume).labels
    assert dice(labels, patient.labels, LARGE) > 0.8
    return labels


def sampled(array: NDArray[np.generic], grid: Volume, wanted: Volume, order: int, outside: float) -> np.ndarray:
    """What lies on `grid`, at the voxel centres of `wanted`."""
    way = np.linalg.inv(grid.affine) @ wanted.affine
    turned = way[:3, :3][::-1, ::-1]  # of (z, y, x) indices
    return ndimage.affine_transform(
        array, turned, way[:3, 3][::-1], wanted.voxels_hu.shape, order=order, mode="constant", cval=outside
    )


def oblique(patient: Phantom) -> tuple[Phantom, list[Dataset]]:
    """The same patient on a grid that is turned about his middle."""
    volume, turn = patient.volume, np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", OBLIQUE_DEGREES, degrees=True).as_matrix()
    wanted = replace(volume, affine=turn @ volume.affine)
    voxels = np.rint(sampled(volume.voxels_hu, volume, wanted, 1, -1000.0)).astype(np.float32)
    stored = replace(patient, volume=replace(wanted, voxels_hu=voxels))
    instances = encode_phantom(stored, uid_seed="oblique")
    for ds in instances:
        ds.ImageOrientationPatient = [f"{value:.9f}" for value in (*turn[:3, 0], *turn[:3, 1])]
    return stored, list(instances)


@pytest.mark.parametrize(("position", "order"), STORED)
def test_the_storage_of_a_series_does_not_move_organs(
    engine: NnunetEngine, patient: Phantom, head_first: Labels, position: PatientPosition, order: StorageOrder
) -> None:
    volume = read_series(encode_phantom(patient, position=position, order=order)).volume
    found = engine.segment(volume).labels
    prone = position in (PatientPosition.HFP, PatientPosition.FFP)
    assert (volume.affine[0, 0] < 0) == prone
    np.testing.assert_array_equal(sampled(found, volume, patient.volume, 0, 0), head_first)


def test_an_oblique_series_has_the_same_organs_in_the_same_places(
    engine: NnunetEngine, patient: Phantom, head_first: Labels
) -> None:
    stored, instances = oblique(patient)
    volume = read_series(instances).volume
    np.testing.assert_allclose(volume.affine, stored.volume.affine, atol=1e-3)
    found = sampled(engine.segment(volume).labels, volume, patient.volume, 0, 0)
    seen = sampled(np.ones(volume.voxels_hu.shape, np.uint8), volume, patient.volume, 0, 0) > 0
    assert dice(found[seen], head_first[seen], LARGE) > 0.85
    assert dice(found[seen], patient.labels[seen], LARGE) > 0.8
