"""What the network sees of a slice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from orthanc_plugin.inference.bpr.slices import slice_batches
from tests.support.cases.bpr_case import bpr_model

MODEL = bpr_model(size=32, pixel_mm=3.5)


def picture(plane: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    (batch,) = slice_batches(plane[None].astype(np.float32), pixel_mm, [0], MODEL, 4)
    assert batch.shape == (1, 1, 32, 32)
    assert batch.dtype == np.float32
    return batch[0, 0]


def in_steps(plane: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Window, blur, resize one after the other; pixels (x, y)."""
    x = (np.clip(plane, -1000, 1500) + 1000).T * 2 / 2500 - 1
    new = [int(n * mm / 3.5 + 0.5) for n, mm in zip(x.shape, pixel_mm[::-1], strict=True)]
    blurred = ndimage.gaussian_filter(x, [0.8 * 0.25 * n / m for n, m in zip(x.shape, new, strict=True)], truncate=3)
    at = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(x.shape, new, strict=True)]
    return ndimage.map_coordinates(blurred, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")


@pytest.mark.parametrize("pixel_mm", [(0.7, 0.9), (1.1, 1.1), (5.0, 4.0)])
def test_blur_resize_pad_and_crop(pixel_mm: tuple[float, float]) -> None:
    plane = np.random.default_rng(0).uniform(-1500, 2000, (97, 120))
    small, seen = in_steps(plane, pixel_mm), picture(plane, pixel_mm)
    expected = np.full((32, 32), -1.0)
    source, target = [], []
    for size in small.shape:
        first = max(0, (size - 32) // 2)
        start = max(0, (32 - size) // 2)
        source.append(slice(first, first + 32))
        target.append(slice(start, start + min(size, 32)))
    expected[tuple(target)] = small[tuple(source)]
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_slices_are_transposed() -> None:
    plane = np.full((32, 32), -1000.0)
    plane[3, 20] = 1500
    assert np.unravel_index(picture(plane, (3.5, 3.5)).argmax(), (32, 32)) == (20, 3)


def test_batches_hold_the_slices_asked_for_in_any_memory_order() -> None:
    voxels = np.random.default_rng(0).uniform(-1000, 1500, (11, 40, 40)).astype(np.float32)
    whole = np.concatenate(list(slice_batches(voxels, (3, 3), range(11), MODEL, 11)))
    some = list(slice_batches(voxels[::-1].transpose(0, 2, 1), (3, 3), [0, 4, 6, 9, 10], MODEL, 2))
    assert [len(batch) for batch in some] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate(some), whole[[10, 6, 4, 1, 0]].swapaxes(2, 3), atol=1e-6)
