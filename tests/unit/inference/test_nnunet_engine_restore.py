"""The way back slice by slice gives the same as resampling a whole volume of class values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, softmax

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Resampling
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.inference.nnunet import restore as module
from orthanc_plugin.inference.nnunet.preprocess import Prepared
from orthanc_plugin.inference.nnunet.restore import Member, restore, taps, way_back
from orthanc_plugin.inference.nnunet.window import Slab
from tests.support.cases.nnunet_case import CONFIGURATION

Field = NDArray[np.float32]
Shape = tuple[int, int, int]


def values(shape: Shape, seed: int = 0) -> Field:
    return np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32)


def slabs(logits: Field) -> Iterator[Slab]:
    """Uneven slabs from one buffer that the next overwrites, as the window gives them."""
    start = 0
    while start < logits.shape[1]:
        buffer = logits[:, start : start + 3 + start % 2].copy()
        yield Slab(start, buffer)
        start += buffer.shape[1]
        buffer[:] = np.nan


def member(logits: Field, out: Shape, framework: Framework = Framework.V2) -> Member:
    z, y, x = (taps(size, wanted, 1) for size, wanted in zip(logits.shape[1:], out, strict=True))
    return Member(slabs(logits), (z, y, x), framework)


def restored(*members: Member, shape: Shape, regions: bool = False) -> Labels:
    out = np.full(shape, 99, np.uint8)
    restore(members, out, regions=regions, threads=2)
    return out


def resized(logits: Field, shape: Shape) -> Field:
    """Order 1 on half-pixel centres, edges continued: what skimage's resize does."""
    zoom = np.divide(shape, logits.shape[1:])
    return np.stack([ndimage.zoom(head, zoom, order=1, mode="nearest", grid_mode=True) for head in logits])


SHAPES = [((7, 11, 9), (12, 150, 20)), ((12, 20, 21), (5, 8, 21)), ((6, 6, 6), (6, 6, 6)), ((2, 9, 1), (1, 9, 4))]


@pytest.mark.parametrize(("working", "shape"), SHAPES)
def test_labels_are_the_highest_of_the_resampled_values(working: Shape, shape: Shape) -> None:
    logits = values(working)
    np.testing.assert_array_equal(restored(member(logits, shape), shape=shape), resized(logits, shape).argmax(0))


