"""Texture matrices of the IBSI manual's example of four rows, counted by hand, and masks without textures."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.domain.radiomics_settings import TEXTURES, FeatureClass
from orthanc_plugin.radiomics import matrices
from orthanc_plugin.radiomics.matrices import (
    GreyLevels,
    SizeMatrix,
    co_occurrences,
    dependences,
    neighbourhood_differences,
    runs,
    zones,
)
from orthanc_plugin.radiomics.textures import texture_features

EXAMPLE = np.array([[1, 2, 2, 3], [1, 2, 3, 3], [4, 2, 4, 1], [4, 1, 2, 3]], np.int32)


def grey(levels: NDArray[np.int32], mask: NDArray[np.bool_] | None = None) -> GreyLevels:
    levels = levels.reshape((1,) * (3 - levels.ndim) + levels.shape)
    return GreyLevels.of(levels, np.ones(levels.shape, bool) if mask is None else mask, force_2d=True)


def dense(matrix: SizeMatrix) -> list[list[int]]:
    table = np.zeros((int(matrix.level.max()), int(matrix.size.max())), int)
    np.add.at(table, (matrix.level.astype(int) - 1, matrix.size.astype(int) - 1), matrix.count.astype(int))
    return table.tolist()


def test_pairs_along_a_row_are_those_of_the_manual() -> None:
    along_a_row = [[0, 3, 0, 2], [3, 2, 3, 2], [0, 3, 2, 0], [2, 2, 0, 0]]
    counted = np.moveaxis(co_occurrences(grey(EXAMPLE)), 2, 0).tolist()
    assert len(counted) == 4
    assert along_a_row in counted


def test_runs_along_a_row_are_those_of_the_manual() -> None:
    along_a_row, *others = runs(grey(EXAMPLE))
    assert len(others) == 3
    assert dense(along_a_row) == [[4, 0], [3, 1], [2, 1], [3, 0]]


def test_zones_are_those_of_the_manual() -> None:
    assert dense(zones(grey(EXAMPLE))) == [[2, 1, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 1, 0, 0], [1, 1, 0, 0, 0]]


def test_dependences_are_those_of_the_manual() -> None:
    assert dense(dependences(grey(EXAMPLE))) == [[2, 2, 0, 0], [0, 1, 3, 1], [1, 0, 3, 0], [1, 2, 0, 0]]


def test_a_neighbourhood_is_what_of_it_lies_inside() -> None:
    levels, mask = np.array([[[1, 2, 4, 9, 7]]], np.int32), np.array([[[True, True, True, False, True]]])
    counts, differences = neighbourhood_differences(grey(levels, mask))
    assert counts.tolist() == [0, 1, 1, 0, 1, 0, 0, 1]
    assert differences.tolist() == [0, 1, 0.5, 0, 2, 0, 0, 0]


def test_to_ibsi_a_voxel_without_neighbours_has_no_neighbourhood() -> None:
    levels, mask = np.array([[[1, 2, 4, 9, 7]]], np.int32), np.array([[[True, True, True, False, True]]])
    ngtdm = (FeatureClass.NGTDM,)
    alone = texture_features(levels[..., :3], mask[..., :3], ngtdm, ibsi=True)
    assert texture_features(levels, mask, ngtdm, ibsi=True) == alone
    assert texture_features(levels, mask, ngtdm) != alone
    apart = texture_features(levels[..., 2:], mask[..., 2:], ngtdm, ibsi=True)
    assert all(np.isnan(value) for value in apart.values())


@pytest.mark.parametrize("longest", [0, 4])
def test_to_ibsi_a_direction_across_one_slice_has_runs_of_one_voxel(
    longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrices, "_LONG_RUNS", longest)
    inside = np.ones((1, 4, 4), bool)
    pyradiomics, ibsi = (runs(GreyLevels.of(EXAMPLE[None], inside, False, ibsi=ibsi)) for ibsi in (False, True))
    assert [dense(one) for one in ibsi[:4]] == [dense(one) for one in pyradiomics]
    assert [dense(one) for one in ibsi[4:]] == [[[4], [5], [4], [3]]] * 9


def test_long_and_short_runs_are_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    short = [dense(one) for one in runs(grey(EXAMPLE))]
    monkeypatch.setattr(matrices, "_LONG_RUNS", 0)
    assert sorted(dense(one) for one in runs(grey(EXAMPLE))) == sorted(short)


def test_levels_outside_the_mask_and_a_larger_box_change_nothing() -> None:
    levels = np.full((3, 8, 9), 77, np.int32)
    mask = np.zeros(levels.shape, bool)
    levels[1, 2:6, 4:8], mask[1, 2:6, 4:8] = EXAMPLE, True
    alone = texture_features(EXAMPLE[None], np.ones((1, 4, 4), bool), TEXTURES)
    assert texture_features(levels, mask, TEXTURES) == alone


def test_only_the_classes_that_are_asked_for_are_measured() -> None:
    names = texture_features(EXAMPLE[None], np.ones((1, 4, 4), bool), (FeatureClass.SHAPE, FeatureClass.NGTDM))
    assert sorted(names) == [
        f"ngtdm_{name}" for name in ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength")
    ]


def test_voxels_that_do_not_touch_have_no_pairs_but_zones() -> None:
    mask = np.zeros((1, 1, 3), bool)
    mask[..., ::2] = True
    values = texture_features(np.ones(mask.shape, np.int32), mask, TEXTURES)
    assert {name.split("_")[0] for name, value in values.items() if np.isnan(value)} == {"glcm"}
    assert values["glszm_ZonePercentage"] == 1
