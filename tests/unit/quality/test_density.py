"""Gas in a lung, contrast medium in bone, a missing, cut or open lung, a scan upside down: each fails its check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.volume import Volume
from tests.support.cases.quality_case import BOXES, Chest, chest

GOOD = chest()
NOISE_HU = np.random.default_rng(5).normal(0, 5, GOOD.volume.voxels_hu.shape).astype(np.float32)


def holding(box: object, hu: float, base: Chest = GOOD) -> Chest:
    """Paint even HU with the noise of a scan."""
    voxels = base.volume.voxels_hu.copy()
    voxels[box] = hu + NOISE_HU[box]  # type: ignore[index]
    return replace(base, volume=replace(base.volume, voxels_hu=voxels))


def asked(case: Chest, key: str, check: Check) -> CheckResult:
    return case.check()[key, check]


def test_gas_in_front_of_a_collapsed_lung_fails() -> None:
    result = asked(holding(np.s_[6:30, 14:28, 45:60], -1000.0), "lung_left", Check.GAS)
    drawn_ml = 24 * 14 * 15 * 0.08
    assert not result.passed
    assert 0.8 * drawn_ml < result.value <= drawn_ml
    assert "pneumothorax" in result.detail


def test_lung_with_vessels_as_light_as_gas_passes() -> None:
    voxels = GOOD.volume.voxels_hu.copy()
    voxels[BOXES["lung_left"]] = -980 + 12 * NOISE_HU[BOXES["lung_left"]]
    emphysema = replace(GOOD, volume=replace(GOOD.volume, voxels_hu=voxels))
    assert asked(emphysema, "lung_left", Check.GAS).passed


def test_a_lung_without_its_partner_fails_and_a_remnant_is_no_partner() -> None:
    alone = asked(GOOD.relabelled((BOXES["lung_right"], 0)), "lung_left", Check.PARTNER)
    assert (alone.passed, alone.value) == (False, 0.0)
    remnant = GOOD.relabelled((BOXES["lung_right"], 0), (np.s_[6:8, 14:44, 10:25], 2))
    assert not asked(remnant, "lung_left", Check.PARTNER).passed
    assert asked(remnant, "lung_right", Check.PARTNER).passed


def test_a_model_of_one_lung_has_no_partner_to_miss() -> None:
    one = replace(GOOD, keys=("lung_left", "trachea", "heart", "spleen"))
    assert ("lung_left", Check.PARTNER) not in one.check()


@pytest.mark.parametrize(
    ("hu", "passed"), [(None, True), (350.0, False), (3000.0, True)], ids=["bone", "contrast medium", "metal"]
)
def test_contrast_medium_in_bone_fails(hu: float | None, passed: bool) -> None:
    spine = np.s_[0:40, 40:48, 28:40]
    bone = replace(GOOD, keys=("lung_left", "lung_right", "bone", "spleen")).relabelled((spine, 3))
    uneven = holding(spine, 0.0, bone)
    uneven.volume.voxels_hu[spine] = 400 + 25 * NOISE_HU[spine]
    case = uneven if hu is None else holding(np.s_[0:40, 40:48, 28:36], hu, uneven)
    assert asked(case, "bone", Check.CONTRAST).passed is passed


def test_the_edge_of_the_image_and_of_the_circle_cut_a_lung() -> None:
    at_border = GOOD.relabelled((np.s_[10:20, 20:40, 60:64], 1))
    result = asked(at_border, "lung_left", Check.IN_IMAGE)
    assert (result.passed, result.value) == (False, pytest.approx(10 * 20 * 4.0 * 5.0))
    circled = holding(np.s_[:, :, 60:], 0.0)
    circled.volume.voxels_hu[:, :, 60:] = -2000
    assert not asked(circled, "lung_left", Check.IN_IMAGE).passed
    assert asked(circled, "lung_right", Check.IN_IMAGE).passed


def with_gap(slices: slice) -> Chest:
    """Open the left lung through its wall in some slices; a model then takes it for air around the body there."""
    voxels = GOOD.volume.voxels_hu.copy()
    voxels[slices, 26:30, 60:] = -1000.0
    opened = replace(GOOD, volume=replace(GOOD.volume, voxels_hu=voxels))
    return opened.relabelled((np.s_[slices, 14:44, 45:60], 0))


def test_a_lung_that_goes_on_as_air_around_the_body_is_open() -> None:
    case = with_gap(slice(14, 22))
    result = asked(case, "lung_left", Check.CLOSED)
    assert (result.passed, result.value) == (False, pytest.approx(2 * 30 * 15 * 4.0 * 4.0))
    assert "go on as air around the body" in result.detail
    assert asked(case, "lung_right", Check.CLOSED).passed


def test_a_lung_found_in_spite_of_a_gap_is_closed() -> None:
    case = replace(with_gap(slice(14, 22)), labels=GOOD.labels)
    assert asked(case, "lung_left", Check.CLOSED).passed


def test_a_gap_is_seen_in_fine_voxels_and_a_lung_at_the_last_slice_is_closed() -> None:
    """A voxel in three is looked at there."""
    coarse = with_gap(slice(14, 40))
    fine = Volume(coarse.volume.voxels_hu.repeat(2, axis=1).repeat(2, axis=2), (5.0, 2.0, 2.0), GOOD.volume.affine)
    labels = coarse.labels.repeat(2, axis=1).repeat(2, axis=2)
    result = asked(replace(coarse, volume=fine, labels=labels), "lung_left", Check.CLOSED)
    assert result.value == pytest.approx(30 * 15 * 4.0 * 4.0, rel=0.1)
    assert not result.passed
    top = replace(GOOD, volume=replace(GOOD.volume, voxels_hu=GOOD.volume.voxels_hu[:20]), labels=GOOD.labels[:20])
    assert asked(top, "lung_left", Check.CLOSED).value == 0


def test_an_airway_below_the_lungs_is_upside_down() -> None:
    named = replace(GOOD, keys=("lung_left", "lung_right", "heart", "trachea")).relabelled((BOXES["spleen"], 0))
    above, below = (named.relabelled((np.s_[z, 28:32, 30:34], 4)) for z in (slice(26, 36), slice(1, 12)))
    assert asked(above, "trachea", Check.UPRIGHT).passed
    result = asked(below, "trachea", Check.UPRIGHT)
    assert not result.passed
    assert result.value < 0


def test_one_slice_has_answers() -> None:
    """A window is larger than such a volume."""
    volume = Volume(GOOD.volume.voxels_hu[10:11].copy(), GOOD.volume.spacing_mm, GOOD.volume.affine)
    thin = replace(GOOD, volume=volume, labels=GOOD.labels[10:11].copy())
    assert thin.check()["lung_left", Check.GAS].value == 0
