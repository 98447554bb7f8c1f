"""The head is found by the cavity of its skull, and by nothing else of a body."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.pipeline.field import head_and_neck
from orthanc_plugin.quality.head import skull_slices
from orthanc_plugin.series.read import read_series
from tests.support.cases.realct import real_ct

SPACING_MM = (5.0, 2.0, 2.0)
NECK, HEAD = 80, 20
"""Slices of trunk and neck, and of the head above them."""


def person(neck: int = NECK, head: int = HEAD, bone_hu: float = 900.0) -> Volume:
    """An upright body of ellipses: trunk and neck with a spine, and a head with brain and skull; air outside."""
    y, x = np.mgrid[-70:70, -90:90] * 2.0
    neck_plane, head_plane = np.full((2, *y.shape), -1000.0, np.float32)
    neck_plane[(x / 80) ** 2 + (y / 65) ** 2 < 1] = 40.0
    neck_plane[x**2 + (y - 25) ** 2 < 15**2] = bone_hu
    head_plane[(x / 75) ** 2 + (y / 95) ** 2 < 1] = 40.0
    head_plane[(x / 70) ** 2 + (y / 90) ** 2 < 1] = bone_hu
    head_plane[(x / 62) ** 2 + (y / 82) ** 2 < 1] = 35.0
    hu = np.stack([neck_plane] * neck + [head_plane] * head)
    z_mm, y_mm, x_mm = SPACING_MM
    return Volume(hu, SPACING_MM, np.diag([x_mm, y_mm, z_mm, 1.0]))


def place(*regions: Region, reason: str = "") -> BodyLocation:
    """What body part regression says of a scan that shows these regions."""
    slices = dict.fromkeys(regions, (0, 1))
    return BodyLocation(
        (), (), (), (), slices, {}, None, None, None, valid_spacing=True, reversed=False, tag="NONE", reason=reason
    )


def test_the_cavity_of_the_skull_is_where_the_head_is() -> None:
    assert skull_slices(person()) == (NECK, NECK + HEAD - 1)


def test_dental_metal_and_a_hole_part_no_head_but_a_ring_far_below_is_another_place() -> None:
    volume = person()
    volume.voxels_hu[NECK + 5 : NECK + 10] = volume.voxels_hu[0]
    volume.voxels_hu[3:6] = volume.voxels_hu[-1]
    assert skull_slices(volume) == (NECK, NECK + HEAD - 1)


@pytest.mark.parametrize(
    "volume",
    [
        pytest.param(lambda: person(head=0), id="neck"),
        pytest.param(lambda: person(bone_hu=60.0), id="no bone"),
        pytest.param(lambda: make_phantom((56, 96, 96)).volume, id="chest of the phantom"),
        pytest.param(lambda: Volume(np.full((30, 64, 64), -1000, np.float32), SPACING_MM, np.eye(4)), id="air"),
    ],
)
def test_nothing_else_is_a_head(volume: object) -> None:
    assert callable(volume)
    assert skull_slices(volume()) is None


@pytest.mark.real_ct
@pytest.mark.parametrize("name", ["cip_ct64/dicom", "lidc_0314_chest/dicom", "ts_example_ct/example_ct_dicom"])
def test_no_real_chest_or_abdomen_has_a_slice_of_a_head(name: str) -> None:
    """So the model of head and neck writes nothing there: without such a slice it does not run."""
    folder = real_ct(name)
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
    for number, ds in enumerate(slices):
        ds.SOPInstanceUID = ds.get("SOPInstanceUID") or f"2.25.1{number}"
        ds.SOPClassUID = ds.get("SOPClassUID") or CTImageStorage
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
    volume = read_series(iter(slices)).volume
    assert skull_slices(volume) is None
    assert head_and_neck(volume, None) is None
    assert head_and_neck(volume, place(Region.HEAD)) is None, "even where body part regression errs"


@pytest.mark.real_ct
@pytest.mark.parametrize("patient", ["pt_54", "pt_193"])
def test_no_contour_of_an_expert_lies_outside_the_field(patient: str) -> None:
    """In these two of OpenKBP the spinal cord is contoured furthest below the skull."""
    with np.load(real_ct("open_kbp") / f"{patient}.npz") as stored:
        hu, labels, (z, y, x) = (
            stored["v"].clip(0, 4095).astype(np.float32) - 1024,
            stored["m"],
            map(float, stored["sp"]),
        )
    crop = head_and_neck(Volume(hu, (z, y, x), np.diag([x, y, z, 1.0])), None)
    assert crop is not None
    assert labels.any()
    assert not labels[: crop.first].any()
    assert not labels[crop.last + 1 :].any()


def test_the_field_ends_in_the_neck_and_at_the_top() -> None:
    crop = head_and_neck(person(), None)
    assert crop is not None
    assert (crop.first, crop.last) == (NECK - 72, NECK + HEAD - 1)  # 360 mm of 5 mm slices
    assert crop.volume.affine[2, 3] == (NECK - 72) * 5.0
    assert crop.note.startswith(f"only slices {NECK - 71} to {NECK + HEAD}, counted from the feet")


def test_what_lies_far_above_the_skull_is_outside_the_field() -> None:
    volume = person()
    upside_down = Volume(volume.voxels_hu[::-1], volume.spacing_mm, volume.affine)
    crop = head_and_neck(upside_down, None)
    assert crop is not None
    assert (crop.first, crop.last) == (0, HEAD - 1 + 24)  # 120 mm of 5 mm slices


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (place(Region.HEAD), True),
        (place(Region.SHOULDER_NECK, Region.CHEST), True),
        (place(Region.CHEST, Region.ABDOMEN), False),
        (place(reason="no valid slice"), True),
    ],
    ids=["head", "neck and chest", "trunk", "unknown"],
)
def test_body_part_regression_has_the_first_word_where_it_knows(said: BodyLocation, shown: bool) -> None:
    assert (head_and_neck(person(), said) is not None) is shown
