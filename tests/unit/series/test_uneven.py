"""Tilted, unevenly spaced and incomplete series: what volume they become, and where their slices lie on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from orthanc_plugin.domain.reading import MissingSlices, ReadSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from orthanc_plugin.series.read import read_series
from orthanc_plugin.series.steps import fit_steps
from tests.support.phantoms.tilted import tilted_phantom

INTERPOLATE = ReadSettings(missing_slices=MissingSlices.INTERPOLATE)
COUNT = 40


@cache
def phantom() -> Phantom:
    return make_phantom((COUNT, 24, 32), (3.0, 2.0, 1.5))


@cache
def _slices() -> tuple[FileDataset, ...]:
    return tuple(reversed(encode_phantom(phantom())))


def slices() -> list[FileDataset]:
    """Of the plain phantom, from the feet on."""
    return list(_slices())


def source_places(series: CtSeries) -> np.ndarray:
    """Millimetres by which each source slice lies off the place that the volume gives it."""
    placement = series.placement
    assert placement is not None
    places = np.array([header.ImagePositionPatient for header in series.headers], float)
    voxels = np.column_stack([placement.corners[:, ::-1], placement.z, np.ones(len(places))])
    return np.asarray(places - (series.volume.affine @ voxels.T).T[:, :3])


# tilt


@pytest.mark.parametrize("degrees", [12.0, -18.5, 30.0])
def test_tilted_slices_are_set_upright_by_whole_pixels(degrees: float) -> None:
    series = read_series(tilted_phantom(phantom(), degrees))
    step = 3.0 * np.cos(np.radians(degrees))
    assert series.volume.spacing_mm == pytest.approx((step, 2.0, 1.5), abs=1e-4)
    axes = series.volume.affine[:3, :3] / np.array(series.volume.spacing_mm)[::-1]
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    off = source_places(series)
    assert np.abs(off @ axes[:, 2]).max() < 1e-3
    assert np.abs(off).max() <= 1.0 + 1e-3  # half a row
    assert f"{abs(degrees):.1f} degrees" in series.marks[0]
    assert series.variant == ""


def test_values_of_tilted_slices_stay_as_they_are_stored() -> None:
    made = tilted_phantom(phantom(), 15)
    series = read_series(made)
    assert series.placement is not None
    stored = {ds.SOPInstanceUID: ds for ds in made}
    for index, header in enumerate(series.headers):
        image = np.frombuffer(stored[header.SOPInstanceUID].PixelData, "<i2").reshape(24, 32) - 1024
        np.testing.assert_array_equal(series.volume.voxels_hu[index][series.placement.window(index)], image)
    assert (series.volume.voxels_hu == -1024).any()  # beside the slices


def test_upright_planes_that_are_shifted_are_no_gantry_tilt() -> None:
    made = slices()
    places = [list(ds.ImagePositionPatient) for ds in made]
    try:
        for number, ds in enumerate(made):
            ds.ImagePositionPatient[1] += 0.5 * number
        with pytest.raises(InputError, match=r"9\.5 degrees, not as by a tilted gantry") as caught:
            read_series(made)
    finally:
        for ds, place in zip(made, places, strict=True):
            ds.ImagePositionPatient = place
    assert caught.value.reason is Refusal.GANTRY_TILT


def test_a_long_table_that_sags_is_set_upright_by_whole_pixels() -> None:
    """1.2 m with a sag of 0.1 degrees: no common place lies within a millimetre of all slices."""
    made = encode_phantom(make_phantom((300, 24, 32), (4.0, 2.0, 1.5)))
    for ds in made:
        x, y, z = (float(value) for value in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, round(y + z * np.tan(np.radians(0.1)), 4), z]
    series = read_series(made)
    assert series.volume.spacing_mm == pytest.approx((4.0, 2.0, 1.5), abs=1e-4)
    assert np.abs(source_places(series)).max() <= 1.0 + 1e-3  # half a row
    assert "table sag of 0.1 degrees" in series.marks[0]


# spacing


def test_series_of_two_spacings_is_interpolated_to_the_finer_one() -> None:
    series = read_series(every_second_above(slices()))
    assert series.volume.voxels_hu.shape == (39, 24, 32)
    assert series.source_shape == (30, 24, 32)
    np.testing.assert_array_equal(series.volume.voxels_hu[:21], phantom().volume.voxels_hu[:21])
    np.testing.assert_array_equal(series.volume.voxels_hu[22], phantom().volume.voxels_hu[22])
    between = phantom().volume.voxels_hu[[20, 22]].mean(axis=0)
    np.testing.assert_allclose(series.volume.voxels_hu[21], between, atol=1e-3)
    np.testing.assert_allclose(source_places(series), 0, atol=1e-3)
    assert "varies from 3.00 to 6.00 mm" in series.marks[0]


def heights(*gaps: float) -> np.ndarray:
    return np.cumsum([0.0, *gaps])


@pytest.mark.parametrize(
    "gaps",
    [
        [3] * 6 + [5] * 6,
        [4.002] * 13 + [1.081] + [6.999] * 13,
        [3] * 10 + [6] * 3,
        [2.5] * 4 + [5] * 4 + [2.5] * 4,
    ],
)
def test_parts_with_a_spacing_of_their_own_are_read(gaps: Sequence[float]) -> None:
    steps = fit_steps(heights(*gaps))
    assert steps.step == pytest.approx(min(gaps))
    assert steps.z is not None
    np.testing.assert_allclose(steps.first + steps.step * steps.z, heights(*gaps), atol=1e-5)
    assert steps.z[-1] <= steps.count - 1 + 0.05


@pytest.mark.parametrize(
    "gaps",
    [
        [3] * 6 + [3.4, 2.6] + [3] * 6,
        [3] * 6 + [7.5] + [3] * 6,
        [3] * 6 + [9] + [5] * 6,
        [3] * 2 + [5] * 10,
        [3, 4, 5, 6, 7, 8],
        [5] * 10 + [0.4] * 4,
    ],
)
def test_steps_that_vary_otherwise_are_refused(gaps: Sequence[float]) -> None:
    with pytest.raises(InputError, match="varies") as caught:
        fit_steps(heights(*gaps), MissingSlices.INTERPOLATE)
    assert caught.value.reason is Refusal.MIXED_SPACING


# missing slices


def test_missing_slices_are_refused_unless_the_rule_interpolates_them() -> None:
    made = [*slices()[:10], *slices()[11:30], *slices()[31:]]
    with pytest.raises(InputError, match="2 slice") as caught:
        read_series(made)
    assert caught.value.reason is Refusal.MISSING_SLICE
    series = read_series(made, INTERPOLATE)
    voxels = phantom().volume.voxels_hu
    there = [index for index in range(COUNT) if index not in (10, 30)]
    np.testing.assert_array_equal(series.volume.voxels_hu[there], voxels[there])
    np.testing.assert_allclose(series.volume.voxels_hu[10], voxels[[9, 11]].mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(series.volume.affine, phantom().volume.affine, atol=1e-4)
    assert "2 of 40 slices were missing and are interpolated" in series.marks[0]
    assert series.variant == "missing slices interpolated"


def test_a_complete_series_is_read_as_without_the_option() -> None:
    series = read_series(slices(), INTERPOLATE)
    assert (series.placement, series.marks, series.variant) == (None, (), "")


@pytest.mark.parametrize(
    ("gaps", "words"),
    [([3] * 10 + [12] + [3] * 20, "the widest gap is 12.0 mm"), (([3] * 4 + [6]) * 4, "at most 10%")],
)
def test_many_or_wide_gaps_are_refused_whatever_the_rule_says(gaps: Sequence[float], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        fit_steps(heights(*gaps), MissingSlices.INTERPOLATE)
    assert caught.value.reason is Refusal.MISSING_SLICE


ROUNDED = (0.33, 0.45, 0.625, 0.75, 1.25, 2.44)


@pytest.mark.parametrize("step", ROUNDED)
@pytest.mark.parametrize("missing", [(7,), (3, 40), (20, 21), (78,)])
def test_a_missing_slice_is_named_with_its_place_although_positions_were_rounded(
    step: float, missing: Sequence[int]
) -> None:
    places = np.array([round(-100 + step * number, 1) for number in range(80) if number not in missing])
    with pytest.raises(InputError) as caught:
        fit_steps(places)
    assert caught.value.reason is Refusal.MISSING_SLICE
    assert f"{len(missing)} slice(s) missing at a spacing of {step:.2f}" in str(caught.value)
    assert f"between slices {missing[0]} and {missing[0] + 1} ({places[missing[0] - 1]:.2f} and" in str(caught.value)


def test_noise_of_positions_does_not_hide_a_missing_slice() -> None:
    places = np.arange(60) + np.random.default_rng(2).uniform(-0.045, 0.045, 60)
    with pytest.raises(InputError, match=r"1 slice.s. missing at a spacing of 1\.00") as caught:
        fit_steps(np.delete(places, 31))
    assert caught.value.reason is Refusal.MISSING_SLICE


def test_a_rounded_series_with_a_gap_is_interpolated_where_the_rule_allows_it() -> None:
    places = np.array([round(0.625 * number, 1) for number in range(80) if number != 33])
    steps = fit_steps(places, MissingSlices.INTERPOLATE)
    assert (steps.count, steps.filled) == (80, 1)
    assert steps.step == pytest.approx(0.625, abs=0.002)


# masks


def every_second_above(made: list[FileDataset]) -> list[FileDataset]:
    return [*made[:20], *made[20::2]]


UNEVEN: dict[str, Callable[[], CtSeries]] = {
    "tilted": lambda: read_series(tilted_phantom(phantom(), 18.5)),
    "two spacings": lambda: read_series(every_second_above(slices())),
    "incomplete": lambda: read_series([*slices()[:10], *slices()[11:]], INTERPOLATE),
    "tilted and uneven": lambda: read_series(every_second_above(tilted_phantom(phantom(), 10))),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_masks_of_the_source_slices_survive_the_way_to_the_volume_and_back(name: str) -> None:
    series = UNEVEN[name]()
    labels = np.random.default_rng(3).integers(0, 5, series.source_shape).astype(np.uint8)
    np.testing.assert_array_equal(series.on_source(series.on_volume(labels)), labels)
