"""Tiles: the positions and weights of the original sliding window."""

from __future__ import annotations

import numpy as np
import pytest

from orthanc_plugin.inference.nnunet.tiles import (
    axis_tiles,
    importance,
    mirrorings,
    padding,
    slice_blocks,
    tile_starts,
)


@pytest.mark.parametrize(
    ("size", "patch", "starts"),
    [
        (128, 64, (0, 32, 64)),
        (331, 192, (0, 70, 139)),
        (331, 160, (0, 57, 114, 171)),
        (64, 64, (0,)),
        (65, 64, (0, 1)),
        (110, 64, (0, 23, 46)),
    ],
)
def test_tiles_start_where_the_original_puts_them(size: int, patch: int, starts: tuple[int, ...]) -> None:
    """The first three are a published run of SegTHOR on 128 x 331 x 331 voxels."""
    assert tile_starts(size, patch, 0.5) == starts


def test_half_steps_round_to_even() -> None:
    assert tile_starts(15, 10, 0.25) == (0, 2, 5)


def test_a_wider_step_needs_fewer_tiles() -> None:
    assert tile_starts(331, 128, 0.8) == (0, 102, 203)


@pytest.mark.parametrize("patch", [*range(1, 34), 64, 127, 192])
def test_importance_peaks_in_the_middle_and_never_vanishes(patch: int) -> None:
    curve = importance(patch)
    assert curve.max() == curve[patch // 2] == 1.0
    assert curve.min() >= np.exp(-8.1)


def test_shares_of_a_voxel_add_up_to_one() -> None:
    total = np.zeros(331)
    for tile in axis_tiles(331, 160, 0.5):
        total[tile.span] += tile.share
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


def test_a_single_tile_has_all() -> None:
    (tile,) = axis_tiles(40, 40, 0.5)
    assert (tile.share == 1.0).all()


def test_each_slice_is_in_one_block() -> None:
    assert [(block.start, block.stop) for block in slice_blocks(10, 4)] == [(0, 4), (4, 8), (8, 10)]
    assert [(block.start, block.stop) for block in slice_blocks(3, 4)] == [(0, 3)]


def test_the_odd_padding_voxel_goes_after() -> None:
    assert padding(5, 8) == (1, 2)
    assert padding(8, 8) == padding(9, 8) == (0, 0)


def test_mirroring_takes_every_subset() -> None:
    assert mirrorings((0, 2)) == ((), (0,), (2,), (0, 2))
    assert len(mirrorings((0, 1, 2))) == 8
    assert mirrorings(()) == ((),)