def apart(shape: Shape, heads: int) -> Field:
    """Logits of a trained network: each class is sure of one ball, so most bands have few classes that can win."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    random = np.random.default_rng(heads)
    logits = np.full((heads, *shape), -12, np.float32)
    logits[0] = 5 + random.normal(size=shape)
    for head, (cz, cy, cx) in enumerate(random.uniform(0, 1, (heads - 1, 3)) * shape, start=1):
        logits[head] = np.clip(8 - np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2), -12, 5)
    return logits


@pytest.mark.parametrize("shape", [(9, 210, 40), (20, 100, 61)])
@pytest.mark.parametrize("framework", Framework)
def test_classes_that_cannot_win_are_left_out_and_nothing_changes(shape: Shape, framework: Framework) -> None:
    working = (14, 70, 40)
    given = apart(working, 30)
    given = softmax(given, axis=0) if framework is Framework.V1 else given
    out = restored(member(given, shape, framework), shape=shape)
    assert len(np.unique(out)) > 10
    np.testing.assert_array_equal(out, resized(given, shape).argmax(0))


def test_a_slice_of_one_class_is_never_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = module._interpolate
    monkeypatch.setattr(module, "_interpolate", lambda *given: asked.append(given) or real(*given))
    air = np.stack([np.full((4, 8, 8), value, np.float32) for value in (9, -9, -9)])
    assert not restored(member(air, (8, 200, 16)), shape=(8, 200, 16)).any()
    assert not asked


def test_equal_values_give_the_lowest_label() -> None:
    shape = (4, 5, 6)
    assert not restored(member(np.ones((3, *shape), np.float32), shape), shape=shape).any()


@pytest.mark.parametrize("framework", Framework)
def test_regions_are_those_above_one_half(framework: Framework) -> None:
    working, shape = (6, 8, 7), (9, 10, 11)
    logits = values(working)
    given = expit(logits) if framework is Framework.V1 else logits
    out = restored(member(given, shape, framework), shape=shape, regions=True)
    above = resized(given, shape) > (0.5 if framework is Framework.V1 else 0)
    expected = np.where(above[2], 3, np.where(above[1], 2, np.where(above[0], 1, 0)))
    np.testing.assert_array_equal(out, expected)


def test_an_ensemble_averages_probabilities_on_the_image_grid() -> None:
    shape = (9, 70, 11)
    first, second = values((6, 8, 7)), values((9, 20, 5), seed=1)
    out = restored(member(first, shape), member(second, shape), shape=shape)
    mean = softmax(resized(first, shape), axis=0) + softmax(resized(second, shape), axis=0)
    np.testing.assert_array_equal(out, mean.argmax(0))


def test_an_ensemble_of_v1_averages_what_it_is_given() -> None:
    shape = (9, 10, 11)
    first, second = softmax(values((6, 8, 7)), axis=0), softmax(values((9, 20, 5), seed=1), axis=0)
    members = (member(softmax_, shape, Framework.V1) for softmax_ in (first, second))
    out = restored(*members, shape=shape)
    np.testing.assert_array_equal(out, (resized(first, shape) + resized(second, shape)).argmax(0))


def test_labels_may_go_into_a_transposed_part_of_a_volume() -> None:
    logits = values((7, 6, 5))
    volume = np.full((8, 12, 9), 99, np.uint8)
    part = volume[1:6, 2:8, :7].transpose(2, 1, 0)
    restore([member(logits, (7, 6, 5))], part)
    np.testing.assert_array_equal(volume[1:6, 2:8, :7], logits.argmax(0).transpose(2, 1, 0))
    assert (volume[0] == 99).all()


def orders(configuration: Configuration, spacing_mm: tuple[float, float, float]) -> list[bool]:
    """Which network axes take the nearest voxel."""
    target = tuple(float(mm or 0) for mm in configuration.spacing_mm)
    prepared = Prepared(
        data=np.zeros((1, 4, 4, 4), np.float32),
        shape=(9, 9, 9),
        box=(slice(9),) * 3,
        cropped_shape=(9, 9, 9),
        spacing_mm=spacing_mm,
        target_mm=(target[0], target[1], target[2]),
    )
    return [axis.exact for axis in way_back(configuration, prepared)]


def test_a_coarse_axis_takes_the_nearest_slice() -> None:
    coarse = replace(CONFIGURATION, spacing_mm=(5.0, 1.0, 1.0))
    for framework in Framework:
        assert orders(replace(coarse, framework=framework), (5.0, 1.5, 1.5)) == [True, False, False]
        assert orders(replace(coarse, framework=framework), (2.0, 1.5, 1.5)) == [True, False, False]
        assert orders(replace(CONFIGURATION, framework=framework), (2.0, 1.5, 1.5)) == [False, False, False]


def test_v1_asks_the_image_first_and_v2_the_working_grid() -> None:
    both = replace(CONFIGURATION, spacing_mm=(5.0, 1.0, 1.0))
    assert orders(replace(both, framework=Framework.V1), (1.0, 5.0, 1.0)) == [False, True, False]
    assert orders(replace(both, framework=Framework.V2), (1.0, 5.0, 1.0)) == [True, False, False]


def test_the_plans_may_force_or_forbid_it() -> None:
    forced = replace(CONFIGURATION, spacing_mm=(1.5, 1.0, 1.0), output_resampling=Resampling(1, 0, True))
    assert orders(forced, (1.4, 1.0, 1.1)) == [True, False, False]
    never = replace(CONFIGURATION, spacing_mm=(9.0, 1.0, 1.0), output_resampling=Resampling(1, 0, False))
    assert orders(never, (1.4, 1.0, 1.1)) == [False, False, False]


def test_v1_looks_for_the_coarse_axis_before_transposing() -> None:
    """The peer leaves the target's spacing in network order when the image has no coarse axis: so do we."""
    turned = replace(
        CONFIGURATION,
        framework=Framework.V1,
        transpose_forward=(2, 0, 1),
        transpose_backward=(1, 2, 0),
        spacing_mm=(5.0, 1.0, 1.0),
    )
    assert orders(turned, (1.0, 1.0, 5.0)) == [False, False, True]
    assert orders(turned, (1.0, 1.5, 1.5)) == [False, True, False]
