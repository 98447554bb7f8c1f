"""The chest model on a phantom and on real CT: right structures on the right side, or none and a note.

The bounds are what was measured (docs/models/chest_structures.md), with room for other machines.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.inference.engine import SegmentationEngine, open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from tests.support.cases.realct import real_ct

LEFT, RIGHT, AIRWAY, BONE = 2, 3, 4, 5


@cache
def engine() -> SegmentationEngine:
    return open_engine(find_model("chest_structures", None), Provider.CPU)


@cache
def volume_of(name: str) -> Volume:
    """A volume straight from the files: the engine is under test here, not the loader."""
    files = [pydicom.dcmread(path, force=True) for path in sorted(Path(real_ct(name)).iterdir())]
    slices = [ds for ds in files if "ImagePositionPatient" in ds]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    voxels = np.stack([ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept) for ds in slices])
    first, last = (np.array(ds.ImagePositionPatient, float) for ds in (slices[0], slices[-1]))
    rows, columns = (float(mm) for mm in slices[0].PixelSpacing)
    step = (last - first) / (len(slices) - 1)
    cosines = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3] = np.column_stack([cosines[0] * columns, cosines[1] * rows, step, first])
    return Volume(voxels.astype(np.float32), (float(np.linalg.norm(step)), rows, columns), affine)


@cache
def segmented(name: str) -> Segmentation:
    return engine().segment(volume_of(name))


@cache
def phantom() -> Phantom:
    return make_phantom((100, 128, 128))


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def volume_ml(segmentation: Segmentation, volume: Volume, key: str) -> float:
    segment = segmentation.segment(key)
    return 0.0 if segment is None else float(segmentation.mask(segment).sum()) * volume.voxel_ml


def keys(segmentation: Segmentation) -> list[str]:
    return [segment.key for segment in segmentation.segments]


def centre_x_mm(mask: NDArray[np.bool_], volume: Volume) -> float:
    z, y, x = np.argwhere(mask).mean(axis=0)
    return float((volume.affine @ [x, y, z, 1.0])[0])


def parts(mask: NDArray[np.bool_]) -> int:
    return int(ndimage.label(mask, np.ones((3, 3, 3)))[1])


def cropped(volume: Volume, y: slice, x: slice) -> Volume:
    return Volume(np.ascontiguousarray(volume.voxels_hu[:, y, x]), volume.spacing_mm, volume.affine)


def flipped(volume: Volume, axis: int) -> Volume:
    """The same patient stored the other way round along one array axis."""
    affine, column = volume.affine.copy(), 2 - axis
    affine[:3, 3] += affine[:3, column] * (volume.voxels_hu.shape[axis] - 1)
    affine[:3, column] *= -1
    return Volume(np.ascontiguousarray(np.flip(volume.voxels_hu, axis)), volume.spacing_mm, affine)


def test_phantom_is_found_whole() -> None:
    made = phantom()
    labels = engine().segment(made.volume).labels
    for number in (LEFT, RIGHT):
        assert dice(labels == number, made.labels == number) >= 0.97
    assert dice(labels == AIRWAY, made.labels == AIRWAY) >= 0.90
    assert dice(labels > 0, made.labels > 0) >= 0.98


def test_borders_follow_the_image_and_not_the_coarse_grid() -> None:
    """The model decides at 3 mm; a mask made of such blocks, even of the true ones, would be a staircase here."""
    made = make_phantom((57, 192, 192), (3.0, 1.05, 1.05))
    labels = engine().segment(made.volume).labels
    for number in (LEFT, RIGHT):
        truth = made.labels == number
        staircase = truth[:, 1::3, 1::3].repeat(3, axis=1).repeat(3, axis=2)
        assert dice(staircase, truth) < 0.97
        assert dice(labels == number, truth) > 0.985


@pytest.mark.real_ct
def test_lungs_agree_with_the_experts_mask() -> None:
    expert = sitk.GetArrayFromImage(sitk.ReadImage(str(real_ct("cip_ct64") / "wholeLung-64.nrrd"))) > 0
    found = segmented("cip_ct64/dicom")
    assert dice(np.isin(found.labels, (LEFT, RIGHT)), expert) >= 0.95
    assert found.notes == ()


@pytest.mark.real_ct
@pytest.mark.parametrize("name", ["cip_ct64/dicom", "lidc_0314_chest/dicom"])
def test_left_is_the_patients_left(name: str) -> None:
    labels, volume = segmented(name).labels, volume_of(name)
    assert centre_x_mm(labels == LEFT, volume) > centre_x_mm(labels == AIRWAY, volume)
    assert centre_x_mm(labels == RIGHT, volume) < centre_x_mm(labels == AIRWAY, volume)


@pytest.mark.real_ct
@pytest.mark.parametrize("name", ["cip_ct64/dicom", "lidc_0314_chest/dicom"])
def test_airway_is_one_tree_with_both_main_bronchi(name: str) -> None:
    airway = segmented(name).labels == AIRWAY
    assert parts(airway) == 1
    z = np.flatnonzero(airway.any(axis=(1, 2)))
    assert parts(airway[z[-1] - 2][None]) == 1, "a trachea on top"
    assert max(parts(airway[level][None]) for level in z[: len(z) // 2]) >= 2, "two bronchi below"


@pytest.mark.real_ct
def test_lidc_volumes_are_those_that_were_looked_at() -> None:
    """Apical mass and effusion right: that lung is half the left one.."""
    name = "lidc_0314_chest/dicom"
    found, volume = segmented(name), volume_of(name)
    bounds = {
        "body": (16000, 17500),
        "lung_left": (1820, 1980),
        "lung_right": (870, 980),
        "airway": (22, 38),
        "bone": (740, 920),
    }
    for key, (low, high) in bounds.items():
        assert low <= volume_ml(found, volume, key) <= high, key


@pytest.mark.real_ct
def test_the_table_is_no_body() -> None:
    """Table shells lie behind the patient in the lowest quarter of the image."""
    labels = segmented("lidc_0314_chest/dicom").labels
    assert not (labels[:, 460:] > 0).any()


@pytest.mark.real_ct
def test_bone_has_no_small_islands() -> None:
    name = "cip_ct64/dicom"
    labels, count = ndimage.label(segmented(name).labels == BONE, np.ones((3, 3, 3)))
    assert count > 1
    assert np.bincount(labels.ravel())[1:].min() * volume_of(name).voxel_ml >= 0.5


@pytest.mark.real_ct
@pytest.mark.parametrize(
    "name", ["ts_example_ct/example_ct_dicom", "gantry_tilt/philips_tilt", "gantry_tilt/ge_irregular_tilt"]
)
def test_bowel_gas_and_hollow_skulls_are_no_lungs(name: str) -> None:
    found = segmented(name)
    assert keys(found) == ["body", "bone"]
    assert any("no lung" in note for note in found.notes)


@pytest.mark.real_ct
@pytest.mark.parametrize(
    ("y", "x"),
    [
        (slice(8, 56), slice(8, 56)),
        (slice(None), slice(0, 34)),
        (slice(12, 60), slice(20, 64)),
    ],
    ids=["200 mm", "one side", "off centre"],
)
def test_lungs_cut_by_the_image_are_refused(y: slice, x: slice) -> None:
    found = engine().segment(cropped(volume_of("cip_ct64/dicom"), y, x))
    assert keys(found) == ["body", "bone"]
    assert any("no lung" in note for note in found.notes)


@pytest.mark.real_ct
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_storage_direction_does_not_change_the_anatomy(axis: int) -> None:
    name = "cip_ct64/dicom"
    turned = engine().segment(flipped(volume_of(name), axis))
    assert np.array_equal(np.flip(turned.labels, axis), segmented(name).labels)


@pytest.mark.real_ct
def test_padding_outside_the_field_of_view_changes_little() -> None:
    name = "cip_ct64/dicom"
    volume = volume_of(name)
    air = np.all(volume.voxels_hu < -900, axis=0)
    padded = np.where(air, np.float32(-2000), volume.voxels_hu)
    labels = engine().segment(Volume(padded, volume.spacing_mm, volume.affine)).labels
    assert dice(np.isin(labels, (LEFT, RIGHT)), np.isin(segmented(name).labels, (LEFT, RIGHT))) > 0.99


@pytest.mark.real_ct
def test_half_a_chest_says_what_is_missing() -> None:
    volume = volume_of("cip_ct64/dicom")
    lower = engine().segment(Volume(volume.voxels_hu[:40], volume.spacing_mm, volume.affine))
    assert {"lung_left", "lung_right"} <= set(keys(lower))
    assert "airway" not in keys(lower)
    assert "the lungs reach the highest slice and may be incomplete" in lower.notes


def test_one_lung_comes_with_a_note() -> None:
    """The right lung filled with fluid."""
    made = phantom()
    voxels = np.where(made.labels == RIGHT, np.float32(20), made.volume.voxels_hu)
    found = engine().segment(Volume(voxels, made.volume.spacing_mm, made.volume.affine))
    assert "lung_left" in keys(found)
    assert "lung_right" not in keys(found)
    assert "only the left lung was found" in found.notes


def test_the_same_volume_gives_the_same_labels() -> None:
    first, second = (engine().segment(phantom().volume) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)


def test_slices_that_are_not_axial_are_refused() -> None:
    made = phantom().volume
    coronal = Volume(made.voxels_hu, made.spacing_mm, made.affine[:, [0, 2, 1, 3]])
    with pytest.raises(InputError) as refused:
        engine().segment(coronal)
    assert refused.value.reason is Refusal.NOT_AXIAL
