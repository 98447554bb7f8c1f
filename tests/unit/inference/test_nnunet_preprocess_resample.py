"""Resampling gives the results of scipy's zoom; rules for axes, shapes, labels and TotalSegmentator's frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from orthanc_plugin.inference.nnunet.resample import (
    labels_from_frame,
    resample_image,
    resample_labels,
    resample_to_frame,
    resampled_shape,
    separate_axis,
)

SHAPES = [
    ((20, 31, 27), (13, 40, 27)),
    ((1, 30, 30), (3, 17, 44)),
    ((40, 50, 33), (40, 31, 57)),
    ((5, 4, 6), (11, 2, 9)),
]


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-300, 600, shape).astype(np.float32)


def zoomed(values: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """The originals' resampling, float64."""
    exact = values.astype(float)
    result = ndimage.zoom(exact, np.divide(shape, exact.shape), order=order, mode="nearest", grid_mode=True)
    return result.clip(exact.min(), exact.max())


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("shape", "wanted"), SHAPES)
def test_images_are_what_zoom_gives(shape: tuple[int, ...], wanted: tuple[int, ...], order: int) -> None:
    values = noise(shape)
    assert np.allclose(resample_image(values, wanted, order=order), zoomed(values, wanted, order), rtol=1e-7, atol=1e-4)


def test_views_of_turned_and_mirrored_arrays_are_resampled_alike() -> None:
    values = noise((20, 24, 31))
    view = values.transpose(2, 0, 1)[::-1, :, ::-1]
    assert np.allclose(resample_image(view, (17, 25, 18), order=3), zoomed(view, (17, 25, 18), 3), atol=1e-4)


def test_an_image_of_the_wanted_shape_is_unchanged() -> None:
    values = noise((4, 5, 6))
    assert resample_image(values, (4, 5, 6), order=3) is values


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_separate_axis_takes_the_nearest_plane(axis: int) -> None:
    values, wanted = noise((12, 11, 10)), (17, 16, 15)
    planes = np.moveaxis(values, axis, 0)
    inner = [n for other, n in enumerate(wanted) if other != axis]
    each = np.stack([zoomed(plane, tuple(inner), 3) for plane in planes])
    nearest = np.floor((np.arange(wanted[axis]) + 0.5) * len(planes) / wanted[axis] - 0.5 + 0.5).astype(int)
    expected = np.moveaxis(each[nearest.clip(0, len(planes) - 1)], 0, axis)
    assert np.allclose(resample_image(values, wanted, order=3, separate=axis), expected, atol=1e-4)


def test_a_separate_axis_may_have_its_own_order() -> None:
    values = noise((9, 11, 10))
    each = np.stack([zoomed(plane, (14, 15), 3) for plane in values])
    z, y, x = np.mgrid[:13, :14, :15].astype(float)
    expected = ndimage.map_coordinates(each, [9 / 13 * (z + 0.5) - 0.5, y, x], order=1, mode="nearest")
    found = resample_image(values, (13, 14, 15), order=3, order_z=1, separate=0)
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("source", "target", "force", "axis"),
    [
        ((1.25, 0.7, 0.7), (2.5, 0.98, 0.98), None, None),
        ((3.0, 0.977, 0.977), (2.5, 0.98, 0.98), None, 0),
        ((3.0, 1.0, 1.0), (2.5, 1.0, 1.0), None, None),
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), None, 1),
        ((0.3, 1.0, 1.0), (1.0, 1.0, 4.0), None, None),
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), False, None),
        ((2.0, 1.0, 1.0), (1.0, 1.0, 9.0), True, 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 9.0), True, None),
    ],
)
def test_the_separate_axis_is_the_one_much_coarser_than_the_others(
    source: tuple[float, ...], target: tuple[float, ...], force: bool | None, axis: int | None
) -> None:
    assert separate_axis(source, target, force) == axis


def test_shapes_round_halves_to_even() -> None:
    assert resampled_shape((275, 512, 512), (1.0, 0.78125, 0.78125), (2.5, 0.977, 0.977)) == (110, 409, 409)
    assert resampled_shape((5, 7, 9), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)) == (2, 4, 4)


def blocks(shape: tuple[int, int, int], labels: int) -> np.ndarray:
    """Regions of noise, one a label."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(labels, *shape)), (0, 2, 2, 2))
    return smooth.argmax(axis=0).astype(np.uint8)


@pytest.mark.parametrize("order", [1, 3])
def test_the_label_whose_mask_scores_highest_wins(order: int) -> None:
    labels, wanted = blocks((13, 20, 17), 4), (21, 16, 29)
    scores = np.stack([zoomed(labels == number, wanted, order) for number in range(4)])
    found = resample_labels(labels, wanted, order=order)
    ranked = np.sort(scores, axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-6
    assert found.dtype == np.uint8
    assert clear.mean() > 0.95
    assert np.array_equal(found[clear], scores.argmax(axis=0)[clear])


def test_of_labels_that_tie_the_nearest_voxels_wins() -> None:
    labels = np.array([3, 3, 5, 5, 1, 1], np.uint8).reshape(1, 1, 6).repeat(2, 1)
    assert resample_labels(labels, (1, 2, 3), order=1).tolist() == [[[3, 5, 1], [3, 5, 1]]]
    row = np.array([0, 2, 0, 0], np.int16).reshape(1, 1, 4)
    nearest = zoomed(row, (1, 1, 2), 0)
    assert np.array_equal(resample_labels(row, (1, 1, 2), order=1), nearest)


def test_labels_take_the_nearest_plane_of_a_separate_axis() -> None:
    labels = blocks((6, 12, 12), 3)
    found = resample_labels(labels, (12, 18, 18), order=1, separate=0)
    for index in range(12):
        assert np.array_equal(found[index], resample_labels(labels[index // 2][None], (1, 18, 18), order=1)[0])


def test_labels_of_the_wanted_shape_are_unchanged() -> None:
    labels = blocks((4, 5, 6), 3)
    assert resample_labels(labels, (4, 5, 6), order=1) is labels


def test_the_frame_cuts_to_whole_hu_and_keeps_corner_centres() -> None:
    values = np.linspace(-1000.0, 400.0, 11, dtype=np.float32).reshape(11, 1, 1) * np.ones((1, 4, 5), np.float32)
    found = resample_to_frame(values, (3.0, 1.5, 1.5), 1.5, 1)
    assert found.shape == (22, 4, 5)
    assert np.array_equal(
        found[:, 0, 0], np.trunc(np.interp(np.arange(22) * (10 / 21), np.arange(11), values[:, 0, 0]))
    )
    assert found.dtype == np.float32


def test_an_image_of_the_frames_spacing_stays_as_it_is() -> None:
    values = noise((4, 5, 6))
    assert resample_to_frame(values, (1.5, 1.5, 1.5), 1.5, 1) is values


def test_labels_come_back_from_the_frame_by_the_nearest_voxel() -> None:
    labels = blocks((9, 14, 12), 5)
    for shape in ((17, 28, 31), (9, 14, 12), (5, 14, 40)):
        expected = ndimage.zoom(labels, np.divide(shape, labels.shape), order=0, mode="nearest")
        assert np.array_equal(labels_from_frame(labels, shape), expected)
