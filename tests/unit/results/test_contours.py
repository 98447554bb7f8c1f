"""Outlines enclose the mask, pixel for pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.results.rt.contours import INSET, Points, outlines, separate_outlines


def filled(contours: Sequence[Points], shape: tuple[int, int]) -> NDArray[np.intp]:
    """Count the contours around each pixel centre, each filled by the even-odd rule along rays to the right."""
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, np.intp)
    for points in contours:
        crossed = np.zeros(shape, np.intp)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if x1 == x2:
                crossed += (min(y1, y2) < rows) & (rows < max(y1, y2)) & (x1 > columns)
        inside += crossed % 2
    return inside


def area(points: Points) -> float:
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def masked(*rows: str) -> Mask:
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (13, 17)])
def test_filled_outlines_are_the_mask(share: float, shape: tuple[int, int]) -> None:
    chance = np.random.default_rng(7)
    for _ in range(15):
        mask = chance.random(shape) < share
        contours = outlines(mask)
        np.testing.assert_array_equal(filled(contours, shape), mask, "no pixel lies in two contours")
        assert sum(map(area, contours)) == mask.sum(), "a channel takes no area"


@pytest.mark.parametrize("seed", range(5))
def test_filled_outlines_of_smooth_shapes_are_the_mask(seed: int) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((60, 70)), 2.5) > -0.05
    np.testing.assert_array_equal(filled(outlines(mask), mask.shape), mask)


def rounded_fill(contours: Sequence[Points], shape: tuple[int, int]) -> Mask:
    """Fill as cv2.fillPoly does, and with it rt-utils: points rounded to pixels, even-odd, borders filled as well."""
    corners = [np.rint(points).astype(int) for points in contours]
    edges = [edge for points in corners for edge in zip(points, np.roll(points, -1, axis=0), strict=True)]
    border = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in edges:
        assert x1 == x2 or y1 == y2
        border[min(y1, y2) : max(y1, y2) + 1, min(x1, x2) : max(x1, x2) + 1] = True
    return border | (filled_slanted(corners, shape) % 2 == 1)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.95])
def test_separate_outlines_are_the_mask_for_readers_that_round(share: float) -> None:
    chance = np.random.default_rng(3)
    for _ in range(15):
        mask = chance.random((13, 17)) < share
        np.testing.assert_array_equal(rounded_fill(separate_outlines(mask), mask.shape), mask)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (13, 17)])
def test_separate_outlines_are_the_mask_for_readers_that_fill_at_centres(share: float, shape: tuple[int, int]) -> None:
    chance = np.random.default_rng(7)
    for _ in range(15):
        mask = chance.random(shape) < share
        np.testing.assert_array_equal(filled_slanted(separate_outlines(mask), shape) % 2, mask)


def filled_slanted(contours: Sequence[Points], shape: tuple[int, int]) -> NDArray[np.intp]:
    """As `filled`, for edges in any direction."""
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, np.intp)
    for points in contours:
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 != y2:
                at = x1 + (rows - y1) / (y2 - y1) * (x2 - x1)
                inside += (min(y1, y2) <= rows) & (rows < max(y1, y2)) & (at > columns)
    return inside


def test_points_of_separate_outlines_round_to_pixels_of_the_mask() -> None:
    """Readers such as rt-utils round points; those on pixel edges fall on either side."""
    for seed in range(20):
        mask = np.random.default_rng(seed).random((20, 20)) < 0.6
        contours = separate_outlines(mask)
        points = np.concatenate(contours)
        assert np.abs(points - np.rint(points)).max() <= 0.5 - INSET + 1e-9
        columns, rows = np.rint(points).astype(int).T
        assert mask[rows, columns].all()
        holes = ndimage.label(~np.pad(mask, 1), np.ones((3, 3)))[1] - 1
        assert len(contours) == ndimage.label(mask)[1] + holes


def test_a_hole_has_a_contour_of_its_own() -> None:
    ring = masked("###", "#.#", "###")
    outer, hole = separate_outlines(ring)
    assert len(outlines(ring)) == 1
    assert {*map(tuple, np.rint(outer).tolist())} == {(0, 0), (2, 0), (0, 2), (2, 2)}
    assert {*map(tuple, np.rint(hole).tolist())} == {(0, 0), (2, 0), (0, 2), (2, 2)}


def test_there_is_one_contour_for_each_island_and_none_for_a_hole() -> None:
    for seed in range(20):
        mask = np.random.default_rng(seed).random((20, 20)) < 0.6
        assert len(outlines(mask)) == ndimage.label(mask)[1]


def test_a_contour_is_made_of_right_angles_and_has_at_least_four_corners() -> None:
    mask = np.random.default_rng(3).random((20, 20)) < 0.6
    for points in outlines(mask):
        steps = np.roll(points, -1, axis=0) - points
        assert len(points) >= 4
        assert ((steps == 0).sum(axis=1) == 1).all(), "every edge runs along a row or a column"
        assert (points % 1 == 0.5).all(), "corners lie between pixel centres"


def test_one_pixel_is_a_square_round_its_centre() -> None:
    mask = np.zeros((5, 6), bool)
    mask[2, 4] = True
    (points,) = outlines(mask)
    assert sorted(map(tuple, points.tolist())) == [(3.5, 1.5), (3.5, 2.5), (4.5, 1.5), (4.5, 2.5)]


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((4, 4), bool)) == []


def test_pixels_that_touch_at_a_corner_are_islands() -> None:
    assert [len(points) for points in outlines(masked("#.", ".#"))] == [4, 4]
    assert [len(points) for points in outlines(masked(".#", "#."))] == [4, 4]


def test_a_hole_is_a_keyhole() -> None:
    """One polygon: the outer edge, along the upper edge of the hole's row to the hole, round it and back."""
    mask = masked("####", "##.#", "####")
    (points,) = outlines(mask)
    assert [-0.5, 0.5] in points.tolist(), "where the channel leaves the outer edge"
    assert {(1.5, 0.5), (1.5, 1.5), (2.5, 1.5), (2.5, 0.5)} <= set(map(tuple, points.tolist())), "the hole"
    np.testing.assert_array_equal(filled([points], mask.shape), mask)


def test_islands_in_holes_and_holes_beside_holes_keep_apart() -> None:
    mask = masked(
        "#########",
        "#...#...#",
        "#.#.#.#.#",
        "#...#...#",
        "#########",
    )
    contours = outlines(mask)
    assert len(contours) == 3
    np.testing.assert_array_equal(filled(contours, mask.shape), mask)


def test_a_mask_that_fills_the_image_has_the_edge_of_the_image() -> None:
    (points,) = outlines(np.ones((3, 4), bool))
    assert points.min(axis=0).tolist() == [-0.5, -0.5]
    assert points.max(axis=0).tolist() == [3.5, 2.5]
