"""Planes and grids without any pixels."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.series.geometry import (
    SlicePlane,
    fit_grid,
    is_upright,
    odd_planes,
    same_heights,
    slice_plane,
    stack_of,
)

AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)


def plane(position: tuple[float, float, float], orientation: tuple[float, ...] = AXIAL) -> SlicePlane:
    ds = Dataset()
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(orientation)
    ds.PixelSpacing, ds.Rows, ds.Columns = [0.7, 0.8], 4, 5
    return slice_plane(ds)


def test_plane_of_a_header() -> None:
    axial = plane((1.0, 2.0, 3.0))
    np.testing.assert_array_equal(axial.position, [1, 2, 3])
    assert axial.pixel_spacing_mm == (0.7, 0.8)
    assert axial.size == (4, 5)


@pytest.mark.parametrize(
    ("orientation", "normal"),
    [(AXIAL, (0, 0, 1)), ((-1, 0, 0, 0, -1, 0), (0, 0, 1)), ((1, 0, 0, 0, -1, 0), (0, 0, 1)),
     (CORONAL, (0, 1, 0)), (SAGITTAL, (1, 0, 0))],
)  # fmt: skip
def test_normal_points_to_the_head_the_back_or_the_left(
    orientation: tuple[float, ...], normal: tuple[float, ...]
) -> None:
    np.testing.assert_allclose(plane((0, 0, 0), orientation).normal, normal, atol=1e-12)


def test_grid_places_every_voxel_of_an_oblique_stack() -> None:
    turn = np.radians(20)
    row = np.array([np.cos(turn), np.sin(turn), 0])
    column = np.array([-np.sin(turn), np.cos(turn), 0])
    planes = [plane((5.0, 6.0, z), (*row, *column)) for z in (9.0, 3.0, 6.0, 0.0)]
    grid = fit_grid(stack_of(planes), planes)
    assert grid.order == (3, 1, 2, 0)
    assert grid.spacing_mm == (3.0, 0.7, 0.8)
    np.testing.assert_allclose((grid.affine @ [4, 2, 3, 1])[:3], [5, 6, 9] + 4 * 0.8 * row + 2 * 0.7 * column)


def test_fit_uses_all_positions_not_the_first_two() -> None:
    rng = np.random.default_rng(1)
    planes = [plane((0, 0, 1.25 * n + float(rng.uniform(-0.04, 0.04)))) for n in range(200)]
    assert fit_grid(stack_of(planes), planes).spacing_mm[0] == pytest.approx(1.25, abs=2e-4)


@pytest.mark.parametrize(("spacing", "largest"), [(5.0, 0.1), (2.0, 0.1), (1.0, 0.05), (0.5, 0.025)])
def test_position_may_deviate_by_a_tenth_of_a_millimetre_or_a_twentieth_of_the_spacing(
    spacing: float, largest: float
) -> None:
    def off_by(deviation: float) -> list[SlicePlane]:
        return [plane((0, 0, spacing * n + (deviation if n % 2 else -deviation))) for n in range(101)]

    accepted, refused = off_by(0.95 * largest), off_by(1.05 * largest)
    assert fit_grid(stack_of(accepted), accepted).spacing_mm[0] == pytest.approx(spacing, rel=1e-3)
    with pytest.raises(InputError) as caught:
        fit_grid(stack_of(refused), refused)
    assert caught.value.reason is Refusal.MIXED_SPACING


@pytest.mark.parametrize(("drift", "accepted"), [(0.09, True), (0.3, False)])
def test_sideways_drift_of_a_tenth_of_a_millimetre_is_allowed(drift: float, accepted: bool) -> None:
    planes = [plane((drift * n / 10, 0, 2.0 * n)) for n in range(11)]
    if accepted:
        assert fit_grid(stack_of(planes), planes).affine[0, 3] == pytest.approx(drift / 2)
    else:
        with pytest.raises(InputError) as caught:
            fit_grid(stack_of(planes), planes)
        assert caught.value.reason is Refusal.GANTRY_TILT


def test_equal_heights_are_grouped_whatever_their_order() -> None:
    planes = [plane((0, 0, z)) for z in (3.0, 0.0, 3.001, 6.0, 0.0)]
    assert same_heights(stack_of(planes), planes) == [[1, 4], [0, 2], [3]]


def test_few_planes_across_the_others_are_odd_and_many_are_unclear() -> None:
    axial = [plane((0, 0, 2.0 * n)) for n in range(20)]
    assert odd_planes([plane((0, 0, 0), CORONAL), *axial, plane((0, 0, 0), SAGITTAL)]) == {0, 21}
    assert odd_planes([*axial[:4], *[plane((0, n, 0), CORONAL) for n in range(4)]]) == frozenset()


def test_planes_are_upright_along_a_patient_axis_only() -> None:
    upright = [plane((0, 0, 2.0 * n)) for n in range(4)]
    lean = np.radians(15)
    normal = np.array([0, np.sin(lean), np.cos(lean)])
    leaning = [plane(tuple(2.0 * n * normal), (1, 0, 0, 0, np.cos(lean), -np.sin(lean))) for n in range(4)]
    assert is_upright(fit_grid(stack_of(upright), upright))
    assert not is_upright(fit_grid(stack_of(leaning), leaning))
