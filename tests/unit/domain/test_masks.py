"""Boxes around masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask, box_of

RANDOM = np.random.default_rng(5)


def planted(shape: tuple[int, int, int], voxels: int) -> Mask:
    mask = np.zeros(shape, bool)
    mask.ravel()[RANDOM.choice(mask.size, voxels, replace=False)] = True
    return mask


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (20, 31, 42)])
@pytest.mark.parametrize("voxels", [1, 2, 9])
def test_it_is_the_one_that_scipy_finds(shape: tuple[int, int, int], voxels: int) -> None:
    mask = planted(shape, min(voxels, int(np.prod(shape))))
    for seen in (mask, mask.transpose(2, 0, 1), mask[::-1, :, ::-1]):
        (expected,) = ndimage.find_objects(seen.astype(np.uint8))
        assert box_of(seen) == expected


def test_a_whole_array_and_none() -> None:
    assert box_of(np.ones((2, 3, 4), bool)) == (slice(0, 2), slice(0, 3), slice(0, 4))
    assert box_of(np.zeros((2, 3, 4), bool)) is None
